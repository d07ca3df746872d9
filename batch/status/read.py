"""How far a run is, read from its store: works during the run, after it, and after a crash.

Counts come from shards and parts, the truth on disk; progress files only add what moves (rate, what is being done
now).
"""

from __future__ import annotations

import gc
import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from foreshock.batch.executors.slurm_reports import hours_used
from foreshock.batch.status.document import CellStatus, RunStatus, status_document, unread_notes
from foreshock.batch.status.of_slurm import cell_states, slurm_report
from foreshock.batch.status.of_slurm import failures as slurm_failures
from foreshock.batch.status.of_tables import has_tables, status_of_tables
from foreshock.batch.status.sealed import SealedShards
from foreshock.batch.status.tables_there import table_notes
from foreshock.batch.status.watched import watch_lock
from foreshock.errors import InputError
from foreshock.jobs.progress import TaskProgress
from foreshock.jobs.records.behaviour import alarms as behaviour_alarms
from foreshock.jobs.records.behaviour import behaviour_of_run
from foreshock.jobs.records.layout import ResultsLayout, RunLayout, shard_folder_name
from foreshock.jobs.records.planfile import PlanFile
from foreshock.jobs.records.ran_records import deviating_shards, planned_by
from foreshock.jobs.records.sealed_log import Sealed
from foreshock.jobs.records.shards import count_part_rows
from foreshock.jobs.records.spec import SAMPLED_KINDS, JobKind, JobSpec

_STALE_S = 60.0

_Cells = dict[tuple[str, str, int | None], CellStatus]
_Counts = Counter[str | None]


def read_status(layout: RunLayout) -> RunStatus:
    """Read a run's state; of another tool's run, what its tables hold. Raises InputError if there is neither."""
    if has_tables(layout):
        return status_of_tables(layout)
    with _without_collector():
        return _read_planned(layout)


@contextmanager
def _without_collector() -> Iterator[None]:
    """A large run's status is hundreds of thousands of objects and no cycle: looking for some takes a third more."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _read_planned(layout: RunLayout) -> RunStatus:
    plan = PlanFile.read(layout)
    sealed = SealedShards(layout)
    cells, commits, ran = _cells(layout, plan, sealed)
    live, failures = _tasks(layout)
    slurm = slurm_report(layout, sealed.is_complete)
    in_slurm = slurm.tasks
    for key, word in cell_states(in_slurm).items():
        if key in cells and cells[key].state != "done":
            cells[key].state = word
    if in_slurm:
        failures = slurm_failures(in_slurm)
    document = status_document(layout)
    behaved = behaviour_of_run(layout, plan, lambda spec: None if (s := sealed.find(spec)) is None else s.behaviour)
    sealed.keep()
    hours = hours_used(layout, in_slurm)
    total, done = sum(c.rows_total for c in cells.values()), sum(c.rows_done for c in cells.values())
    rate = sum(_rate(task) for task in live) or None
    return RunStatus(
        run=layout.name,
        status=_state(
            document,
            live,
            done,
            total,
            queued=slurm.waiting or any(not t.report.state.is_final for t in in_slurm),
            watched=watch_lock(layout).held(),
        ),
        exit_reason=document.get("exit_reason"),
        rows_total=total,
        rows_done=done,
        rows_per_second=rate,
        eta_seconds=(total - done) / rate if rate else None,
        cells=list(cells.values()),
        tasks=[asdict(task) for task in live],
        failures=failures,
        gpu_hours=None if hours is None else hours.gpu,
        lost_gpu_hours=None if hours is None else hours.lost,
        queue_hours=None if hours is None else hours.queued,
        tokens_per_second=sealed.tokens_per_second(),
        prefix_hit_rate=sealed.prefix_hit_rate(),
        notes=[
            *slurm.notes,
            *other_code(commits, plan.settings.git_commit),
            *deviating_shards(layout, ran, planned_by(plan.settings)),
            *unread_notes(list(cells.values())),
            *(table_notes(layout, cells.values()) if document.get("status") == "completed" and not live else ()),
        ],
        behaviour=[own.to_json() for own in behaved],
        alarms=behaviour_alarms(behaved),
    )


def _names(folder: Path) -> frozenset[str]:
    """Names of a folder's entries; none where there is no folder."""
    try:
        return frozenset(os.listdir(folder))  # noqa: PTH208 - only the names, of up to 100,000 entries
    except FileNotFoundError:
        return frozenset()


def _cells(layout: RunLayout, plan: PlanFile, sealed: SealedShards) -> tuple[_Cells, _Counts, _Counts]:
    """Cells by kind, checkpoint and level; shards by the commit that computed them, and by how it ran."""
    cells: _Cells = {}
    commits: _Counts = Counter()
    ran: _Counts = Counter()
    begun = {kind.value: _names(layout.shards / kind.value) for kind in JobKind}
    kinds = {kind: kind.value for kind in JobKind}
    point, name = None, ""
    for spec in plan.specs:  # up to 100,000: what one round costs more is a tenth of a second
        if spec.checkpoint is not point:
            point, name = spec.checkpoint, spec.checkpoint.name
        key = (kinds[spec.kind], name, spec.levels[0] if spec.kind in SAMPLED_KINDS else None)
        cell = cells.get(key)
        if cell is None:
            cell = cells[key] = CellStatus(*key)
        n_rows = spec.n_rows
        cell.rows_total += n_rows
        folder = shard_folder_name(name, key[2])
        # Else nothing of the whole cell is there, as one look at the folder above told.
        if sealed.bundled(spec.key()) is not None or folder in begun[key[0]]:
            _count(layout, spec, n_rows, sealed.find(spec, folder), cell, commits, ran)
    for cell in cells.values():
        if cell.rows_done >= cell.rows_total and not cell.n_errors:
            cell.state = "done"
        elif cell.n_errors:
            cell.state = "failed"
        elif cell.rows_done:
            cell.state = "partial"
    return cells, commits, ran


def _count(
    layout: RunLayout,
    spec: JobSpec,
    n_rows: int,
    shard: Sealed | None,
    cell: CellStatus,
    commits: Counter[str | None],
    ran: Counter[str | None],
) -> None:
    if shard is None:
        cell.rows_done += min(count_part_rows(layout.parts_folder(spec)), n_rows)
        return
    # Rows that the plan counts but no prefill exists for are done too: there is nothing left to do for them.
    cell.rows_done += n_rows - shard.n_errors
    ran[shard.ran] += 1
    if shard.ran is None:  # of a version that recorded the commit alone
        commits[shard.git_commit] += 1
    cell.n_errors += shard.n_errors
    cell.exploits += shard.n_exploits
    compiling, known = shard.behaviour.get("compiles", (0, 0))
    cell.unread += known - compiling


def other_code(commits: Counter[str | None], planned: str | None) -> list[str]:
    """A line for each commit other than the plan's that computed shards; `commits` counts shards."""
    if planned is None:
        return []
    notes = []
    for commit, count in commits.most_common():
        if commit is None:
            notes.append(f"{count} shards do not say which code computed them, the run was planned by {planned[:12]}")
        elif commit != planned:
            changed = "+changed" if "+" in commit else ""
            by = f"{commit[:12]}{changed}"
            notes.append(f"{count} shards were computed by commit {by}, the run was planned by {planned[:12]}")
    return notes


def _tasks(layout: RunLayout) -> tuple[list[TaskProgress], list[str]]:
    live, failures = [], []
    for path in sorted(layout.progress.glob("task-*.json")):
        task = TaskProgress.read(path)
        if task is None:
            continue
        if task.state in ("starting", "running") and time.time() - task.updated < _STALE_S:
            live.append(task)
        elif task.state == "failed" and task.message:
            failures.append(task.message)
    return live, failures


def _rate(task: TaskProgress) -> float:
    seconds = task.updated - task.started
    return (task.rows_done - task.rows_resumed) / seconds if seconds > 1 else 0.0


def _state(
    document: dict[str, Any], live: list[TaskProgress], done: int, total: int, *, queued: bool, watched: bool
) -> str:
    said = str(document.get("status", "planned"))
    if live:
        return "running"
    if queued:
        return "submitted"
    if watched:
        return "watching"
    if said in ("running", "submitted") and done >= total:
        return "complete, not analysed"
    # A killed launcher cannot write its end.
    return "stopped" if said in ("running", "watching") else said


def list_runs(results_dir: Path) -> list[dict[str, Any]]:
    """All runs below a results folder, newest first."""
    found = []
    for layout in ResultsLayout(results_dir).runs():
        try:
            now = read_status(layout)
        except InputError as error:
            found.append(_entry(layout, "unreadable", str(error)))
            continue
        found.append(_entry(layout, now.status, None, now.rows_done, now.rows_total))
    return found


def _entry(layout: RunLayout, status: str, problem: str | None, done: int = 0, total: int = 0) -> dict[str, Any]:
    try:
        document = status_document(layout)
    except InputError as error:
        document, problem = {}, problem or str(error)
    return {
        "run": layout.name,
        "path": str(layout.root),
        "status": status,
        "problem": problem,
        "started": document.get("start_time"),
        "rows_done": done,
        "rows_total": total,
        "report": str(layout.report) if layout.report.is_file() else None,
    }
