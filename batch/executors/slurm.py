"""Array tasks as Slurm job arrays, with one job after them that heals, aggregates and analyses.

The executor holds no state. What was submitted is in the run's journal and what became of it is asked of Slurm by job
name, so any process on any login node can watch, cancel or complete any run.
"""

from __future__ import annotations

import atexit
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from foreshock.batch.executors.base import TaskReport
from foreshock.batch.executors.slurm_scripts import make_scripts, plan_submission
from foreshock.batch.site import Site
from foreshock.jobs.records.layout import RunLayout
from foreshock.jobs.records.planfile import PlanFile, read_pack
from foreshock.jobs.records.shards import ShardStore
from foreshock.jobs.spec import ArrayTask, JobSpec
from foreshock.slurm.commands import SlurmError, cancel_jobs, ended_jobs, queued_jobs, site_limits
from foreshock.slurm.journal import Journal, Submission
from foreshock.slurm.lock import LauncherLock
from foreshock.slurm.logs import failure_text
from foreshock.slurm.states import JobRecord, JobState
from foreshock.slurm.submit import emit, submit


class SlurmExecutor:
    """Submits, watches and cancels; the work goes on without it."""

    name = "slurm"
    detached = True

    def __init__(self, site: Site) -> None:
        self._site = site
        self._layout: RunLayout | None = None

    def queued(self, layout: RunLayout, plan: PlanFile) -> frozenset[str]:
        """Complete interrupted submissions; then the keys of specs whose jobs are pending or running."""
        self._layout = layout
        self._lock(layout)
        journal = Journal(layout.root)
        submissions = [s for s in journal.load_all() if not journal.cancel_marker(s.token).exists()]
        for submission in submissions:
            if not submission.complete:
                submit(journal, submission, make_scripts(layout, plan, submission))
        alive = {(record.name, record.element) for record in queued_jobs("fs-")} if submissions else set()
        keys: set[str] = set()
        for submission in submissions:
            tasks = _waiting_tasks(submission, alive)
            if tasks:
                pack = read_pack(layout, submission.pack, plan)
                keys |= {spec.key() for task in pack if task.index in tasks for spec in task.specs}
        return frozenset(keys)

    def submit(self, layout: RunLayout, pack: int, tasks: Sequence[ArrayTask]) -> None:
        """Arrays for `tasks`, then the job after them."""
        self._layout = layout
        lock = self._lock(layout)
        plan = PlanFile.read(layout)
        submission = self._plan(pack, tasks)
        submit(Journal(layout.root), submission, make_scripts(layout, plan, submission))
        lock.release()

    def emit(self, layout: RunLayout, pack: int, tasks: Sequence[ArrayTask], folder: Path) -> None:
        """The same as plain scripts in `folder`, for a person to submit with `submit.sh`."""
        plan = PlanFile.read(layout)
        submission = self._plan(pack, tasks)
        emit(Journal(layout.root), submission, make_scripts(layout, plan, submission), folder)

    def poll(self) -> Mapping[int, TaskReport]:
        """The newest pack's tasks."""
        if self._layout is None:
            return {}
        return {r.report.index: r.report for r in task_reports(self._layout, newest_only=True)}

    def cancel(self) -> None:
        """See `cancel_run`."""
        if self._layout is not None:
            cancel_run(self._layout)

    def release(self, layout: RunLayout) -> None:
        """Let other launchers of this run in again, after `queued` without a `submit`."""
        LauncherLock(Journal(layout.root).root / "launcher").release()

    def _lock(self, layout: RunLayout) -> LauncherLock:
        """Two launchers that look at the same time would submit the same work; the lock ends with the process."""
        lock = LauncherLock(Journal(layout.root).root / "launcher")
        lock.acquire()
        atexit.register(lock.release)
        return lock

    def _plan(self, pack: int, tasks: Sequence[ArrayTask]) -> Submission:
        limits = site_limits(self._site.require_slurm().profile)
        rows = sum(spec.n_rows for task in tasks for spec in task.specs)
        return plan_submission(pack, tasks, self._site, limits, self._site.heal, rows)


@dataclass(frozen=True, slots=True)
class SlurmTask:
    """What Slurm and the store say of one array task. `compute_s` sums all its attempts known to accounting."""

    pack: int
    report: TaskReport
    specs: tuple[JobSpec, ...]
    job: str | None
    log: Path | None
    attempts: int
    compute_s: int


def task_reports(layout: RunLayout, *, newest_only: bool = False) -> list[SlurmTask]:
    """Every array task of a run's submissions, oldest pack first, from one squeue and one sacct call.

    Without accounting (or without Slurm at all) a task that is no longer queued is judged by its shards alone.
    """
    journal = Journal(layout.root)
    submissions = journal.load_all()[-1:] if newest_only else journal.load_all()
    if not submissions:
        return []
    try:
        queued = {(r.name, r.element): r for r in queued_jobs("fs-")}
    except SlurmError:
        queued = {}
    names = [job.name for submission in submissions for job in submission.jobs]
    ended: dict[tuple[str, int | None], list[JobRecord]] = {}
    for record in ended_jobs(names, min(s.since for s in submissions)) or []:
        ended.setdefault((record.name, record.element), []).append(record)
    plan, store = PlanFile.read(layout), ShardStore(layout)
    return [task for s in submissions for task in _submission_tasks(layout, plan, store, s, queued, ended)]


def _submission_tasks(
    layout: RunLayout,
    plan: PlanFile,
    store: ShardStore,
    submission: Submission,
    queued: Mapping[tuple[str, int | None], JobRecord],
    ended: Mapping[tuple[str, int | None], list[JobRecord]],
) -> Iterator[SlurmTask]:
    tasks = {task.index: task for task in read_pack(layout, submission.pack, plan)}
    for job in submission.arrays:
        for element, indices in enumerate(job.elements):
            now, past = queued.get((job.name, element)), ended.get((job.name, element), [])
            record = now or (past[-1] if past else None)
            log = _log_file(layout, job.name, record, element)
            for index in indices:
                complete = all(store.is_complete(spec) for spec in tasks[index].specs)
                yield SlurmTask(
                    submission.pack,
                    _report(index, complete, now, past, log),
                    tasks[index].specs,
                    None if record is None else f"{record.job_id}_{element}",
                    log,
                    max(len(past), 1 if record else 0),
                    sum(r.elapsed_s for r in past) // len(indices),
                )


def _report(
    index: int, complete: bool, now: JobRecord | None, past: Sequence[JobRecord], log: Path | None
) -> TaskReport:
    if complete:
        return TaskReport(index, JobState.COMPLETED, 0)
    if now is not None:
        return TaskReport(index, now.state, None, now.reason if now.state is JobState.PENDING else None)
    said = failure_text(log) if log else None
    if past:
        last = past[-1]
        state = last.state
        if state in (JobState.COMPLETED, JobState.PENDING, JobState.RUNNING):
            state = JobState.FAILED  # the job has left the queue and its shards are not whole
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


def _waiting_tasks(submission: Submission, alive: set[tuple[str, int | None]]) -> set[int]:
    return {
        task
        for job in submission.arrays
        for element, tasks in enumerate(job.elements)
        if (job.name, element) in alive
        for task in tasks
    }


def cancel_run(layout: RunLayout) -> list[str]:
    """Take a run's jobs off the queue; running ones finish their batch and leave. Returns the cancelled jobs' names.

    A marker keeps them from requeueing themselves. Raises SlurmError without Slurm.
    """
    journal = Journal(layout.root)
    submissions = journal.load_all()
    names = {job.name: s for s in submissions for job in s.jobs}
    live = sorted({record.name for record in queued_jobs("fs-") if record.name in names})
    for submission in {names[name].token: names[name] for name in live}.values():
        journal.cancel_marker(submission.token).touch()
    cancel_jobs(live)
    return live
