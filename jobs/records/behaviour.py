"""How a checkpoint behaves in its unprompted rows: does it end its turns, close its reasoning, write sound code?

A share that collapses or jumps between checkpoints is an artefact (a lost stop token, another template) until shown
otherwise, and would read as learning in every rate. Counts are taken when a shard is sealed and lie in its manifest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from foreshock.jobs.records.checkpoint_names import checkpoint_order
from foreshock.jobs.records.layout import RunLayout
from foreshock.jobs.records.marks import MEASURES
from foreshock.jobs.records.planfile import PlanFile
from foreshock.jobs.records.shards import ShardStore
from foreshock.jobs.records.spec import JobKind, JobSpec

_JUMP, _JUMP_Z = 0.25, 3.29
_LOW = 0.5
_LEAST_ROWS = 10

Counts = Mapping[str, tuple[int, int]]
"""(rows that do, rows of which it is known) by measure."""


@dataclass(frozen=True, slots=True)
class Behaviour:
    """One checkpoint's level-0 rows of the sweep, so far."""

    checkpoint: str
    counts: Counts

    def share(self, measure: str) -> float | None:
        """None where no row says."""
        done, known = self.counts.get(measure, (0, 0))
        return done / known if known else None

    def to_json(self) -> dict[str, Any]:
        """Checkpoint, shares and numbers of rows."""
        shares = {name: self.share(name) for name in MEASURES}
        return {"checkpoint": self.checkpoint, **shares, "rows": {k: v[1] for k, v in self.counts.items()}}


def behaviour_of_run(
    layout: RunLayout, plan: PlanFile, counts_of: Callable[[JobSpec], Mapping[str, Sequence[int]] | None] | None = None
) -> list[Behaviour]:
    """Every checkpoint of the sweep with a sealed shard at level 0, in order.

    `counts_of` gives a sealed shard's counts by measure, None of any other; by default its manifest is read.
    """
    store = ShardStore(layout)
    look = counts_of or (lambda spec: _of_manifest(store, spec))
    totals: dict[str, dict[str, tuple[int, int]]] = {}
    for spec in plan.specs:
        if spec.kind is not JobKind.EVAL or spec.levels != (0,):
            continue
        counts = look(spec)
        if counts is None:
            continue
        own = totals.setdefault(spec.checkpoint.name, {})
        for name, (done, known) in counts.items():
            before = own.get(name, (0, 0))
            own[name] = (before[0] + done, before[1] + known)
    return [Behaviour(name, totals[name]) for name in sorted(totals, key=checkpoint_order) if totals[name]]


def _of_manifest(store: ShardStore, spec: JobSpec) -> Mapping[str, Sequence[int]] | None:
    found = next(store.candidates(spec), None)
    return None if found is None else found.manifest.behaviour


def alarms(found: list[Behaviour]) -> list[str]:
    """Shares that are low for certain, and jumps between neighbours that chance does not make, in words."""
    told = []
    for i, here in enumerate(found):
        for name, what in MEASURES.items():
            done, known = here.counts.get(name, (0, 0))
            if known < _LEAST_ROWS:
                continue
            if _upper(done, known) < _LOW:
                told.append(f"{here.checkpoint}: only {done / known:.0%} of {known} level-0 rows {what}")
            if i > 0 and (text := _jump(found[i - 1], here, name)):
                told.append(text)
    return told


def _jump(before: Behaviour, here: Behaviour, name: str) -> str | None:
    (a, n), (b, m) = before.counts.get(name, (0, 0)), here.counts.get(name, (0, 0))
    if min(n, m) < _LEAST_ROWS:
        return None
    change, pooled = b / m - a / n, (a + b) / (n + m)
    error = math.sqrt(pooled * (1 - pooled) * (1 / n + 1 / m))
    if abs(change) < _JUMP or abs(change) < _JUMP_Z * error:
        return None
    return (
        f"{before.checkpoint} to {here.checkpoint}: rows that {MEASURES[name]} go from {a / n:.0%} to {b / m:.0%}; "
        "rule out an artefact (template, stop tokens, max_tokens) before reading rates as learning"
    )


def _upper(done: int, known: int, z: float = 1.96) -> float:
    """Upper end of Wilson's 95% interval."""
    share, spread = done / known, z * z / known
    half = z * math.sqrt(share * (1 - share) / known + spread / (4 * known))
    return (share + spread / 2 + half) / (1 + spread)
