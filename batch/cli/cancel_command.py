"""`foreshock cancel`: a run's Slurm jobs off the queue."""

from __future__ import annotations

from pathlib import Path

import typer

from foreshock.batch.cli.options import ResultsOption, RunDirArgument


def cancel(run_dir: RunDirArgument = None, results_dir: ResultsOption = Path("results")) -> None:
    """Take a run's Slurm jobs off the queue. Running ones finish their batch; `foreshock resume` goes on later.

    Those of `own-reasoning` and `split` on the run are among them; a donor's has a folder of its own.
    Example: foreshock cancel RUN
    """
    from foreshock.batch.earlier_runs import newest_run
    from foreshock.batch.executors.command_job import is_command_job
    from foreshock.batch.executors.slurm import cancel_run
    from foreshock.batch.executors.slurm_command import cancel_command
    from foreshock.jobs.records.layout import RunLayout
    from foreshock.jobs.records.planfile import PlanFile

    layout = RunLayout(run_dir) if run_dir is not None else newest_run(results_dir)
    if is_command_job(layout.root):
        names = cancel_command(layout.root)
    else:
        PlanFile.read(layout)  # refuses what is not a run before anything is asked of Slurm
        names = cancel_run(layout)
        jobs = [folder / "job" for folder in (layout.own_reasoning, layout.splitting)]
        names += [name for folder in jobs if is_command_job(folder) for name in cancel_command(folder)]
    typer.echo(f"cancelled: {', '.join(names)}" if names else "nothing of this run is queued or running")
    typer.echo(f"finished batches are kept; go on with: foreshock resume {layout.root}")
