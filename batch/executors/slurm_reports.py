"""What Slurm and the store say of every array task of a run: for status, logs, and people."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from foreshock.batch.executors.base import TaskReport
from foreshock.batch.executors.slurm_work import waiting_notes
from foreshock.jobs.records.layout import RunLayout
from foreshock.jobs.records.planfile import PlanFile, read_pack
from foreshock.jobs.records.shards import ShardStore
from foreshock.jobs.records.spec import JobSpec
from foreshock.slurm.call import SlurmError
from foreshock.slurm.commands import ended_jobs, queued_jobs
from foreshock.slurm.journal import Journal, JournaledJob, Stage, Submission
from foreshock.slurm.logs import failure_text
from foreshock.slurm.nodes import bad_nodes
from foreshock.slurm.profile import stored_profile
from foreshock.slurm.states import JobRecord, JobState

_Key = tuple[str, int | None]
_LOST = frozenset({JobState.FAILED, JobState.NODE_FAIL, JobState.OUT_OF_MEMORY})


@dataclass(frozen=True, slots=True)
class SlurmTask:
    """What Slurm and the store say of one array task.

    Of its attempts known to accounting, `compute_s` sums all, `lost_s` those that failed, `waited_s` their time in the
    queue.
    """

    pack: int
    report: TaskReport
    specs: tuple[JobSpec, ...]
    job: str | None
    log: Path | None
    attempts: int
    compute_s: int
    lost_s: int = 0
    waited_s: int = 0


@dataclass(frozen=True, slots=True)
class Hours:
    """GPU hours of all attempts, GPU hours of those that failed, and hours that attempts waited in the queue."""

    gpu: float
    lost: float
    queued: float


def hours_used(layout: RunLayout, tasks: Sequence[SlurmTask]) -> Hours | None:
    """By accounting; None if it knows of no attempt. A job without GPUs counts as one."""
    if not any(task.compute_s for task in tasks):
        return None
    gpus = {s.pack: stored_profile(s.settings["profile"]).gpus or 1 for s in Journal(layout.root).load_all()}
    return Hours(
        gpu=sum(task.compute_s * gpus.get(task.pack, 1) for task in tasks) / 3600,
        lost=sum(task.lost_s * gpus.get(task.pack, 1) for task in tasks) / 3600,
        queued=sum(task.waited_s for task in tasks) / 3600,
    )


@dataclass(frozen=True, slots=True)
class SlurmReport:
    """All tasks, oldest pack first. `waiting`: a job of the run is queued or runs; `notes`: what a user should know."""

    tasks: list[SlurmTask] = field(default_factory=list)
    waiting: bool = False
    notes: list[str] = field(default_factory=list)


IsComplete = Callable[[JobSpec], bool]


def task_reports(layout: RunLayout, *, newest_only: bool = False, is_complete: IsComplete | None = None) -> SlurmReport:
    """Every array task of a run's submissions, from one squeue and one sacct call.

    Without accounting a task that is no longer queued is judged by its shards alone. Where Slurm does not answer at
    all, what is not whole is UNKNOWN, and a note says so. `is_complete`: who knows of shards; by default the store.
    """
    journal = Journal(layout.root)
    submissions = journal.load_all()[-1:] if newest_only else journal.load_all()
    if not submissions:
        return SlurmReport()
    names = [name for submission in submissions for name in submission.names]
    notes: list[str] = []
    queued: dict[_Key, JobRecord] | None = None
    records: list[JobRecord] = []
    try:
        records = queued_jobs(names)
        queued = {(record.name, record.element): record for record in records}
    except SlurmError as error:
        notes.append(f"Slurm does not answer, so this is what the run's own files say: {error}")
    ended: dict[_Key, list[JobRecord]] = {}
    for record in ended_jobs(names, min(s.since for s in submissions)) or []:
        ended.setdefault((record.name, record.element), []).append(record)
    plan, whole = PlanFile.read(layout), is_complete or ShardStore(layout).is_complete
    tasks = [task for s in submissions for task in _submission_tasks(layout, plan, whole, s, queued, ended)]
    notes += waiting_notes(records)
    notes += _open_ends(journal, submissions, records)
    notes += [f"node {node}" for node in bad_nodes(layout.root)]
    return SlurmReport(tasks, bool(records), notes)


def _open_ends(journal: Journal, submissions: Sequence[Submission], records: Sequence[JobRecord]) -> list[str]:
    """Submissions that did not go through, and what Slurm said."""
    resume = f"foreshock resume {journal.root.parent}"
    alive = {record.name for record in records}
    notes = []
    for submission in submissions:
        waiting = journal.root / f"waiting-{submission.token}"
        if waiting.is_file() and submission.final is not None and submission.final.name in alive:
            said = waiting.read_text(errors="replace").strip().splitlines()[-1:]
            notes.append(f"the last job tries again to submit what is missing: {''.join(said)}")
        refused = [job for job in submission.jobs if job.stage is Stage.DROPPED and job.why and "sbatch" in job.why]
        if refused and submission is submissions[-1]:
            notes.append(f"{refused[0].name} was refused: {refused[0].why}\n  -> correct the profile, then: {resume}")
        elif not submission.complete and submission is submissions[-1]:
            notes.append(f"the newest submission is half done -> {resume}")
    return notes


def _submission_tasks(
    layout: RunLayout,
    plan: PlanFile,
    is_complete: IsComplete,
    submission: Submission,
    queued: Mapping[_Key, JobRecord] | None,
    ended: Mapping[_Key, list[JobRecord]],
) -> Iterator[SlurmTask]:
    tasks = {task.index: task for task in read_pack(layout, submission.pack, plan)}
    for job in submission.arrays:
        if job.stage is Stage.DROPPED or (
            job.stage is Stage.EMITTED and not _was_submitted(layout, job, queued, ended)
        ):
            continue
        for element, indices in enumerate(job.elements):
            now, past = (queued or {}).get((job.name, element)), ended.get((job.name, element), [])
            record = now or (past[-1] if past else None)
            log = _log_file(layout, job.name, record, element)
            for index in indices:
                complete = all(is_complete(spec) for spec in tasks[index].specs)
                yield SlurmTask(
                    submission.pack,
                    _report(index, complete, now, past, log, silent=queued is None),
                    tasks[index].specs,
                    None if record is None else f"{record.job_id}_{element}",
                    log,
                    max(len(past), 1 if record else 0),
                    sum(r.elapsed_s for r in past) // len(indices),
                    sum(r.elapsed_s for r in past if r.state in _LOST) // len(indices),
                    sum(r.waited_s for r in past) // len(indices),
                )


def _was_submitted(
    layout: RunLayout,
    job: JournaledJob,
    queued: Mapping[_Key, JobRecord] | None,
    ended: Mapping[_Key, list[JobRecord]],
) -> bool:
    """Whether scripts that were handed out came to anything: a job in Slurm, or a log."""
    elements = [(job.name, number) for number in range(len(job.elements))]
    if any(key in ended or key in (queued or {}) for key in elements):
        return True
    return next((layout.logs / "slurm").glob(f"{job.name}-*.log"), None) is not None


def _report(
    index: int, complete: bool, now: JobRecord | None, past: Sequence[JobRecord], log: Path | None, *, silent: bool
) -> TaskReport:
    if complete:
        return TaskReport(index, JobState.COMPLETED, 0)
    if now is not None:
        return TaskReport(index, now.state, None, now.reason if now.state is JobState.PENDING else None)
    if silent and (not past or not past[-1].state.is_final):
        return TaskReport(index, JobState.UNKNOWN, None, "Slurm does not answer")
    said = failure_text(log) if log else None
    if past:
        last = past[-1]
        state = last.state
        if state is JobState.COMPLETED or not state.is_final:
            state = JobState.FAILED  # the job has left the queue and its shards are not whole
            if last.state is JobState.UNKNOWN:
                said = "\n".join(filter(None, (f"Slurm's state: {last.said}", said)))
        if last.node and said and state is not JobState.COMPLETED:
            said = f"on {last.node}: {said}"
        return TaskReport(index, state, last.exit_code, said)
    return TaskReport(index, JobState.FAILED, None, said or "Slurm does not know this job (any more)")


def _log_file(layout: RunLayout, name: str, record: JobRecord | None, element: int) -> Path | None:
    folder = layout.logs / "slurm"
    if record is not None:
        path = folder / f"{name}-{record.job_id}_{element}.log"
        # squeue and sacct may give the element's own job id; the log is named by the array's
        if path.is_file():
            return path
    found = sorted(folder.glob(f"{name}-*_{element}.log"))
    return found[-1] if found else None
