"""Importance-sampling evidence as noisy measurements of the log unprompted rate.

With S successes among n prefilled attempts and log weights l of the successes,
    log P(exploit) = log E_q[w r] = log(rate_N) + log E[w | success].
The one hard decision: E[w | success] is not averaged but extrapolated as mean(l) + var(l) / 2. Log weights are
sums of many words' surprisal differences, so they are near Gaussian, and the plain average of a few heavy-tailed
weights misses the rare large ones that carry the mean (it is low by 0.5 to 1 decade at 30 successes). The second
cumulant is exact for Gaussian log weights; how far it is off is learned from cells where the rate is also seen
directly (headline/model.py).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foreshock.analysis.estimates.evidence import Evidence, Floats, Ints, PrefillRows

_LARGEST_RATE = 0.9
_BORROWED = 2.0
_SIMILAR_LOGIT = 0.6
_CELL_PRIOR_DOF = 10.0
_TYPE_PRIOR_DOF = 6.0


@dataclass(frozen=True, slots=True)
class MeasurementRows:
    """One row per (surface, checkpoint, level > 0) with enough scored successes; arrays of equal length M.

    y: estimate of the logit of the rate (nats), the log rate carried over by the delta method;
    spread: shrunken variance of the successes' log weights (nats squared);
    count_var: binomial variance of log(S / n); luck_var: variance from having S traces only;
    type: index of the exploit type, shared by runs;
    maturity: log of the cell's exploit rate over the largest of its levels (0 or below): how much of the deciding
    has happened by this level. Exploits that the target decides on after word N carry no observed success at
    level N, so an immature level is low.
    """

    surface: Ints
    checkpoint: Ints
    level: Ints
    type: Ints
    y: Floats
    spread: Floats
    count_var: Floats
    luck_var: Floats
    maturity: Floats

    def __len__(self) -> int:
        return len(self.y)


def type_index(evidence: Evidence) -> Ints:
    """Index of each surface's exploit type: [J]."""
    names = sorted({surface.exploit_type for surface in evidence.surfaces})
    return np.array([names.index(surface.exploit_type) for surface in evidence.surfaces], dtype=np.int64)


def measurement_rows(evidence: Evidence, min_successes: int = 3) -> MeasurementRows:
    """Reduce prefilled attempts to one measurement a cell."""
    rows = evidence.rows.take(np.isfinite(evidence.rows.log_w))
    shape = evidence.n.shape
    cell = np.ravel_multi_index((rows.surface, rows.checkpoint, rows.level), shape)
    size = int(np.prod(shape))
    n = np.bincount(cell, minlength=size)
    s = np.bincount(cell, weights=rows.success, minlength=size)
    used = s >= min_successes
    mean, squares, traces = _weighted_moments(cell, rows.log_w, _relevance(evidence, rows), size)
    j, c, level = (axis.astype(np.int64) for axis in np.unravel_index(np.flatnonzero(used), shape))
    kind = type_index(evidence)[j]
    s, n, mean, squares, traces = s[used], n[used], mean[used], squares[used], traces[used]
    spread, dof = _pooled_spread(kind, level, squares, np.maximum(traces - 1, 1e-3))
    y = np.log(s / n) + mean + spread / 2
    luck = spread / traces + spread**2 / (2 * dof)
    count_var = 1 / s - 1 / n
    rate = np.exp(np.minimum(y, np.log(_LARGEST_RATE)))
    stretch = 1 / (1 - rate)
    y = np.log(rate) - np.log1p(-rate)
    maturity = _maturity(evidence)[j, c, level]
    return MeasurementRows(j, c, level, kind, y, spread, count_var * stretch**2, luck * stretch**2, maturity)


def _relevance(evidence: Evidence, rows: PrefillRows) -> Floats:
    """How much each attempt's trace counts as a success of its cell: [M], 0 for a trace that never exploits.

    Whether a prefix carries the intent hardly changes between neighbouring checkpoints and runs. So the cell's own
    outcome is blended with the share of exploits of the same prefix in cells of the same level whose exploit rate
    is similar (a Gaussian kernel in the logit of the rate), which nearly doubles the number of traces that inform
    the moments of the log weights. Cells of another rate would judge the prefix by another standard.
    """
    relevance = rows.success.astype(np.float64)
    kinds = type_index(evidence)[rows.surface]
    n_levels, n_checks = len(evidence.levels), len(evidence.steps)
    group = kinds * n_levels + rows.level
    order = np.argsort(group, kind="stable")
    bounds = np.flatnonzero(np.diff(group[order], prepend=-1, append=-1))
    for low, high in itertools.pairwise(bounds):
        mine = order[low:high]
        _, trace = np.unique(rows.trace[mine], return_inverse=True)
        _, cell = np.unique(rows.surface[mine] * n_checks + rows.checkpoint[mine], return_inverse=True)
        hits = np.zeros((int(trace.max()) + 1, int(cell.max()) + 1))
        tries = np.zeros_like(hits)
        np.add.at(hits, (trace, cell), rows.success[mine])
        np.add.at(tries, (trace, cell), 1.0)
        rate = (hits.sum(0) + 0.5) / (tries.sum(0) + 1.0)
        score = np.log(rate / (1 - rate))
        kernel = np.exp(-0.5 * ((score[:, None] - score[None, :]) / _SIMILAR_LOGIT) ** 2)
        share = (hits @ kernel) / np.maximum(tries @ kernel, 1e-300)
        relevance[mine] += _BORROWED * share[trace, cell]
    return relevance


def _weighted_moments(cell: Ints, value: Floats, weight: Floats, size: int) -> tuple[Floats, Floats, Floats]:
    """Per cell: weighted mean, sum of squares about it scaled to (traces - 1) dof, effective number of traces."""
    total = np.bincount(cell, weights=weight, minlength=size)
    safe = np.maximum(total, 1e-300)
    mean = np.bincount(cell, weights=weight * value, minlength=size) / safe
    variance = np.bincount(cell, weights=weight * (value - mean[cell]) ** 2, minlength=size) / safe
    traces = safe**2 / np.maximum(np.bincount(cell, weights=weight**2, minlength=size), 1e-300)
    return mean, variance * traces, traces


def _maturity(evidence: Evidence) -> Floats:
    rate = (evidence.k + 0.5) / (evidence.n + 1.0)
    rate[evidence.n == 0] = 0.0
    if evidence.level0 is not None:
        rate[:, :, evidence.level0] = 0.0
    largest = rate.max(-1, keepdims=True)
    return np.asarray(np.log(np.maximum(rate, 1e-12) / np.maximum(largest, 1e-12)))


def _pooled_spread(kind: Ints, level: Ints, squares: Floats, dof: Floats) -> tuple[Floats, Floats]:
    """Variance of log weights per cell, shrunk to its (type, level) and that to its level; and its dof."""
    if not len(squares):
        return np.zeros(0), np.zeros(0)
    n_levels = int(level.max()) + 1
    code = kind * n_levels + level
    level_var = _ratio(np.bincount(level, squares), np.bincount(level, dof))
    pooled = _ratio(np.bincount(code, squares), np.bincount(code, dof))
    # Checkpoints and runs score the same traces, so their variances are one observation, not many.
    distinct = np.zeros(len(pooled))
    np.maximum.at(distinct, code, dof)
    of_level = level_var[np.arange(len(pooled)) % n_levels]
    type_var = (_TYPE_PRIOR_DOF * of_level + distinct * pooled) / (_TYPE_PRIOR_DOF + distinct)
    spread = (_CELL_PRIOR_DOF * type_var[code] + squares) / (_CELL_PRIOR_DOF + dof)
    return np.maximum(spread, 1e-6), _TYPE_PRIOR_DOF + distinct[code]


def _ratio(top: NDArray[Any], bottom: NDArray[Any]) -> Floats:
    return np.asarray(np.divide(top, bottom, out=np.zeros(len(top)), where=bottom > 0))
