"""Shards to the run's final tables: evals/, samples, logprob/, ref_logprob/, kl/, ground_truth/, extra/.

The one hard decision: this is the only writer of those files. It rewrites a cell whole from whatever shards are
sealed, in canonical order, so the tables of a resumed run equal those of an uninterrupted one byte for byte, and
aggregating an unfinished run is safe and says what is missing.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.process import BaseProcess

from foreshock.analysis.aggregate.checkpoint import AggregateReport, CheckpointTables, Reference, ScoreKey
from foreshock.jobs.records.jsonl import sweep_temporaries
from foreshock.jobs.records.layout import RunLayout
from foreshock.jobs.records.planfile import PlanFile
from foreshock.jobs.spec import JobKind, JobSpec

SIDE_BY_SIDE_ROWS = 1_000_000
"""Rows from which checkpoints are written by several processes: below, starting them takes as long."""

_MOST_PROCESSES = 4
"""Each holds the plan, the reference model's scores and a checkpoint's outcomes: gigabytes in all."""

_SpecsOfKind = Mapping[JobKind, list[JobSpec]]
_References = Mapping[ScoreKey, Reference]


def aggregate(layout: RunLayout, on_cell: Callable[[str], None] = lambda _: None) -> AggregateReport:
    """Write every final table that the sealed shards allow; returns counts and missing cells.

    `on_cell` is told the name of each checkpoint whose tables are being written, or have just been.
    """
    plan = PlanFile.read(layout)
    for folder in (layout.evals, layout.logprob, layout.ref_logprob, layout.kl, layout.ground_truth, layout.extra):
        sweep_temporaries(folder)
    specs = _by_checkpoint(plan)
    report = AggregateReport(n_skipped=sum(item.n_tasks for item in plan.skipped))
    references: dict[ScoreKey, Reference] = {}
    with CheckpointTables(layout, _attempts_of_rollout(plan)) as tables:
        for name, of_kind in specs.items():
            if JobKind.REF_LOGPROB in of_kind:
                references |= tables.write_reference(of_kind[JobKind.REF_LOGPROB], name)
    report.add(tables.report)
    n_processes = min(len(os.sched_getaffinity(0)), len(specs), _MOST_PROCESSES)
    if n_processes > 1 and sum(spec.n_rows for spec in plan.specs) >= SIDE_BY_SIDE_ROWS:
        parts = _side_by_side(layout, specs, references, n_processes)
    else:
        parts = _one_by_one(layout, plan, specs, references)
    for name, part in parts:
        on_cell(name)
        report.add(part)
    return report


def _by_checkpoint(plan: PlanFile) -> dict[str, _SpecsOfKind]:
    found: dict[str, dict[JobKind, list[JobSpec]]] = defaultdict(lambda: defaultdict(list))
    for spec in plan.specs:
        found[spec.checkpoint.name][spec.kind].append(spec)
    return {name: dict(of_kind) for name, of_kind in found.items()}


def _attempts_of_rollout(plan: PlanFile) -> int | None:
    return None if plan.n_rollouts == 1 else plan.n_attempts


def _one_by_one(
    layout: RunLayout, plan: PlanFile, specs: Mapping[str, _SpecsOfKind], references: _References
) -> Iterator[tuple[str, AggregateReport]]:
    for name, of_kind in specs.items():
        with CheckpointTables(layout, _attempts_of_rollout(plan)) as tables:
            tables.write(name, of_kind, references)
        yield name, tables.report


def _side_by_side(
    layout: RunLayout, names: Iterable[str], references: _References, n_processes: int
) -> Iterator[tuple[str, AggregateReport]]:
    """In the order of `names`, whichever is done first."""
    with process_pool(layout, references, n_processes) as pool:
        yield from zip(names, pool.map(_Process.write, names), strict=True)


def process_pool(layout: RunLayout, references: _References, n_processes: int) -> ProcessPoolExecutor:
    """New interpreters that know a run; not forks, since this process may have threads. They end when it does."""
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(n_processes, context, _Process.start, (layout, references))


class _Process:
    """What a process of `_side_by_side` was started with."""

    layout: RunLayout
    plan: PlanFile
    specs: Mapping[str, _SpecsOfKind]
    references: _References

    @classmethod
    def start(cls, layout: RunLayout, references: _References) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the terminal: whoever started this process stops it
        parent = multiprocessing.parent_process()
        assert parent is not None
        threading.Thread(target=_leave_after, args=(parent,), daemon=True).start()
        cls.layout, cls.references = layout, references
        cls.plan = PlanFile.read(layout)
        cls.specs = _by_checkpoint(cls.plan)

    @classmethod
    def write(cls, name: str) -> AggregateReport:
        with CheckpointTables(cls.layout, _attempts_of_rollout(cls.plan)) as tables:
            tables.write(name, cls.specs[name], cls.references)
        return tables.report


def _leave_after(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)  # what is half written is a temporary file
