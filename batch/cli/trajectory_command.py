"""`foreshock trajectory`: min prefill and accessibility over training, also of files that other tools wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from foreshock.batch.cli.analysis_folders import results_of, run_context
from foreshock.batch.cli.analysis_options import (
    AttemptsOption,
    FiguresOption,
    IntentionalOption,
    RunContextOption,
    ThresholdOption,
    newest_run,
)
from foreshock.batch.cli.options import JsonOption
from foreshock.batch.cli.tell import tell_notes

if TYPE_CHECKING:
    from foreshock.analysis.trajectory import TrajectoryRun


def trajectory(
    run_dir: Annotated[
        Path | None, typer.Option("--run-dir", help="Run directory; default: the newest under results/.")
    ] = None,
    output_dir: Annotated[
        Path | None,
        typer.Option("--output-dir", help="Where to write; default: results/trajectory_analysis/RUN."),
    ] = None,
    threshold: ThresholdOption = 10,
    attempts: AttemptsOption = None,
    intentional: IntentionalOption = "current",
    use_run_context: RunContextOption = False,
    figures: FiguresOption = True,
    as_json: JsonOption = False,
) -> None:
    """Min prefill, accessibility and time to threshold of every task, for all and for intentional exploits.

    Example: foreshock trajectory --run-dir RUN
    """
    from foreshock.analysis.trajectory import TrajectoryOptions, run_trajectory
    from foreshock.jobs.records.exploit_types import intentional_types
    from foreshock.jobs.records.layout import ResultsLayout

    run_dir = run_dir or newest_run()
    results = results_of(run_dir)
    options = TrajectoryOptions(threshold=threshold, attempts=attempts, intentional=intentional_types(intentional))
    if use_run_context:
        settings = {"run_dir": str(run_dir), "threshold": threshold, "attempts": attempts, "intentional": intentional}
        with run_context(results, output_dir, "trajectory_analysis", settings) as context:
            target = context / "trajectory"
            done = run_trajectory(run_dir, target, options, figures)
    else:
        target = output_dir or ResultsLayout(results).trajectory(run_dir.resolve().name)
        done = run_trajectory(run_dir, target, options, figures)
    _say_trajectory(done, target, as_json)


def _say_trajectory(done: TrajectoryRun, target: Path, as_json: bool) -> None:
    if as_json:
        document = {"output_dir": str(target), "notes": list(done.notes), **done.summary}
        typer.echo(json.dumps(document, indent=2))
        return
    for name, summary in done.summary.items():
        if summary is None:
            typer.echo(f"{name}: no task of this kind")
            continue
        typer.echo(
            f"{name}: {summary['n_tasks_reaching_threshold']} of {summary['n_tasks']} tasks reach the threshold of "
            f"{summary['threshold']} words; attempts per level: {summary['attempts_per_level']}"
        )
    tell_notes(done.notes)
    typer.echo(f"written: {target}")
