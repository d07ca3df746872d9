"""What the learned quantiles see of a cell: levels, neighbours, other runs and types, and how prefixes fit the target.

Rates are relative to the smoother's median, in decades, so that a feature means the same at 10^-2 and 10^-6. NaN is
"not measured", and what is learned treats it as such.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from foreshock.analysis.evidence.evidence import Bools, DonorKind, Evidence, Floats, Ints, type_index
from foreshock.analysis.headline.missing import nan_is_missing
from foreshock.analysis.headline.prefixes import LevelTable
from foreshock.analysis.headline.smoother import Smoothed, progress

_DECADE = float(np.log(10.0))
_SLOTS = ((1, 3), (4, 7), (8, 14), (15, 25), (26, 40), (41, 70), (71, 10**9))
"""Words of forced reasoning that count as the same depth: any set of levels maps onto these."""


@dataclass(frozen=True, slots=True)
class Features:
    """values: [J * C, F], a row a cell; names: [F]."""

    values: Floats
    names: tuple[str, ...]


def _slot_level(levels: Ints) -> list[int]:
    """Index of the level that stands for each slot, -1 for none: the one nearest the slot's middle on a log scale."""
    chosen = []
    for low, high in _SLOTS:
        middle = np.sqrt(low * min(high, 140))
        inside = [i for i, words in enumerate(levels) if low <= words <= high]
        chosen.append(min(inside, key=lambda i: abs(np.log(levels[i] / middle))) if inside else -1)
    return chosen


def _weighted(value: Floats, weight: Floats, axis: int = -1) -> Floats:
    weight = np.where(np.isfinite(value), weight, 0.0)
    total = weight.sum(axis)
    return np.asarray(np.where(total > 0, (np.nan_to_num(value) * weight).sum(axis) / np.maximum(total, 1e-12), np.nan))


def _at_neighbour(grid: Floats, present: Bools, by: int) -> Floats:
    """grid [J, C] at the surface's own checkpoint `by` places on (negative: earlier), NaN beyond the ends. Runs may
    have checkpoints that others lack: places count those of the surface alone."""
    place = np.cumsum(present, 1) - 1 + by
    out = np.full_like(grid, np.nan)
    for j in range(len(grid)):
        own = np.flatnonzero(present[j])
        inside = (place[j] >= 0) & (place[j] < len(own))
        out[j, inside] = grid[j, own[place[j, inside]]]
    return out


def _between(x: Floats, rows: Floats) -> Floats:
    """Mean over surfaces of rows [S, C], each interpolated over training where it is missing: [C]."""
    filled = np.full_like(rows, np.nan)
    for row, values in zip(filled, rows, strict=True):
        known = np.isfinite(values)
        if known.any():
            row[:] = np.interp(x, x[known], values[known])
    return np.asarray(np.nanmean(filled, 0)) if len(rows) else np.full(len(x), np.nan)


def _last_known(grid: Floats) -> Floats:
    """Each row's last finite value: [J, 1]."""
    known = np.isfinite(grid)
    last = grid.shape[1] - 1 - known[:, ::-1].argmax(1)
    return np.asarray(grid[np.arange(len(grid)), last])[:, None]


class _Columns:
    def __init__(self, shape: tuple[int, int]) -> None:
        self.shape, self.names, self.values = shape, [], []  # type: tuple[int, int], list[str], list[Floats]

    def add(self, name: str, value: Floats | float) -> None:
        self.names.append(name)
        self.values.append(np.broadcast_to(np.asarray(value, dtype=np.float64), self.shape).reshape(-1))


def features(evidence: Evidence, table: LevelTable, smoothed: Smoothed, n: Floats, k: Floats) -> Features:
    """All features of all cells. n, k: [J, C] effective direct counts."""
    columns = _Columns((n.shape[0], n.shape[1]))
    with nan_is_missing():
        _levels(columns, evidence, table, smoothed)
        _cell(columns, evidence, table, smoothed, n, k)
        _neighbours(columns, evidence, table, smoothed, n, k)
        _agreement(columns, evidence, smoothed, n, k)
        _lessons(columns, evidence, table, smoothed, n, k)
        _tasks(columns, evidence, table)
    values = np.stack(columns.values, -1)
    return Features(np.clip(values, -60, 60), tuple(columns.names))


def _levels(columns: _Columns, evidence: Evidence, table: LevelTable, smoothed: Smoothed) -> None:
    at = smoothed.mean / _DECADE
    for slot, level in enumerate(_slot_level(evidence.levels)):

        def pick(grid: Floats, level: int = level) -> Floats:
            return grid[:, :, level] if level >= 0 else np.full(at.shape, np.nan)

        columns.add(f"level{slot}_y", pick(smoothed.level_y) / _DECADE - at)
        columns.add(f"level{slot}_raw", pick(table.raw) / _DECADE - at)
        columns.add(f"level{slot}_log_normal", pick(table.log_normal) / _DECADE - at)
        columns.add(f"level{slot}_hits", np.log10(pick(table.s) + 0.5))
        columns.add(f"level{slot}_rate", np.log10(pick(table.rate)))
        columns.add(f"level{slot}_hit_mean", pick(table.mean))
        columns.add(f"level{slot}_hit_var", pick(table.var))
        columns.add(f"level{slot}_mean_weight", pick(table.log_mean_weight) / _DECADE)
        columns.add(f"level{slot}_all_mean", pick(table.mean_all))
        columns.add(f"level{slot}_all_var", pick(table.var_all))
        columns.add(f"level{slot}_ess", np.log10(pick(table.ess)))
        columns.add(f"level{slot}_largest", pick(table.largest))
        columns.add(f"level{slot}_self_normalised", pick(table.raw - table.log_mean_weight) / _DECADE - at)
        columns.add(f"level{slot}_all_log_normal", pick(table.mean_all + table.var_all / 2) / _DECADE)
        columns.add(f"level{slot}_weight_ess", pick(table.weight_ess))
        columns.add(f"level{slot}_step_mean", pick(table.step_mean) / _DECADE)


def _cell(columns: _Columns, evidence: Evidence, table: LevelTable, smoothed: Smoothed, n: Floats, k: Floats) -> None:
    at = smoothed.mean / _DECADE
    columns.add("median", at)
    columns.add("sd", smoothed.sd / _DECADE)
    columns.add("given", smoothed.given / _DECADE - at)
    columns.add("given_sd", smoothed.given_sd / _DECADE)
    columns.add("own", smoothed.own / _DECADE - at)
    columns.add("own_sd", smoothed.own_sd / _DECADE)
    columns.add("attempts", np.log10(np.maximum(n, 0.1)))
    columns.add("exploits", np.log10(k + 0.3))
    columns.add("direct", np.where(k > 0, np.log10(np.maximum(k, 1e-9) / np.maximum(n, 1e-9)) - at, np.nan))
    columns.add("direct_limit", np.log10(3.0 / np.maximum(n, 1.0)) - at)
    columns.add("expected", np.log10(n * expit(smoothed.given) + 1e-6))
    known = np.isfinite(smoothed.level_y)
    weight = np.where(known, 1 / np.where(known, smoothed.level_sd, 1.0) ** 2, 0.0)
    y = smoothed.level_y / _DECADE
    mean = _weighted(y, weight)
    columns.add("levels_spread", np.sqrt(_weighted((y - mean[..., None]) ** 2, weight)))
    depth = np.broadcast_to(np.log1p(evidence.levels), y.shape)
    centre = _weighted(np.where(known, depth, np.nan), weight)
    lean = _weighted((depth - centre[..., None]) * (y - mean[..., None]), weight)
    columns.add(
        "levels_slope", lean / (_weighted(np.where(known, depth - centre[..., None], np.nan) ** 2, weight) + 0.1)
    )
    raw = np.where(table.s >= 2, table.raw, np.nan) / _DECADE
    columns.add("raw_lowest", np.nanmin(np.where(np.isfinite(raw), raw, np.inf), -1) - at)
    columns.add("raw_highest", np.nanmax(np.where(np.isfinite(raw), raw, -np.inf), -1) - at)
    columns.add("raw_by_hits", _weighted(raw, table.s) - at)
    columns.add("weight_by_hits", _weighted(table.log_mean_weight, table.s) / _DECADE)
    columns.add("hits", np.log10(table.s.sum(-1) + 0.5))
    columns.add("scored", np.log10(table.n.sum(-1) + 0.5))
    columns.add("levels_with_hits", (table.s > 0).sum(-1) / np.maximum((table.n > 0).sum(-1), 1))
    first_hit = np.where((table.s >= 2).any(-1), np.log10(1.0 + evidence.levels[(table.s >= 2).argmax(-1)]), 3.0)
    columns.add("first_level_with_hits", first_hit)
    columns.add("largest_rate", np.log10(np.nanmax(np.where(table.n > 0, table.rate, 1e-6), -1)))
    columns.add("gamma", np.nanmean(np.where(table.n > 0, table.gamma, np.nan), -1))
    columns.add("levels", float((evidence.levels > 0).sum()))
    columns.add("longest", np.log10(float(evidence.levels.max()) + 1))
    columns.add("unconditioned", float(evidence.donor is DonorKind.UNCONDITIONED))
    columns.add("uncorrected", float(evidence.donor is DonorKind.CONDITIONED_UNCORRECTED))
    x = progress(evidence.steps)
    columns.add("progress", x[None])
    columns.add("checkpoints", (evidence.n.sum(-1) > 0).sum(1)[:, None].astype(np.float64))
    columns.add("surfaces", float(n.shape[0]))


def _neighbours(
    columns: _Columns, evidence: Evidence, table: LevelTable, smoothed: Smoothed, n: Floats, k: Floats
) -> None:
    at, own = smoothed.mean / _DECADE, smoothed.own / _DECADE
    seen = np.where(k > 0, np.log10(np.maximum(k, 1e-9) / np.maximum(n, 1e-9)), np.nan)
    present, x = evidence.n.sum(-1) > 0, progress(evidence.steps)
    deep = _deep_weight(table) / _DECADE
    for by in (-2, -1, 1, 2):
        columns.add(f"own_at_{by}", _at_neighbour(own, present, by) - at)
        columns.add(f"median_at_{by}", _at_neighbour(at, present, by) - at)
        if abs(by) == 1:
            columns.add(f"seen_at_{by}", _at_neighbour(seen, present, by) - at)
            columns.add(f"deep_weight_at_{by}", _at_neighbour(deep, present, by))
            columns.add(f"gap_at_{by}", np.abs(_at_neighbour(np.tile(x, (len(at), 1)), present, by) - x))
    kind = type_index(evidence)
    columns.add("deep_weight", deep)
    columns.add("deep_weight_highest", np.nanmax(deep, 1, keepdims=True))
    columns.add("deep_weight_lowest", np.nanmin(deep, 1, keepdims=True))
    columns.add("deep_weight_last", _last_known(deep))
    columns.add("deep_weight_world", np.nanmedian(deep))
    others: dict[str, list[Floats]] = {"own": [], "median": [], "weight": [], "exploits": []}
    exploits = np.where(n > 0, np.log10(k + 0.3), np.nan)
    for j in range(len(kind)):
        same = np.flatnonzero((kind == kind[j]) & (np.arange(len(kind)) != j))
        for name, grid in (("own", own), ("median", at), ("weight", deep), ("exploits", exploits)):
            others[name].append(_between(x, grid[same]))
    columns.add("own_other_run", np.stack(others["own"]) - at)
    columns.add("median_other_run", np.stack(others["median"]) - at)
    columns.add("weight_other_run", np.stack(others["weight"]))
    columns.add("exploits_other_run", np.stack(others["exploits"]))
    columns.add("median_world", np.nanmedian(at, 0, keepdims=True) - at)
    columns.add("median_surface_highest", at.max(1, keepdims=True) - at)
    columns.add("median_surface_lowest", at.min(1, keepdims=True) - at)


def _deep_weight(table: LevelTable) -> Floats:
    """Log mean weight over the deeper half of the levels: [J, C]."""
    levels = table.n.shape[2]
    half = table.log_mean_weight[:, :, levels // 2 :]
    return np.asarray(np.nanmean(np.where(np.isfinite(half), half, np.nan), -1))


def _agreement(columns: _Columns, evidence: Evidence, smoothed: Smoothed, n: Floats, k: Floats) -> None:
    """Exploits seen against exploits that the prefilled attempts alone promised, per surface, type, run and world."""
    promised = n * expit(smoothed.given + 0.5 * np.minimum(smoothed.given_sd, 1.5) ** 2)
    own = np.where(k >= 1, np.log10(np.maximum(k, 1e-9) / np.maximum(n, 1e-9)) - smoothed.own / _DECADE, np.nan)
    kind = type_index(evidence)
    runs = np.array([s.run for s in evidence.surfaces])
    weight = np.minimum(k, 10.0)
    groups = {
        "surface": np.arange(len(kind)),
        "type": kind,
        "run": np.unique(runs, return_inverse=True)[1],
        "world": np.zeros(len(kind), np.int64),
    }
    for name, group in groups.items():
        member = group[:, None] == group
        columns.add(f"seen_{name}", np.log10(member @ k.sum(1) + 0.3)[:, None])
        columns.add(f"ratio_{name}", np.log10((member @ k.sum(1) + 0.5) / (member @ promised.sum(1) + 0.5))[:, None])
        mass = member @ np.nansum(np.where(np.isfinite(own), weight, 0.0), 1)
        total = member @ np.nansum(np.where(np.isfinite(own), weight * own, 0.0), 1)
        square = member @ np.nansum(np.where(np.isfinite(own), weight * own**2, 0.0), 1)
        centre = total / mass
        columns.add(f"offset_{name}", centre[:, None])
        columns.add(f"offset_sd_{name}", np.sqrt(np.maximum(square / mass - centre**2, 0))[:, None])
    later = np.cumsum(k[:, ::-1], 1)[:, ::-1] - k
    earlier = np.cumsum(k, 1) - k
    columns.add("seen_later", np.log10(later + 0.3))
    columns.add("seen_earlier", np.log10(earlier + 0.3))


def _lessons(
    columns: _Columns, evidence: Evidence, table: LevelTable, smoothed: Smoothed, n: Floats, k: Floats
) -> None:
    """What cells with direct exploits teach about the others: by how much their levels were low, at each depth, and
    how that goes with how much of the weight was missing."""
    direct = np.where(k >= 1, np.log10(np.maximum(k, 1e-9) / np.maximum(n, 1e-9)), np.nan)
    weight = np.where(k >= 1, np.minimum(k, 10.0), 0.0)
    for slot, level in enumerate(_slot_level(evidence.levels)):
        gap = direct - table.raw[:, :, level] / _DECADE if level >= 0 else np.full(n.shape, np.nan)
        columns.add(f"lesson{slot}", _weighted(np.clip(gap, -4, 4).reshape(-1), weight.reshape(-1)))
    gap = np.clip(direct - smoothed.own / _DECADE, -4, 4)
    short = np.clip(-_deep_weight(table) / _DECADE, -0.5, 6)
    known = (weight > 0) & np.isfinite(gap) & np.isfinite(short)
    w, g, x = (np.where(known, part, 0.0) for part in (weight, gap, short))
    columns.add("lesson_slope", (w * g * x).sum() / ((w * x * x).sum() + 1.0))
    columns.add("lesson_slope_surface", ((w * g * x).sum(1) / ((w * x * x).sum(1) + 1.0))[:, None])
    columns.add("lesson_shortest", np.where(known, short, np.inf).min() if known.any() else np.nan)
    columns.add("lesson_longest", np.where(known, short, -np.inf).max() if known.any() else np.nan)


def _tasks(columns: _Columns, evidence: Evidence, table: LevelTable) -> None:
    """How unevenly exploits fall on tasks, prefilled and not."""
    shape = columns.shape
    kind = type_index(evidence)
    rows, direct = evidence.rows, evidence.direct_rows
    columns.add("tasks_scored", np.log10(np.nanmax(table.tasks, -1) + 1))
    columns.add("tasks_hit", np.nanmax(np.where(table.n > 0, table.hit_tasks, 0.0), -1))
    some = table.s >= 3
    columns.add("tasks_uneven", np.nanmean(np.where(some, table.hit_tasks / table.rate, np.nan), -1))
    uneven, ever = np.full(shape[0], np.nan), np.full(shape[0], np.nan)
    for j in range(shape[0]):
        mine = rows.surface == j
        if not mine.any():
            continue
        _, task = np.unique(rows.task[mine], return_inverse=True)
        hits, tries = np.bincount(task, weights=rows.success[mine]), np.bincount(task)
        total = hits.sum()
        ever[j] = (hits > 0).mean()
        if total >= 5:
            rate = total / tries.sum()
            expected = (tries * rate * (1 - rate)).sum()
            uneven[j] = np.log10(((hits - tries * rate) ** 2).sum() / max(expected, 1e-9))
    columns.add("tasks_dispersion", uneven[:, None])
    columns.add("tasks_ever_hit", ever[:, None])
    most, n_tasks, share = (np.full(shape[0], np.nan) for _ in range(3))
    if direct is not None and len(direct.n):
        for j in range(shape[0]):
            mine = direct.surface == j
            if not mine.any():
                continue
            _, task = np.unique(direct.task[mine], return_inverse=True)
            hits = np.bincount(task, weights=direct.k[mine])
            n_tasks[j] = len(hits)
            if hits.sum() > 1:
                most[j] = hits.max() / hits.sum()
                share[j] = (hits > 0).mean()
    columns.add("tasks_direct", np.log10(n_tasks)[:, None])
    columns.add("tasks_direct_most", most[:, None])
    columns.add("tasks_direct_share", share[:, None])
    with_trace = np.array([np.nanmax(table.tasks[j]) for j in range(shape[0])]) / n_tasks
    columns.add("tasks_with_trace", with_trace[:, None])
    pooled = np.array([np.nanmean(ever[kind == t]) for t in range(int(kind.max()) + 1)])
    columns.add("tasks_ever_hit_type", pooled[kind][:, None])
