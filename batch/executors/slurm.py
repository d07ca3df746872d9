"""Array tasks as Slurm job arrays, with one job after them that heals, aggregates and analyses.

The executor holds no state. What was submitted is in the run's journal and what became of it is asked of Slurm by job
name, so any process on any login node can watch, cancel or complete any run.
"""

from __future__ import annotations

import atexit
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from foreshock.batch.executors.base import TaskReport
from foreshock.batch.executors.budget import require_budget
from foreshock.batch.executors.slurm_reports import task_reports
from foreshock.batch.executors.slurm_scripts import current_settings, make_scripts, plan_submission
from foreshock.batch.executors.slurm_work import AFTER, waiting_keys, waiting_notes
from foreshock.batch.site import Site
from foreshock.jobs.records.layout import RunLayout, run_prefix
from foreshock.jobs.records.planfile import PlanFile
from foreshock.jobs.records.spec import ArrayTask
from foreshock.slurm.commands import cancel_jobs, queued_jobs, site_limits
from foreshock.slurm.journal import Journal, Stage, Submission, final_again
from foreshock.slurm.lock import LauncherLock
from foreshock.slurm.nodes import nodes_to_exclude
from foreshock.slurm.submit import drop, emit, settle, submit


class SlurmExecutor:
    """Submits, watches and cancels; the work goes on without it."""

    name = "slurm"
    detached = True

    def __init__(self, site: Site) -> None:
        self._site = site
        self._layout: RunLayout | None = None
        self.notes: list[str] = []

    def queued(self, layout: RunLayout, plan: PlanFile) -> frozenset[str]:
        """Keys of specs that jobs of this run are still going to do; `notes` then says what those jobs wait for.

        First sees to submissions that were interrupted or refused: what Slurm has of them stays, with a last job of
        its own; the rest is dropped, to be planned anew. Raises SlurmError when Slurm does not answer.
        """
        self._layout = layout
        self._lock(layout)
        journal = Journal(layout.root)
        submissions = self._settled(layout, plan, journal)
        records = queued_jobs(name for submission in submissions for name in submission.names)
        self.notes = waiting_notes(records)
        return waiting_keys(layout, plan, submissions, records)

    def submit(self, layout: RunLayout, pack: int, tasks: Sequence[ArrayTask]) -> None:
        """Arrays for `tasks`, then the job after them. Raises SlurmError for what sbatch refuses."""
        self._layout = layout
        lock = self._lock(layout)
        plan = PlanFile.read(layout)
        submission = self._plan(layout, pack, tasks)
        submit(Journal(layout.root), submission, make_scripts(layout, plan, submission))
        lock.release()

    def emit(self, layout: RunLayout, pack: int, tasks: Sequence[ArrayTask], folder: Path) -> None:
        """The same as plain scripts in `folder`, for a person to submit with `submit.sh`."""
        plan = PlanFile.read(layout)
        submission = self._plan(layout, pack, tasks)
        emit(Journal(layout.root), submission, make_scripts(layout, plan, submission), folder)

    def poll(self) -> Mapping[int, TaskReport]:
        """The newest pack's tasks."""
        if self._layout is None:
            return {}
        return {r.report.index: r.report for r in task_reports(self._layout, newest_only=True).tasks}

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

    def _settled(self, layout: RunLayout, plan: PlanFile, journal: Journal) -> list[Submission]:
        submissions = [s for s in journal.load_all() if not journal.cancel_marker(s.token).exists()]
        if not any(_is_open(submission) for submission in submissions):
            return submissions
        finals = {s.final.name: s.token for s in submissions if s.final is not None}
        alive = {finals[record.name] for record in queued_jobs(finals)}
        settled = []
        for submission in submissions:
            if _is_open(submission) and submission.settings.get(AFTER) not in alive:
                settled.append(self._settle(layout, plan, journal, submission))
            else:  # settled already, or that last job is about to submit it
                settled.append(submission)
        return settled

    def _settle(self, layout: RunLayout, plan: PlanFile, journal: Journal, submission: Submission) -> Submission:
        submission = settle(journal, submission)
        for job in submission.jobs:  # scripts that nobody submitted: they leave at once if somebody does so later
            if job.stage is Stage.EMITTED:
                submission = drop(journal, submission, job, "the work was planned anew")
        journal.save(submission)
        accepted = any(job.stage is Stage.SUBMITTED for job in submission.arrays)
        if not accepted or submission.final is None or submission.final.stage is not Stage.DROPPED:
            return submission
        settings = submission.settings | current_settings(self._site, nodes_to_exclude(layout.root))
        submission = replace(submission, final=final_again(submission), settings=settings)
        return submit(journal, submission, make_scripts(layout, plan, submission))

    def _plan(self, layout: RunLayout, pack: int, tasks: Sequence[ArrayTask]) -> Submission:
        limits = site_limits(self._site.require_slurm().profile)
        require_budget(layout, self._site, tasks)
        rows = sum(spec.n_rows for task in tasks for spec in task.specs)
        name, exclude = run_prefix(layout.name), nodes_to_exclude(layout.root)
        return plan_submission(pack, tasks, self._site, limits, self._site.heal, rows, name, exclude)


def _is_open(submission: Submission) -> bool:
    """Whether Slurm has to be asked what became of it: half submitted, handed out, or without its last job."""
    if any(job.stage not in (Stage.SUBMITTED, Stage.DROPPED) for job in submission.jobs):
        return True
    accepted = any(job.stage is Stage.SUBMITTED for job in submission.arrays)
    return accepted and submission.final is not None and submission.final.stage is Stage.DROPPED


def cancel_run(layout: RunLayout) -> list[str]:
    """Take a run's jobs off the queue; running ones finish their batch and leave. Returns the cancelled jobs' names.

    A marker keeps them from requeueing themselves. Raises SlurmError without Slurm.
    """
    journal = Journal(layout.root)
    submissions = journal.load_all()
    names = {name: s for s in submissions for name in s.names}
    live = sorted({record.name for record in queued_jobs(names)})
    for submission in {names[name].token: names[name] for name in live}.values():
        journal.cancel_marker(submission.token).touch()
    cancel_jobs(live)
    return live
