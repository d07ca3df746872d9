"""A command as one Slurm job: an array of one element, so that preemption, time limits and requeues are those of a run.

As of a run, the job is journaled under a name of its own before sbatch is called, and found again by that name.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from foreshock.batch.executors.command_job import TASK, CommandJob
from foreshock.batch.executors.slurm_scripts import program_on, without_nodes
from foreshock.batch.executors.slurm_work import waiting_notes
from foreshock.batch.site import site_profile
from foreshock.containers.identity import require_signature
from foreshock.errors import InputError
from foreshock.jobs.progress import TaskProgress
from foreshock.jobs.records.layout import RunLayout
from foreshock.slurm.call import SlurmError
from foreshock.slurm.commands import cancel_jobs, ended_jobs, queued_jobs
from foreshock.slurm.jobscript import ArrayScript, render
from foreshock.slurm.journal import Journal, Stage, Submission, new_submission
from foreshock.slurm.lock import LauncherLock
from foreshock.slurm.logs import failure_text
from foreshock.slurm.nodes import nodes_to_exclude
from foreshock.slurm.profile import Profile, stored_profile
from foreshock.slurm.states import JobRecord, JobState
from foreshock.slurm.submit import Scripts, drop, settle
from foreshock.slurm.submit import submit as submit_scripts

LOCK_IS_THE_JOBS = "export FORESHOCK_LOCK_JOB=$fs_id"
"""Locks are taken in the job's name: a requeued job, perhaps on another node, is its own successor."""


@dataclass(frozen=True, slots=True)
class CommandReport:
    """What Slurm, the log and the progress file say. attempts: as far as accounting tells. note: why it waits, or that
    Slurm does not answer. said: the log's last lines after a failure."""

    state: JobState
    job: str | None = None
    node: str | None = None
    attempts: int = 0
    log: Path | None = None
    progress: TaskProgress | None = None
    note: str | None = None
    said: str | None = None

    @property
    def waiting(self) -> bool:
        """Whether a job is queued or runs."""
        return self.state in (JobState.PENDING, JobState.RUNNING)


def command_profile(name: str) -> Profile:
    """The profile of a command's job. Raises InputError for one that is not there or not valid."""
    return site_profile(name)


def job_script(folder: Path, job: CommandJob) -> str:
    """The sbatch file as it would be submitted now."""
    return render(_script(folder, job, _new_submission(folder, job)))


def submit_command(folder: Path, job: CommandJob, before: Callable[[], None] = lambda: None) -> CommandReport:
    """Submit the job, unless it is queued or runs already; then nothing happens and its report comes back.

    A submission that was interrupted is looked for by its name first. `before`: what is done only if it is submitted.
    Raises SlurmError for what sbatch refuses and where Slurm does not answer; InputError while a job with other
    arguments is queued or runs.
    """
    journal = Journal(folder)
    folder.mkdir(parents=True, exist_ok=True)
    lock = LauncherLock(journal.root / "launcher")
    lock.acquire()
    try:
        for submission in journal.load_all():
            if any(part.stage not in (Stage.SUBMITTED, Stage.DROPPED) for part in submission.jobs):
                _settle(journal, submission)
        if _queued(journal):
            _require_same(folder, job)
            return command_report(folder)
        for path in map(Path, job.locks):
            if path.exists() and not (held := LauncherLock(path)).held():
                held.overrule()  # its job is over, which a job inside an image could not find out
        before()
        job.write(folder)
        submission = _new_submission(folder, job)
        submit_scripts(journal, submission, Scripts((_script(folder, job, submission),), None))
    finally:
        lock.release()
    return command_report(folder)


def command_report(folder: Path) -> CommandReport:
    """How the newest submission's job is; UNKNOWN where Slurm does not say and the files do not either."""
    journal, layout = Journal(folder), RunLayout(folder)
    submissions = [s for s in journal.load_all() if s.names]
    if not submissions:
        return CommandReport(JobState.UNKNOWN, note="nothing is submitted")
    newest, note = submissions[-1], None
    try:
        queued = queued_jobs(newest.names)
    except SlurmError as error:
        queued, note = [], f"Slurm does not answer: {error}"
    past = ended_jobs(newest.names, newest.since) or []
    record = queued[0] if queued else past[-1] if past else None
    logs = sorted((layout.logs / "slurm").glob(f"{newest.names[0]}-*.log"))
    progress = TaskProgress.read(layout.progress_file(TASK))
    if progress is not None and progress.pack != newest.pack:
        progress = None
    state = _state(record, progress, bool(queued), note)
    return CommandReport(
        state,
        None if record is None else f"{record.job_id}_{TASK}",
        None if record is None else record.node,
        len(past),
        logs[-1] if logs else None,
        progress,
        note or next(iter(waiting_notes(queued)), None),
        failure_text(logs[-1]) if logs and state.is_final and state is not JobState.COMPLETED else None,
    )


def cancel_command(folder: Path) -> list[str]:
    """Take the job off the queue; a running one finishes its batch and leaves. Returns names. Raises SlurmError."""
    journal = Journal(folder)
    live = []
    for submission in journal.load_all():
        names = sorted({record.name for record in queued_jobs(submission.names)}) if submission.names else []
        if names:
            journal.cancel_marker(submission.token).touch()
        live += names
    cancel_jobs(live)
    return live


def _state(record: JobRecord | None, progress: TaskProgress | None, queued: bool, note: str | None) -> JobState:
    if queued and record is not None:
        return record.state
    told = None if progress is None else progress.state
    if told == "completed":
        return JobState.COMPLETED
    if record is not None and (record.state is not JobState.COMPLETED or told is None):
        return record.state
    if told in ("failed", "stopped"):
        return JobState.FAILED if told == "failed" else JobState.CANCELLED
    return JobState.UNKNOWN if note or record is None else JobState.FAILED


def _queued(journal: Journal) -> list[JobRecord]:
    names = [name for submission in journal.load_all() for name in submission.names]
    return queued_jobs(names) if names else []


def _settle(journal: Journal, submission: Submission) -> None:
    submission = settle(journal, submission)
    for part in submission.jobs:
        if part.stage is Stage.EMITTED:
            submission = drop(journal, submission, part, "the work was submitted anew")
    journal.save(submission)


def _require_same(folder: Path, job: CommandJob) -> None:
    there = CommandJob.read(folder)
    differs = sorted(key for key in job.arguments if job.arguments[key] != there.arguments.get(key))
    if there.command != job.command or differs:
        raise InputError(
            f"a job of `foreshock {there.command}` with other settings is queued or runs ({', '.join(differs)} differ)",
            path=folder,
            fix=f"wait for it, or: foreshock cancel {folder}",
        )


def _new_submission(folder: Path, job: CommandJob) -> Submission:
    profile = without_nodes(command_profile(job.profile), nodes_to_exclude(folder))
    if profile.container is not None and profile.container.verify:
        require_signature(profile.container.image, profile.container.runtime, profile.container.key)
    pack = max((s.pack for s in Journal(folder).load_all()), default=-1) + 1
    settings: dict[str, Any] = {"profile": profile.model_dump(mode="json"), "gpus": profile.gpus}
    made = new_submission(pack, [[[TASK]]], job.profile, 0, settings, run=job.title)
    return replace(made, final=None)


def _script(folder: Path, job: CommandJob, submission: Submission) -> ArrayScript:
    profile: Profile = stored_profile(submission.settings["profile"])
    gpus = submission.settings["gpus"] if job.arguments.get("on_gpu", True) else 0
    arguments = ["-m", "foreshock.batch.as_jobs", str(folder), "--pack", str(submission.pack)]
    arguments += ["--gpus", str(gpus)] if gpus else []
    writable = [Path(path) for path in job.writes]
    writable += [] if any(folder.is_relative_to(path) for path in writable) else [folder]
    program = program_on(profile, sys.executable, tuple(arguments), writable, set(map(Path, job.models)))
    program = replace(program, prelude=(LOCK_IS_THE_JOBS, *program.prelude))
    (array,) = submission.arrays
    return ArrayScript(array.name, submission.token, folder, submission.pack, program, array.elements, profile)
