"""What a spec costs: seconds per row by kind and level, plus the price of getting a model ready.

Costs are a table of measured points, not a fitted formula. A level in between is interpolated, a level outside takes
the nearest point, and shards that have finished move the points they measured (and, by the same ratio, the ones they
did not), so a resumed run is packed by what it has seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from foreshock.jobs.records.spec import SAMPLED_KINDS, JobKind, JobSpec

PRIOR_ROWS = 8.0  # rows of evidence that a profile's guess is worth against measured rows


@dataclass(frozen=True, slots=True, order=True)
class RowCost:
    """Seconds that one row takes, at one kind and prefill level, on one worker with batching as in a real run.

    For the logprob kinds a row is a task: one forward pass of the longest prefill scores every level.
    """

    kind: JobKind
    level: int
    seconds: float

    def __post_init__(self) -> None:
        if not 0 < self.seconds < float("inf"):
            raise ValueError(f"cost of {self.kind} at level {self.level} is {self.seconds!r} s; valid: above 0")


@dataclass(frozen=True, slots=True)
class ShardTiming:
    """What one finished shard measured: `seconds` of work for `n_rows` rows, loading excluded.

    `load_s` is the time its worker took to get the model ready, and `first_load` whether that included the
    engine's start; None when the model was already there.
    """

    kind: JobKind
    level: int
    n_rows: int
    seconds: float
    load_s: float | None = None
    first_load: bool = True


def _default_rows() -> tuple[RowCost, ...]:
    return (
        RowCost(JobKind.EVAL, 0, 1.0),
        RowCost(JobKind.GROUND_TRUTH, 0, 1.0),
        RowCost(JobKind.EXTRA, 0, 1.0),
        RowCost(JobKind.LOGPROB, 0, 0.1),
        RowCost(JobKind.REF_LOGPROB, 0, 0.1),
        RowCost(JobKind.EXPLOIT_LOGPROB, 0, 0.1),
        RowCost(JobKind.HONEST_LOGPROB, 0, 0.1),
    )


@dataclass(frozen=True, slots=True)
class CostModel:
    """Seconds: `load_s` starts an engine with its first model, `swap_s` replaces the model in a running one."""

    load_s: float = 120.0
    swap_s: float = 30.0
    rows: tuple[RowCost, ...] = ()
    per_spec_s: float = 0.0
    """Fixed price of a spec besides its rows: rendering prompts, sealing the shard."""

    def __post_init__(self) -> None:
        for name in ("load_s", "swap_s", "per_spec_s"):
            value = getattr(self, name)
            if not 0 <= value < float("inf"):
                raise ValueError(f"{name} is {value!r}; valid: 0 or more seconds")
        if self.swap_s > self.load_s:
            raise ValueError(f"swap_s {self.swap_s} exceeds load_s {self.load_s}; a swap is part of a load")
        named = {row.kind for row in self.rows}
        filled = self.rows + tuple(row for row in _default_rows() if row.kind not in named)
        object.__setattr__(self, "rows", tuple(sorted(filled)))

    def row_seconds(self, kind: JobKind, level: int) -> float:
        """Seconds for one row: linear between the known levels, the nearest level's outside them."""
        points = [(row.level, row.seconds) for row in self.rows if row.kind == kind]
        if level <= points[0][0]:
            return points[0][1]
        for (left, left_s), (right, right_s) in pairwise(points):
            if level <= right:
                return left_s + (right_s - left_s) * (level - left) / (right - left)
        return points[-1][1]

    def spec_seconds(self, spec: JobSpec) -> float:
        """Seconds of work in `spec`, model loading excluded."""
        if spec.kind in SAMPLED_KINDS:
            per_task = len(spec.attempts) * sum(self.row_seconds(spec.kind, level) for level in spec.levels)
        else:
            per_task = self.row_seconds(spec.kind, max(spec.levels, default=0))
        return self.per_spec_s + len(spec.task_ids) * per_task

    def chain_seconds(self, specs: Sequence[JobSpec]) -> float:
        """Seconds for one worker to run `specs` in this order: a load, then a swap at each change of model."""
        if not specs:
            return 0.0
        changes = sum(left.checkpoint != right.checkpoint for left, right in pairwise(specs))
        return self.load_s + changes * self.swap_s + sum(map(self.spec_seconds, specs))

    def reestimate(self, timings: Iterable[ShardTiming]) -> CostModel:
        """The model after seeing `timings`.

        Each measured (kind, level) becomes (prior * PRIOR_ROWS + seconds) / (PRIOR_ROWS + rows). Levels of that
        kind that nobody measured are scaled by the same kind's pooled ratio of measured to expected seconds.
        Loads and swaps become the mean of the measured ones. Timings without rows are ignored.
        """
        seen = [t for t in timings if t.n_rows > 0 and t.seconds > 0]
        new_rows: list[RowCost] = []
        for kind in JobKind:
            new_rows += self._reestimated_rows(kind, [t for t in seen if t.kind == kind])
        loads = [t.load_s for t in seen if t.load_s is not None and t.first_load]
        swaps = [t.load_s for t in seen if t.load_s is not None and not t.first_load]
        load_s = sum(loads) / len(loads) if loads else self.load_s
        swap_s = sum(swaps) / len(swaps) if swaps else self.swap_s
        if swap_s > load_s:  # a swap is part of a load; what was measured wins over what was guessed
            load_s, swap_s = (load_s, load_s) if loads else (swap_s, swap_s)
        return replace(self, rows=tuple(new_rows), load_s=load_s, swap_s=swap_s)

    def _reestimated_rows(self, kind: JobKind, seen: Sequence[ShardTiming]) -> list[RowCost]:
        known = {row.level: row.seconds for row in self.rows if row.kind == kind}
        if not seen:
            return [RowCost(kind, level, seconds) for level, seconds in known.items()]
        expected = sum(t.n_rows * self.row_seconds(kind, t.level) for t in seen)
        ratio = sum(t.seconds for t in seen) / expected
        points = {level: seconds * ratio for level, seconds in known.items()}
        for level in sorted({t.level for t in seen}):
            n_rows = sum(t.n_rows for t in seen if t.level == level)
            seconds = sum(t.seconds for t in seen if t.level == level)
            prior = self.row_seconds(kind, level)
            points[level] = (prior * PRIOR_ROWS + seconds) / (PRIOR_ROWS + n_rows)
        return [RowCost(kind, level, seconds) for level, seconds in points.items()]

    def to_json(self) -> dict[str, Any]:
        """As plain data, for the plan file."""
        rows = [{"kind": row.kind.value, "level": row.level, "seconds": row.seconds} for row in self.rows]
        return {"load_s": self.load_s, "swap_s": self.swap_s, "per_spec_s": self.per_spec_s, "rows": rows}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> CostModel:
        """Inverse of `to_json`; missing keys take the defaults."""
        rows = tuple(RowCost(JobKind(r["kind"]), int(r["level"]), float(r["seconds"])) for r in data.get("rows", ()))
        scalars = {key: float(data[key]) for key in ("load_s", "swap_s", "per_spec_s") if key in data}
        return cls(rows=rows, **scalars)
