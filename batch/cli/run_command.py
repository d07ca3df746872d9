"""`foreshock run`: a whole sweep."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from foreshock.batch.cli.endpoint_options import BaseUrlOption, ServedModelOption
from foreshock.batch.cli.options import JsonOption
from foreshock.batch.cli.result_view import show_result
from foreshock.batch.cli.run_options import (
    AdaptiveOption,
    ClusterOption,
    ConfigArgument,
    KeepInconsistentOption,
    OverridesArgument,
    SensitivityOption,
    SkipAnalysisOption,
    SkipLogprobOption,
    StrictOption,
    WorkersOption,
    configuration,
)


def run(
    config: ConfigArgument = None,
    overrides: OverridesArgument = None,
    sensitivity_run: SensitivityOption = None,
    cluster: ClusterOption = None,
    skip_logprob: SkipLogprobOption = False,
    skip_analysis: SkipAnalysisOption = False,
    workers: WorkersOption = None,
    adaptive: AdaptiveOption = None,
    base_url: BaseUrlOption = None,
    served_model: ServedModelOption = None,
    keep_inconsistent: KeepInconsistentOption = False,
    strict: StrictOption = None,
    run_dir: Annotated[
        Path | None, typer.Option("--run-dir", help="Directory of the new run; default: a dated one in results/.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything and show the plan; start nothing.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Run a sweep: checkpoints x prefill levels, sampled, verified, scored, aggregated, analysed, reported.

    Interrupt it with Ctrl-C at any time; `foreshock resume` goes on from the last finished batch.
    `foreshock analyse RUN` analyses a run that is there and samples nothing.

    Example: foreshock run sweep.yaml sampling.attempts=5 'prefill.levels=[0,10]'
    """
    from foreshock.batch.cli.display import hooks
    from foreshock.batch.cli.plan_view import show_plan
    from foreshock.batch.running.run import command_line, require_complete
    from foreshock.batch.running.run import run as run_sweep

    settings = configuration(
        config,
        overrides or [],
        sensitivity_run,
        cluster,
        skip_logprob,
        skip_analysis,
        workers,
        adaptive,
        base_url,
        served_model,
        keep_inconsistent,
        strict,
    )
    if dry_run:
        show_plan(settings, as_json)
        return
    result = run_sweep(settings, command_line(), hooks(), run_dir)
    show_result(result, as_json)
    require_complete(result)
