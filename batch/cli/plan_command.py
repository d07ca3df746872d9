"""`foreshock plan`: what a run would do."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from foreshock.batch.cli.endpoint_options import BaseUrlOption, ServedModelOption
from foreshock.batch.cli.options import JsonOption
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


def plan(
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
    emit_sbatch: Annotated[
        Path | None,
        typer.Option(
            "--emit-sbatch",
            help="Make the run directory and write plain sbatch scripts and submit.sh into this folder, "
            "to inspect and submit by hand.",
        ),
    ] = None,
    calibrate: Annotated[
        bool,
        typer.Option("--calibrate", help="First run a short job of this plan (one checkpoint, two levels) to measure."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what a run would do: cells, rows, array tasks, skipped problems and estimated time. Starts nothing.

    Times come from what earlier runs in the same results directory measured with models of about this size, else from
    the Slurm profile's guesses, scaled to the model; the last line says which.

    Example: foreshock plan sweep.yaml --cluster slurm --calibrate
    """
    from foreshock.batch.cli.plan_view import show_plan

    where = "slurm" if emit_sbatch else cluster
    settings = configuration(
        config,
        overrides or [],
        sensitivity_run,
        where,
        skip_logprob,
        skip_analysis,
        workers,
        adaptive,
        base_url,
        served_model,
        keep_inconsistent,
        strict,
    )
    if calibrate:
        from foreshock.batch.cli.display import hooks
        from foreshock.batch.running.calibrate import calibrate as measure
        from foreshock.batch.running.run import command_line

        measure(settings, command_line(), hooks(), lambda text: typer.echo(text, err=True))
    show_plan(settings, as_json)
    if emit_sbatch is not None:
        from foreshock.batch.running.emit import emit_run
        from foreshock.batch.running.run import command_line

        layout = emit_run(settings, command_line(), emit_sbatch)
        typer.echo(f"run:    {layout.root}\nsubmit: bash {emit_sbatch / 'submit.sh'}", err=as_json)
