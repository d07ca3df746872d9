"""Carry out a plan: pack what is missing, run it, look again, until all is there or nothing more comes.

"done" is asked of the store before and after every round. Executors report states only for people to read; a round
that added no row ends the attempt instead of looping.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from foreshock.batch.executors.base import Executor, TaskReport
from foreshock.batch.executors.factory import make_executor
from foreshock.batch.packing.measured import pack_tasks
from foreshock.batch.site import Site
from foreshock.errors import StopRequestedError
from foreshock.jobs.progress import TaskProgress
from foreshock.jobs.records.layout import RunLayout
from foreshock.jobs.records.planfile import PlanFile, write_pack
from foreshock.jobs.records.shards import ShardStore
from foreshock.jobs.records.spec import ArrayTask, JobSpec

_POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class Snapshot:
    """How far a run is, for a progress display. Rows of unfinished shards are included."""

    rows_done: int
    rows_total: int
    exploits: int
    doing: tuple[str, ...]


@dataclass
class Execution:
    """How it went. `submitted` means that the work goes on elsewhere; `missing` are specs without a whole shard."""

    missing: list[JobSpec] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    submitted: bool = False
    rounds: int = 0
    notes: list[str] = field(default_factory=list)
    """What submitted work waits for."""


OnSnapshot = Callable[[Snapshot], None]


def missing_specs(layout: RunLayout, plan: PlanFile, specs: Sequence[JobSpec] | None = None) -> list[JobSpec]:
    """Specs (of `specs`, else of the plan) whose shard is absent, damaged or has error rows."""
    store = ShardStore(layout)
    return [spec for spec in (plan.specs if specs is None else specs) if not store.is_complete(spec)]


def execute(
    layout: RunLayout,
    plan: PlanFile,
    site: Site,
    on_snapshot: OnSnapshot = lambda _: None,
    specs: Sequence[JobSpec] | None = None,
) -> Execution:
    """Run everything that is missing, of `specs` if given.

    Raises StopRequestedError on Ctrl-C, with finished batches on disk.
    """
    outcome = Execution()
    executor = make_executor(site)
    before: int | None = None
    while outcome.rounds <= site.heal:
        queued = executor.queued(layout, plan)
        outcome.submitted = bool(queued)
        outcome.notes = executor.notes
        missing = [spec for spec in missing_specs(layout, plan, specs) if spec.key() not in queued]
        n_missing = sum(spec.n_rows for spec in missing)
        if not missing or n_missing == before:
            if outcome.submitted:
                return outcome
            break
        before = n_missing
        tasks = pack_tasks(missing, site, layout, plan)
        number = write_pack(layout, tasks)
        executor.submit(layout, number, tasks)
        outcome.rounds += 1
        if executor.detached:
            outcome.submitted = True
            return outcome
        outcome.failures = _wait(executor, layout, plan, tasks, n_missing, on_snapshot)
    outcome.missing = missing_specs(layout, plan, specs)
    return outcome


def _wait(
    executor: Executor,
    layout: RunLayout,
    plan: PlanFile,
    tasks: list[ArrayTask],
    n_missing: int,
    on_snapshot: OnSnapshot,
) -> list[str]:
    """Poll until every task has ended; returns what went wrong, one text a failed task."""
    total = sum(spec.n_rows for spec in plan.specs)
    started = time.time()
    try:
        while True:
            reports = executor.poll()
            on_snapshot(_snapshot(layout, tasks, total, total - n_missing, started))
            if all(report.state.is_final for report in reports.values()):
                return [text for report in reports.values() if (text := _failure(layout, report))]
            time.sleep(_POLL_S)
    except KeyboardInterrupt:
        executor.cancel()
        raise StopRequestedError(
            f"interrupted; finished batches are kept\n  -> foreshock resume {layout.root} goes on from here"
        ) from None


def _snapshot(layout: RunLayout, tasks: list[ArrayTask], total: int, before: int, started: float) -> Snapshot:
    done, exploits, doing = before, 0, []
    for task in tasks:
        progress = TaskProgress.read(layout.progress_file(task.index))
        if progress is None or progress.updated < started:
            continue
        done += progress.rows_done
        exploits += progress.exploits
        if progress.state in ("starting", "running"):
            doing.append(progress.doing)
    return Snapshot(min(done, total), total, exploits, tuple(doing))


def _failure(layout: RunLayout, report: TaskReport) -> str | None:
    if report.exit_code in (0, None):
        return None
    progress = TaskProgress.read(layout.progress_file(report.index))
    said = progress.message if progress is not None and progress.message else report.detail
    return f"task {report.index} ended with {report.state.value} (exit code {report.exit_code}): {said or 'no message'}"
