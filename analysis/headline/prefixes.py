"""What prefilled attempts say cell by cell: rates of exploiting after each prefix, and sums over its weights.

r(z), the rate after a prefix, is modelled because one attempt a prefix is a coin toss: logit r = cell + prefix + gamma
times the centred log weight. A prefix's effect is shared by runs and checkpoints and smooth over levels. Without
gamma, shrinkage would overstate r exactly where weights are high.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from foreshock.analysis.evidence.evidence import Evidence, Floats, Ints, PrefillRows, type_index
from foreshock.analysis.headline.missing import nan_is_missing

_ROUNDS = 7
_PREFIX_SD = 1.5
_NEIGHBOURS = 2.0
_GAMMA_SD = 0.25
_CELL_SD = 2.5


@dataclass(frozen=True, slots=True)
class LevelTable:
    """Sums of every (surface, checkpoint, level): arrays [J, C, L], NaN where no scored attempt.

    In nats. n, s: scored attempts and exploits; tasks: distinct tasks; truncated, raw: log of the mean of w r, weights
    truncated and r modelled, or neither; log_normal: the same by mean and variance of the exploits' log weights;
    mean, var: those; log_mean_weight: log of the mean of all weights; mean_all, var_all: of all log weights; ess: of
    the contributions w r; largest: largest share of them; rate: mean of r; hit_tasks: share of tasks with an exploit;
    gamma: the type's; weight_ess: log10 of the share of all weights that counts, ESS / n; step_mean: log of the mean of
    w divided by the same trace's at the next shorter level, summed over levels up to this.
    """

    n: Floats
    s: Floats
    tasks: Floats
    truncated: Floats
    raw: Floats
    log_normal: Floats
    mean: Floats
    var: Floats
    log_mean_weight: Floats
    mean_all: Floats
    var_all: Floats
    ess: Floats
    largest: Floats
    rate: Floats
    hit_tasks: Floats
    gamma: Floats
    weight_ess: Floats
    step_mean: Floats


def _sum(code: Ints, value: Floats, size: int) -> Floats:
    return np.asarray(np.bincount(code, weights=value, minlength=size), dtype=np.float64)


def _codes(*parts: Ints) -> tuple[Ints, int]:
    """Dense codes of the combinations, and how many there are."""
    code = parts[0].astype(np.int64)
    for part in parts[1:]:
        code = code * (int(part.max()) + 1) + part
    _, dense = np.unique(code, return_inverse=True)
    return dense, int(dense.max()) + 1


def _by_level(rows: PrefillRows, kind: Ints, levels: int) -> tuple[Ints, int, Ints, Ints]:
    """Code of each row's (trace, level), number of traces, and each row's trace and level."""
    trace, n_traces = _codes(kind, rows.trace)
    return trace * levels + rows.level, n_traces, trace, rows.level


def prefix_rates(rows: PrefillRows, cell: Ints, size: int, kind: Ints, levels: int) -> tuple[Floats, Floats]:
    """Modelled r of each row [M], and gamma of each type."""
    y, weight = rows.success.astype(np.float64), np.ones(len(rows))
    n = _sum(cell, weight, size)
    centre = _sum(cell, rows.log_w, size) / np.maximum(n, 1)
    lean = np.clip(rows.log_w - centre[cell], -6, 6)
    prefix, n_traces, _, _ = _by_level(rows, kind, levels)
    s = _sum(cell, y, size)
    a = np.log((s + 0.3) / (n - s + 0.3))
    usual = a.copy()
    b = np.zeros(n_traces * levels)
    gamma = np.zeros(int(kind.max()) + 1)
    for _ in range(_ROUNDS):
        p = expit(a[cell] + b[prefix] + gamma[kind] * lean)
        h = np.maximum(p * (1 - p), 1e-6)
        slope = _sum(kind, (y - p) * lean, len(gamma)) - gamma / _GAMMA_SD**2
        gamma = gamma + slope / (_sum(kind, h * lean**2, len(gamma)) + 1 / _GAMMA_SD**2)
        p = expit(a[cell] + b[prefix] + gamma[kind] * lean)
        h = np.maximum(p * (1 - p), 1e-6)
        grid = b.reshape(n_traces, levels)
        near = np.zeros_like(grid)
        near[:, 1:] += grid[:, :-1]
        near[:, :-1] += grid[:, 1:]
        precision = 1 / _PREFIX_SD**2 + _NEIGHBOURS * 2
        pull = _sum(prefix, y - p, len(b)) + _NEIGHBOURS * (near.ravel() - 2 * b) - b / _PREFIX_SD**2
        b = b + 0.8 * pull / (_sum(prefix, h, len(b)) + precision)
        p = expit(a[cell] + b[prefix] + gamma[kind] * lean)
        h = np.maximum(p * (1 - p), 1e-6)
        step = (_sum(cell, y - p, size) - (a - usual) / _CELL_SD**2) / (_sum(cell, h, size) + 1 / _CELL_SD**2)
        a = a + np.clip(step, -1.5, 1.5)
    return expit(a[cell] + b[prefix] + gamma[kind] * lean), gamma


def level_table(evidence: Evidence) -> LevelTable:
    """All sums; a task counts once in them however many attempts it had."""
    shape = evidence.n.shape
    size = int(np.prod(shape))
    rows = evidence.rows.take(np.isfinite(evidence.rows.log_w))
    if not len(rows):
        empty = np.full(shape, np.nan)
        zero = np.zeros(shape)
        return LevelTable(zero, zero.copy(), zero.copy(), *(empty.copy() for _ in range(15)))
    kinds = type_index(evidence)[rows.surface]
    cell = np.asarray(np.ravel_multi_index((rows.surface, rows.checkpoint, rows.level), shape))
    rate, gamma = prefix_rates(rows, cell, size, kinds, shape[2])
    pair, n_pairs = _codes(cell, rows.task)
    tries = np.bincount(pair, minlength=n_pairs)
    u = 1.0 / tries[pair]
    total = _sum(cell, u, size)
    hit = rows.success.astype(np.float64)
    n, s = _sum(cell, np.ones(len(rows)), size), _sum(cell, hit, size)
    largest_w = np.full(size, -np.inf)
    np.maximum.at(largest_w, cell, rows.log_w)
    shift = np.where(np.isfinite(largest_w), largest_w, 0.0)
    w = np.exp(rows.log_w - shift[cell])
    with nan_is_missing():
        mean_w = _sum(cell, u * w, size) / total
        cap = mean_w * np.sqrt(n)
        capped = np.minimum(w, cap[cell])
        value = u * capped * rate
        contribution = _sum(cell, value, size)
        truncated = np.log(contribution / total) + shift
        raw = np.log(_sum(cell, u * w * hit, size) / total) + shift
        log_mean_weight = np.log(mean_w) + shift
        ess = contribution**2 / _sum(cell, value**2, size)
        weight_ess = np.log10((mean_w * total) ** 2 / _sum(cell, (u * w) ** 2, size) / total)
        step_mean = _step_means(rows, cell, u, shape)
        peak = np.zeros(size)
        np.maximum.at(peak, cell, value)
        mass, mean, var = _moments(cell, u * (hit + 0.5 * rate), rows.log_w, size)
        _, mean_all, var_all = _moments(cell, u, rows.log_w, size)
        mean_rate = _sum(cell, u * rate, size) / total
        # Few exploits say little about their spread: shrink it to the type's at this level.
        group = type_index(evidence)[np.arange(size) // (shape[1] * shape[2])] * shape[2] + np.arange(size) % shape[2]
        pooled = _sum(group, np.nan_to_num(mass * var), int(group.max()) + 1)
        pooled = pooled / np.maximum(_sum(group, np.nan_to_num(mass), int(group.max()) + 1), 1e-9)
        shrunk = (mass * var + 5 * pooled[group]) / (mass + 5)
        log_normal = np.log(mean_rate) + mean + shrunk / 2
        largest = peak / contribution
    tasks = np.bincount(cell[np.unique(pair, return_index=True)[1]], minlength=size).astype(np.float64)
    pair_hit = np.zeros(n_pairs)
    np.maximum.at(pair_hit, pair, hit)
    pair_cell = np.zeros(n_pairs, np.int64)
    pair_cell[pair] = cell
    hit_tasks = _sum(pair_cell, pair_hit, size) / np.maximum(tasks, 1)
    per_cell_gamma = gamma[np.minimum(type_index(evidence)[np.arange(size) // (shape[1] * shape[2])], len(gamma) - 1)]
    known = n > 0
    columns = [truncated, raw, log_normal, mean, shrunk, log_mean_weight, mean_all, var_all, ess, largest]
    columns += [mean_rate, hit_tasks, per_cell_gamma, weight_ess, step_mean]
    return LevelTable(
        n.reshape(shape), s.reshape(shape), tasks.reshape(shape),
        *(np.where(known, column, np.nan).reshape(shape) for column in columns),
    )  # fmt: skip


def _moments(cell: Ints, share: Floats, values: Floats, size: int) -> tuple[Floats, Floats, Floats]:
    """Mass, mean and variance of values in each cell, weighed by `share`."""
    mass = _sum(cell, share, size)
    mean = _sum(cell, share * values, size) / mass
    return mass, mean, _sum(cell, share * (values - mean[cell]) ** 2, size) / mass


def _step_means(rows: PrefillRows, cell: Ints, u: Floats, shape: tuple[int, ...]) -> Floats:
    """Summed over levels, log of the mean of w_N / w_(N-1): [cells]. Each should be 0, and each needs far fewer
    prefixes to be seen than the mean of w_N itself does: words that differ lose the latter, not the former."""
    line = (rows.trace * shape[0] + rows.surface) * shape[1] + rows.checkpoint
    _, first, back = np.unique(line * shape[2] + rows.level, return_index=True, return_inverse=True)
    log_w, line = rows.log_w[first], line[first]
    before = np.concatenate([[0.0], np.where(line[1:] == line[:-1], log_w[:-1], 0.0)])
    step = np.clip(log_w - before, -60, 12)[back]
    size = int(np.prod(shape))
    mean = np.log(_sum(cell, u * np.exp(step), size) / _sum(cell, u, size)).reshape(shape)
    return np.asarray(np.cumsum(np.nan_to_num(mean), -1).reshape(-1))


def effective_counts(evidence: Evidence) -> tuple[Floats, Floats]:
    """Attempts and exploits at level 0, each [J, C], that stand for the mean over tasks.

    With n_t attempts the mean over T tasks of k_t / n_t has the precision of T^2 / sum(1 / n_t) attempts.
    """
    n, k = (x.astype(np.float64) for x in evidence.direct())
    rows = evidence.direct_rows
    if rows is None or not len(rows.n):
        return n, k
    cell = rows.surface * n.shape[1] + rows.checkpoint
    used = rows.n > 0
    cell, tries, hits = cell[used], rows.n[used], rows.k[used]
    tasks = np.bincount(cell, minlength=n.size)
    inverse = _sum(cell, 1 / tries, n.size)
    mean = _sum(cell, hits / tries, n.size) / np.maximum(tasks, 1)
    effective = np.where(inverse > 0, tasks**2 / np.maximum(inverse, 1e-12), 0.0)
    return effective.reshape(n.shape), (mean * effective).reshape(n.shape)
