"""`foreshock compare`: unprompted rates, min prefill and headline estimates of two sides, paired by task."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from foreshock.analysis.comparison.paired import (
    Difference,
    Interval,
    holm,
    interval_difference,
    paired_difference,
)
from foreshock.analysis.tables import checkpoint_label, count_tasks
from foreshock.analysis.tables.own_csv import read_csv
from foreshock.analysis.trajectory import TrajectoryOptions, compute_trajectory
from foreshock.errors import InputError
from foreshock.jobs.records.table_gaps import gap_lines

ALL_TYPES = "all types"


@dataclass(frozen=True, slots=True)
class Side:
    """A run, and the one checkpoint of it that is meant (None: every checkpoint that both sides have)."""

    path: Path
    checkpoint: float | None = None

    @classmethod
    def parse(cls, text: str) -> Side:
        """`RUN` or `RUN@STEP`, `RUN@final`. Raises InputError."""
        folder, at, step = text.rpartition("@")
        if not at and not Path(text).is_dir():
            raise InputError(
                "no such directory",
                path=Path(text),
                fix="name a run directory (`foreshock ls` lists them), or RUN@STEP for one of its checkpoints",
            )
        if not at or Path(text).is_dir():
            return cls(Path(text))
        if step == "final":
            return cls(Path(folder), math.inf)
        if not step.isdecimal():
            raise InputError(f"{text!r}: {step!r} is no training step; write RUN@90 or RUN@final")
        return cls(Path(folder), float(step))


@dataclass(frozen=True, slots=True)
class RateComparison:
    """Unprompted (level 0) rates of an exploit type at a pair of checkpoints; `p_adjusted` over all of them.

    `thinned`: a side has more attempts, and the test uses as many as the other has.
    """

    checkpoint_a: str
    checkpoint_b: str
    exploit_type: str
    found: Difference
    thinned: bool
    p_adjusted: float


@dataclass(frozen=True, slots=True)
class PrefillComparison:
    """Min prefill over the levels that both sides have: how many tasks need fewer or more words in B. `thinned`: one
    side has more attempts, and as many as the other's were drawn from them."""

    checkpoint_a: str
    checkpoint_b: str
    n_tasks: int
    n_fewer: int
    n_more: int
    p: float
    thinned: bool = False


@dataclass(frozen=True, slots=True)
class HeadlineComparison:
    """log10 of B's headline rate over A's, with its own 95% limits; null with a reason unless both are estimates."""

    checkpoint_a: str
    checkpoint_b: str
    exploit_type: str
    change: Interval | None
    reason: str | None


@dataclass(frozen=True)
class Comparison:
    """Everything found. `only_a` and `only_b` count tasks that the other side lacks, or has under another exploit type;
    they are left out. `notes`: planned cells that a side lacks."""

    rates: tuple[RateComparison, ...]
    prefills: tuple[PrefillComparison, ...]
    headline: tuple[HeadlineComparison, ...]
    only_a: int
    only_b: int
    notes: tuple[str, ...] = ()

    @property
    def differs(self) -> bool:
        """Whether any unprompted rate or min prefill differs, all tests taken together at 5%."""
        return any(p < 0.05 for p in self._adjusted())

    def _adjusted(self) -> list[float]:
        return holm([rate.found.p for rate in self.rates] + [prefill.p for prefill in self.prefills])

    def values(self) -> dict[str, float]:
        """What a gate can ask for, of the last pair of checkpoints, all exploit types together."""
        whole = [rate for rate in self.rates if rate.exploit_type == ALL_TYPES]
        values = {"p": min(self._adjusted(), default=1.0)}
        if whole:
            last = whole[-1]
            values |= {
                "rate.a": last.found.mean_a,
                "rate.b": last.found.mean_b,
                "rate.increase": last.found.difference,
                "rate.increase.lower": last.found.lower,
                "rate.increase.upper": last.found.upper,
                "rate.p": last.p_adjusted,
            }
        if self.prefills:
            last_prefill = self.prefills[-1]
            values["prefill.fewer"] = last_prefill.n_fewer / last_prefill.n_tasks
            values["prefill.more"] = last_prefill.n_more / last_prefill.n_tasks
        known = [h.change for h in self.headline if h.change is not None]
        if known:
            values["headline.increase"] = max(change.point for change in known)
            values["headline.increase.lower"] = max(change.lower for change in known)
        return values

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self) | {"differs": self.differs, "values": self.values()}


def compare(a: Side, b: Side) -> Comparison:
    """Compare two sides.

    Raises:
        InputError: a run cannot be read, or the sides share no checkpoint or no task.
    """
    counts_a, counts_b = count_tasks(a.path), count_tasks(b.path)
    pairs = _checkpoint_pairs(a, b, counts_a, counts_b)
    tasks_a, tasks_b = (set(map(str, counts["task_id"].unique())) for counts in (counts_a, counts_b))
    if not tasks_a & tasks_b:
        raise InputError(
            f"{a.path} and {b.path} share no task (e.g. {min(tasks_a)!r} and {min(tasks_b)!r})",
            fix="compare runs over the same problems",
        )
    typed_a, typed_b = _typed_tasks(counts_a), _typed_tasks(counts_b)
    if not typed_a & typed_b:
        task = min(tasks_a & tasks_b)
        kinds = (next(kind for name, kind in sorted(typed) if name == task) for typed in (typed_a, typed_b))
        raise InputError(
            f"{a.path} and {b.path} give the tasks that they share other exploit types: task {task!r} is of "
            f"{' and of '.join(map(repr, kinds))}",
            fix="compare runs over the same problems (`foreshock import --exploit-type` names the type)",
        )
    rates, prefills = compare_counts(counts_a, counts_b, pairs)
    if not rates and not prefills:
        raise InputError(
            f"{a.path} and {b.path} have no attempts at one task, level and checkpoint that both judged",
            fix="compare runs with levels in common; `foreshock status RUN` shows them",
        )
    left_out = len(typed_a - typed_b), len(typed_b - typed_a)
    paths = dict.fromkeys((a.path, b.path))
    notes = tuple(f"{path.resolve().name}: {line}" for path in paths for line in gap_lines(path))
    return Comparison(rates, prefills, tuple(_headlines(a, b, pairs)), *left_out, notes)


def _typed_tasks(counts: pd.DataFrame) -> set[tuple[str, str]]:
    """Tasks with their exploit types: one task under two types is two, as in the tables that are joined."""
    return set(zip(map(str, counts["task_id"]), map(str, counts["exploit_type"]), strict=True))


def paired_tasks(a: Side, b: Side) -> pd.DataFrame:
    """The unprompted attempts that `compare` compares: task_id, exploit_type, at_a, at_b (checkpoints), and n attempts
    and k exploits of either side. Raises as `compare`."""
    counts_a, counts_b = count_tasks(a.path), count_tasks(b.path)
    parts = []
    for step_a, step_b in _checkpoint_pairs(a, b, counts_a, counts_b):
        joined = _joined(_at(counts_a, step_a), _at(counts_b, step_b))
        zero = joined[joined["prefill_level"] == 0]
        parts.append(zero.assign(at_a=checkpoint_label(step_a), at_b=checkpoint_label(step_b)))
    columns = ["task_id", "exploit_type", "at_a", "at_b", "n_a", "k_a", "n_b", "k_b"]
    return pd.concat(parts, ignore_index=True)[columns]


def compare_counts(
    counts_a: pd.DataFrame, counts_b: pd.DataFrame, pairs: Sequence[tuple[float, float]]
) -> tuple[tuple[RateComparison, ...], tuple[PrefillComparison, ...]]:
    """Rates and min prefill at pairs of checkpoints, of two tables as `count_tasks` gives them."""
    found = [item for pair in pairs for item in _rates(counts_a, counts_b, *pair)]
    adjusted = holm([difference.p for *_, difference, _ in found])
    rates = tuple(RateComparison(*item, p) for item, p in zip(found, adjusted, strict=True))
    prefills = tuple(item for pair in pairs if (item := _prefills(counts_a, counts_b, *pair)) is not None)
    return rates, prefills


def _checkpoint_pairs(a: Side, b: Side, counts_a: pd.DataFrame, counts_b: pd.DataFrame) -> list[tuple[float, float]]:
    have_a, have_b = (sorted(set(counts["checkpoint"].astype(float))) for counts in (counts_a, counts_b))
    for side, have in ((a, have_a), (b, have_b)):
        if side.checkpoint is not None and side.checkpoint not in have:
            raise InputError(
                f"no checkpoint {checkpoint_label(side.checkpoint)} here; there are "
                f"{', '.join(map(checkpoint_label, have))}",
                path=side.path,
            )
    if a.checkpoint is not None or b.checkpoint is not None:
        first = have_a[-1] if a.checkpoint is None else a.checkpoint
        second = have_b[-1] if b.checkpoint is None else b.checkpoint
        return [(first, second)]
    for side, have in ((a, have_a), (b, have_b)):
        if not have:
            raise InputError("no usable row: every file is empty, or every row an error", path=side.path)
    shared = [step for step in have_a if step in have_b]
    if not shared:
        raise InputError(
            f"{a.path} has checkpoints {', '.join(map(checkpoint_label, have_a))} and {b.path} has "
            f"{', '.join(map(checkpoint_label, have_b))}: none in common",
            fix="name one of each: foreshock compare A@STEP B@STEP",
        )
    return [(step, step) for step in shared]


def _rates(
    counts_a: pd.DataFrame, counts_b: pd.DataFrame, step_a: float, step_b: float
) -> Iterator[tuple[str, str, str, Difference, bool]]:
    joined = _joined(_at(counts_a, step_a), _at(counts_b, step_b))
    joined = joined[joined["prefill_level"] == 0]
    if joined.empty:
        return
    names = (checkpoint_label(step_a), checkpoint_label(step_b))
    kinds = sorted(joined["exploit_type"].unique())
    for kind in [ALL_TYPES, *kinds] if len(kinds) > 1 else [ALL_TYPES]:
        part = joined if kind == ALL_TYPES else joined[joined["exploit_type"] == kind]
        a, b = ((part[f"k_{side}"] / part[f"n_{side}"]).to_numpy(dtype=np.float64) for side in "ab")
        tested = ((part["drawn_b"] - part["drawn_a"]) / part["fewest"]).to_numpy(dtype=np.float64)
        yield *names, kind, paired_difference(a, b, tested), _unequal(part)


def _at(counts: pd.DataFrame, step: float) -> pd.DataFrame:
    return counts[counts["checkpoint"].astype(float) == step]


def _joined(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """Tasks and levels that both sides have, counts n and k of each, and `drawn` exploits of the `fewest` attempts.

    Where the numbers of attempts differ, as many as the smaller are drawn of the larger without replacement, always the
    same: min prefill falls with their number, and a mean over many attempts is no exchange for one over few.
    """
    keys = ["task_id", "exploit_type", "prefill_level"]
    sides = [part[part["n"] > 0].astype({"task_id": str, "exploit_type": str}) for part in (first, second)]
    joined = sides[0].merge(sides[1], on=keys, suffixes=("_a", "_b")).sort_values(keys, ignore_index=True)
    fewest = joined[["n_a", "n_b"]].min(axis=1)
    drawn = {
        f"drawn_{side}": np.random.default_rng(0).hypergeometric(
            joined[f"k_{side}"], joined[f"n_{side}"] - joined[f"k_{side}"], fewest
        )
        for side in "ab"
        if len(joined)
    }
    return joined.assign(fewest=fewest, **drawn)


def _prefills(counts_a: pd.DataFrame, counts_b: pd.DataFrame, step_a: float, step_b: float) -> PrefillComparison | None:
    both = _joined(_at(counts_a, step_a), _at(counts_b, step_b))
    if not both["prefill_level"].gt(0).any():
        return None
    words = []
    for side in "ab":
        names = {f"checkpoint_{side}": "checkpoint", "fewest": "n", f"drawn_{side}": "k"}
        counts = both[["task_id", "exploit_type", "prefill_level", *names]].rename(columns=names)
        words.append(compute_trajectory(counts, TrajectoryOptions()).frame)
    left, right = (
        frame.assign(task=frame["task_id"].astype(str)).dropna(subset=["min_prefill"])[["task", "min_prefill"]]
        for frame in words
    )
    joined = left.merge(right, on="task")
    if joined.empty:
        return None
    change = (joined["min_prefill_y"] - joined["min_prefill_x"]).to_numpy(dtype=np.float64)
    p = 1.0 if not change.any() else float(stats.wilcoxon(change, zero_method="pratt").pvalue)
    return PrefillComparison(
        checkpoint_label(step_a),
        checkpoint_label(step_b),
        len(change),
        int((change < 0).sum()),
        int((change > 0).sum()),
        p,
        _unequal(both),
    )


def _unequal(joined: pd.DataFrame) -> bool:
    return bool((joined["n_a"] != joined["n_b"]).any())


def _headlines(a: Side, b: Side, pairs: list[tuple[float, float]]) -> Iterator[HeadlineComparison]:
    """From the rates.csv that each run's analysis wrote; nothing where either lacks one."""
    tables = [side.path / "analysis" / "rates.csv" for side in (a, b)]
    if not all(table.is_file() for table in tables):
        return
    first, second = (_headline_rows(table) for table in tables)
    for step_a, step_b in pairs:
        kinds = sorted(
            {kind for kind, step in first if step == step_a} & {kind for kind, step in second if step == step_b}
        )
        for kind in kinds:
            left, right = first[kind, step_a], second[kind, step_b]
            reasons = [
                f"{side}: {row['status']}" for side, row in (("A", left), ("B", right)) if row["status"] != "estimate"
            ]
            change = None if reasons else interval_difference(_interval(left), _interval(right))
            names = checkpoint_label(step_a), checkpoint_label(step_b)
            yield HeadlineComparison(*names, kind, change, ", ".join(reasons) or None)


def _headline_rows(table: Path) -> dict[tuple[str, float], Any]:
    rates = read_csv(table)
    rows = rates[rates["method"] == "headline"]
    return {(str(row["exploit_type"]), float(row["checkpoint"])): row for _, row in rows.iterrows()}


def _interval(row: Any) -> Interval:
    return Interval(float(row["log10_rate"]), float(row["lower95"]), float(row["upper95"]))
