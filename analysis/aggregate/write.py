"""Shards to the run's final tables: evals/, samples, logprob/, ref_logprob/, kl/, ground_truth/, extra/,
exploit_logprob/.

This is the only writer of those files. It rewrites a cell whole from whatever shards are sealed, in canonical order,
so the tables of a resumed run equal those of an uninterrupted one byte for byte, and aggregating an unfinished run is
safe and says what is missing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing

from foreshock.analysis.aggregate.checkpoint import AggregateReport, CheckpointTables
from foreshock.analysis.processes import keep_freed_memory, n_cores, process_pool
from foreshock.durable import sweep_temporaries
from foreshock.jobs.records.layout import RunLayout
from foreshock.jobs.records.planfile import PlanFile
from foreshock.jobs.records.shards import ShardStore
from foreshock.jobs.records.spec import JobKind, JobSpec
from foreshock.jobs.records.table_archives import TableArchives, remove_replaced

SIDE_BY_SIDE_ROWS = 1_000_000
"""Rows from which checkpoints are written by several processes: below, starting them takes as long."""

_MOST_PROCESSES = 4
"""Each holds the plan, the reference model's scores and a checkpoint's outcomes: hundreds of megabytes."""

_SpecsOfKind = Mapping[JobKind, list[JobSpec]]
_Written = tuple[str, AggregateReport]
_Parts = Generator[list[_Written], None, None]

_LEAST_TOGETHER = 16
_MOST_GROUPS = 256
"""So that archives of any number of checkpoints are hundreds of each kind."""


def aggregate(layout: RunLayout, on_cell: Callable[[str], None] = lambda _: None) -> AggregateReport:
    """Write every final table that the sealed shards allow; returns counts and missing cells.

    `on_cell` is told the name of each checkpoint whose tables are being written, or have just been.
    """
    plan = PlanFile.read(layout)
    _sweep(layout)
    specs = _by_checkpoint(plan)
    report = AggregateReport(n_skipped=sum(item.n_tasks for item in plan.skipped))
    groups = _groups(list(specs), plan.tables_archived)
    n_processes = min(n_cores() + 1, len(groups), _MOST_PROCESSES)  # each waits for the disk at times
    if n_processes > 1 and sum(spec.n_rows for spec in plan.specs) >= SIDE_BY_SIDE_ROWS:
        parts = _side_by_side(layout, groups, n_processes)
    else:
        parts = _one_by_one(_Tables(layout), groups)
    try:
        with closing(parts):  # ends the processes
            for written in parts:
                for name, part in written:
                    on_cell(name)
                    report.add(part)
    except BaseException:
        _sweep(layout)  # of processes that were ended
        raise
    for folder in layout.table_folders:
        aside = remove_replaced(folder, all_anew=not report.missing)
        report.set_aside += [f"{folder.name}/{name}.damaged" for name in aside]
    return report


def _groups(names: list[str], archived: bool) -> list[list[str]]:
    """Checkpoints whose tables are seen onto the disk together, in the same archives."""
    size = max(_LEAST_TOGETHER, -(-len(names) // _MOST_GROUPS)) if archived else 1
    return [names[start : start + size] for start in range(0, len(names), size)]


def _sweep(layout: RunLayout) -> None:
    for folder in layout.table_folders:
        sweep_temporaries(folder)


def _by_checkpoint(plan: PlanFile) -> dict[str, _SpecsOfKind]:
    found: dict[str, dict[JobKind, list[JobSpec]]] = defaultdict(lambda: defaultdict(list))
    for spec in plan.specs:
        found[spec.checkpoint.name][spec.kind].append(spec)
    return {name: dict(of_kind) for name, of_kind in found.items()}


class _Tables:
    """Writes any checkpoint of a run: what a process has to know for it."""

    def __init__(self, layout: RunLayout) -> None:
        self._store = ShardStore(layout)  # one for all: it knows what is in the bundles
        plan = PlanFile.read(layout)
        self._archives = TableArchives() if plan.tables_archived else None
        self._attempts_of_rollout = None if plan.n_rollouts == 1 else plan.n_attempts
        self._specs = _by_checkpoint(plan)
        references = [spec for of_kind in self._specs.values() for spec in of_kind.get(JobKind.REF_LOGPROB, ())]
        with CheckpointTables(self._store, None) as tables:
            self._references = tables.read_references(references)

    def write(self, names: Sequence[str]) -> list[_Written]:
        if self._archives is None:
            return [self._write(name) for name in names]
        with self._archives:
            return [self._write(name) for name in names]

    def _write(self, name: str) -> _Written:
        with CheckpointTables(self._store, self._attempts_of_rollout, self._archives) as tables:
            tables.write(name, self._specs[name], self._references)
        return name, tables.report


def _one_by_one(tables: _Tables, groups: Iterable[Sequence[str]]) -> _Parts:
    yield from map(tables.write, groups)


def _side_by_side(layout: RunLayout, groups: Iterable[Sequence[str]], n_processes: int) -> _Parts:
    """In the order of `groups`, whichever is done first."""
    with process_pool(n_processes, _Process.start, layout) as pool:
        yield from pool.map(_Process.write, groups)


class _Process:
    """What a process of `_side_by_side` was started with."""

    tables: _Tables

    @classmethod
    def start(cls, layout: RunLayout) -> None:
        keep_freed_memory()
        cls.tables = _Tables(layout)

    @classmethod
    def write(cls, names: Sequence[str]) -> list[_Written]:
        return cls.tables.write(names)
