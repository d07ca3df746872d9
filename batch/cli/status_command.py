"""`foreshock status`: how far a run is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from foreshock.batch.cli.options import JsonOption, ResultsOption, RunDirArgument


def status(
    run_dir: RunDirArgument = None,
    watch: Annotated[bool, typer.Option("--watch", help="Refresh until the run ends.")] = False,
    results_dir: ResultsOption = Path("results"),
    as_json: JsonOption = False,
) -> None:
    """Show how far a run is: every checkpoint x level, rows per second, exploit rate so far.

    Example: foreshock status --watch
    """
    from foreshock.batch.cli.command_jobs import show_job
    from foreshock.batch.cli.status_view import show_status, watch_status
    from foreshock.batch.earlier_runs import newest_run
    from foreshock.batch.executors.command_job import is_command_job
    from foreshock.batch.status.read import read_status
    from foreshock.jobs.records.layout import RunLayout

    layout = RunLayout(run_dir) if run_dir is not None else newest_run(results_dir)
    if is_command_job(layout.root):
        show_job(layout.root, as_json)
    elif as_json:
        typer.echo(json.dumps(read_status(layout).to_json(), indent=2))
    elif watch:
        watch_status(layout)
    else:
        show_status(layout)
