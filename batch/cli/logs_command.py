"""`foreshock logs`: what the array tasks of a cell wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from foreshock.batch.cli.options import ResultsOption, RunDirArgument


def logs(
    run_dir: RunDirArgument = None,
    cell: Annotated[
        str | None, typer.Argument(help="CHECKPOINT or CHECKPOINT@LEVEL, e.g. checkpoint-64@10; default: all.")
    ] = None,
    attempt: Annotated[int | None, typer.Option("--attempt", min=0, help="Attempt to show; default: the last.")] = None,
    paths: Annotated[bool, typer.Option("--paths", help="Print only the files' paths.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, help="Lines of each attempt.")] = 40,
    final: Annotated[bool, typer.Option("--final", help="The job after the arrays instead.")] = False,
    results_dir: ResultsOption = Path("results"),
) -> None:
    """Show the log of the array tasks that compute a cell: the last attempt of the newest submission.

    Example: foreshock logs RUN checkpoint-40@10
    """
    from foreshock.batch.earlier_runs import newest_run
    from foreshock.batch.executors.command_job import CommandJob, is_command_job
    from foreshock.batch.executors.slurm_command import command_report
    from foreshock.batch.status.logs import final_logs, find_logs
    from foreshock.errors import InputError
    from foreshock.jobs.records.layout import RunLayout
    from foreshock.slurm.logs import read_attempts

    layout = RunLayout(run_dir) if run_dir is not None else newest_run(results_dir)
    if is_command_job(layout.root):
        log = command_report(layout.root).log
        found = [] if log is None else [(CommandJob.read(layout.root).title, log, tuple(read_attempts(log)))]
    elif final:
        found = [(path.stem, path, tuple(read_attempts(path))) for path in final_logs(layout)]
    else:
        tasks = find_logs(layout, cell)
        newest = max((log.pack for log in tasks), default=0)
        tasks = [log for log in tasks if log.pack == newest or cell is None]
        found = [(f"pack {log.pack} task {log.task} {log.state}", log.path, log.attempts) for log in tasks]
    if not found:
        raise InputError("no logs yet", path=layout.logs, fix=f"foreshock status {layout.root}")
    for title, path, attempts in found:
        if paths:
            typer.echo(str(path))
            continue
        chosen = [a for a in attempts if a.number == attempt] if attempt is not None else list(attempts[-1:])
        if attempt is not None and not chosen:
            raise InputError(
                f"no attempt {attempt}; valid: {', '.join(str(a.number) for a in attempts) or 'none'}", path=path
            )
        text = list(chosen[0].lines) if chosen else path.read_text(errors="replace").splitlines()
        where = f", attempt {chosen[0].number} on {chosen[0].node} at {chosen[0].started}" if chosen else ""
        typer.secho(f"== {title}{where}\n== {path}", bold=True)
        typer.echo("\n".join(text[-lines:]))
