"""Commands that a Slurm job can do from beginning to end: their options, and what is shown of their jobs."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from foreshock.batch.cli.options import one_of

if TYPE_CHECKING:
    from foreshock.batch.config import Cluster, ExecutionConfig
    from foreshock.batch.executors.command_job import CommandJob
    from foreshock.batch.executors.slurm_command import CommandReport
    from foreshock.batch.on_runs.opened import OpenedRun

JobClusterOption = Annotated[
    str | None,
    typer.Option("--cluster", help="slurm: as a job; local, inline: in this process. Default: execution.cluster."),
]
JobProfileOption = Annotated[
    str | None,
    typer.Option("--profile", help="Slurm profile: a shipped name or a YAML file. Default: execution.profile."),
]


def as_slurm_job(cluster: str | None, execution: ExecutionConfig) -> bool:
    """Whether a command is to be a job: as its option says, else as the configuration does."""
    from foreshock.batch.config import Cluster

    chosen: Cluster = execution.cluster if cluster is None else one_of("--cluster", cluster, Cluster)
    return chosen is Cluster.SLURM


def profile_name(given: str | None, execution: ExecutionConfig) -> str:
    """The profile of a command's job; a file's path is absolute."""
    from foreshock.batch.site import DEFAULT_PROFILE
    from foreshock.slurm.profile import shipped_profiles

    if given is not None and given not in shipped_profiles():
        return str(Path(given).expanduser().absolute())
    return given or execution.profile or DEFAULT_PROFILE


def job_of_run(
    opened: OpenedRun,
    command: str,
    arguments: dict[str, Any],
    lock: Path,
    checkpoints: list[str] | None,
    force: bool,
    cluster: str | None,
    profile: str | None,
) -> CommandJob | None:
    """A further measurement of a run as a job; None where it is to be made in this process."""
    from foreshock.batch.as_jobs.work import SPLIT
    from foreshock.batch.config_file import load_config
    from foreshock.batch.executors.command_job import CommandJob
    from foreshock.batch.site import resolve_site

    config = load_config(opened.layout.config)
    if not as_slurm_job(cluster, config.execution):
        return None
    root = opened.layout.root.absolute()
    models = {str(path) for spec in opened.specs for path in (spec.checkpoint.path, spec.checkpoint.tokenizer_path)}
    common = {"run": str(root), "checkpoints": checkpoints or [], "force": force}
    every = {**common, **arguments, "on_gpu": resolve_site(config).uses_gpus}
    return CommandJob(
        command,
        json.loads(json.dumps(every)),  # as they are read back, so that two can be compared: tuples are lists there
        f"{command}-{root.name}",
        "repeats" if command == SPLIT else "continuations",
        profile_name(profile, config.execution),
        models=tuple(sorted(models)),
        writes=(str(root),),
        locks=(str(lock.absolute()),),
    )


def show_script(folder: Path, job: CommandJob) -> None:
    """The job that would be submitted."""
    from foreshock.batch.executors.slurm_command import job_script

    typer.echo(f"\n# the job, in {folder}\n{job_script(folder, job)}")


def submit_and_show(folder: Path, job: CommandJob, as_json: bool, before: Callable[[], None] = lambda: None) -> None:
    """Submit, after `before`, unless it is queued or runs; and say how it is."""
    from foreshock.batch.cli.display import say
    from foreshock.batch.executors.slurm_command import submit_command

    if os.environ.get("SLURM_JOB_ID") and not as_json:
        say("submitting from inside a job; to work in this one instead: --cluster inline")
    report = submit_command(folder, job, before)
    _show(folder, job, report, as_json)


def resubmit(folder: Path, as_json: bool) -> None:
    """The job of a folder once more, with the profile as it is now."""
    from foreshock.batch.executors.command_job import CommandJob

    submit_and_show(folder, CommandJob.read(folder), as_json)


def show_job(folder: Path, as_json: bool) -> None:
    """How a command's job is."""
    from foreshock.batch.executors.command_job import CommandJob
    from foreshock.batch.executors.slurm_command import command_report

    _show(folder, CommandJob.read(folder), command_report(folder), as_json)


def _show(folder: Path, job: CommandJob, report: CommandReport, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"folder": str(folder), **_document(job, report)}, indent=2))
        return
    for line in _lines(folder, job, report):
        typer.echo(line)


def _document(job: CommandJob, report: CommandReport) -> dict[str, Any]:
    now = report.progress
    return {
        "command": job.command,
        "state": report.state.value,
        "job": report.job,
        "node": report.node,
        "attempts": report.attempts,
        "unit": job.unit,
        "done": None if now is None else now.rows_done,
        "total": None if now is None else now.rows_total,
        "doing": None if now is None else now.doing,
        "log": None if report.log is None else str(report.log),
        "note": report.note,
        "said": report.said,
    }


def _lines(folder: Path, job: CommandJob, report: CommandReport) -> list[str]:
    now = report.progress
    where = f" on {report.node}" if report.node and report.state.value == "RUNNING" else ""
    done = f", {now.rows_done} of {now.rows_total} {job.unit}" if now is not None and now.rows_total else ""
    lines = [f"{job.command}, {job.title}: {report.state.value.lower()}{where} (job {report.job or '?'}){done}"]
    lines += [now.doing] if now is not None and now.doing and report.waiting else []
    lines += [report.note] if report.note else []
    lines += [f"failed: {report.said}"] if report.said else []
    lines += [f"log: {report.log}"] if report.log else []
    if report.waiting:
        lines.append(f"follow it: foreshock status {folder}; stop it: foreshock cancel {folder}")
    elif report.state.value == "COMPLETED":
        lines.append("the same command shows what came of it")
    else:
        lines.append(f"go on: foreshock resume {folder}, or the same command again")
    return lines
