"""Importance-sampling evidence as noisy measurements of the log unprompted rate.

With S successes among n prefilled attempts and log weights l of the successes,
    log P(exploit) = log E_q[w r] = log(rate_N) + log E[w | success].
E[w | success] is not averaged but extrapolated as mean(l) + var(l) / 2. Log weights are
sums of many words' surprisal differences, so they are near Gaussian, and the plain average of a few heavy-tailed
weights misses the rare large ones that carry the mean (it is low by 0.5 to 1 decade at 30 successes). The second
cumulant is exact for Gaussian log weights; how far it is off is learned from cells where the rate is also seen
directly (adaptive/model.py).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foreshock.analysis.evidence.evidence import Bools, Evidence, Floats, Ints, PrefillRows, type_index

ENOUGH_SUCCESSES = 3
_LARGEST_RATE = 0.9
_BORROWED = 2.0
_SIMILAR_LOGIT = 0.6
_BORROWED_FROM_ALL = 0.05
_FEWEST_TRACES = 3.0
_UNDECIDED = 0.2
UNINFORMATIVE = 1e4
_CELL_PRIOR_DOF = 10.0
_TYPE_PRIOR_DOF = 6.0


@dataclass(frozen=True, slots=True)
class MeasurementRows:
    """One row per (surface, checkpoint, level > 0) with scored attempts; arrays of equal length M.

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
    coverage: Floats
    attempts: Ints
    successes: Ints
    lift: Floats

    @property
    def sparse(self) -> Bools:
        """Rows with too few successes for a Gaussian measurement: [M]."""
        return self.successes < ENOUGH_SUCCESSES

    def __len__(self) -> int:
        return len(self.y)


def measurement_rows(evidence: Evidence) -> MeasurementRows:
    """Reduce prefilled attempts to one measurement a cell."""
    rows = evidence.rows.take(np.isfinite(evidence.rows.log_w))
    shape = evidence.n.shape
    cell = np.ravel_multi_index((rows.surface, rows.checkpoint, rows.level), shape)
    size = int(np.prod(shape))
    n = np.bincount(cell, minlength=size)
    s = np.bincount(cell, weights=rows.success, minlength=size)
    mean, squares, traces = _weighted_moments(cell, rows.log_w, _relevance(evidence, rows), size)
    _, all_squares, _ = _weighted_moments(cell, rows.log_w, np.ones(len(rows)), size)
    used = (n > 0) & ((s >= ENOUGH_SUCCESSES) | (traces >= _FEWEST_TRACES))
    j, c, level = (axis.astype(np.int64) for axis in np.unravel_index(np.flatnonzero(used), shape))
    kind = type_index(evidence)[j]
    coverage = _coverage(evidence, rows, cell)[used]
    s, n, mean, squares, traces = s[used], n[used], mean[used], squares[used], traces[used]
    whole = _Variation(all_squares[used], np.maximum(n - 1, 1e-3))
    spread, dof = _pooled_spread(kind, level, _Variation(squares, np.maximum(traces - 1, 1e-3)), whole)
    lift = mean + spread / 2
    luck = spread / traces + spread**2 / (2 * dof)
    enough = s >= ENOUGH_SUCCESSES
    count_var = np.where(enough, 1 / np.maximum(s, 1) - 1 / n, UNINFORMATIVE)
    rate = np.exp(np.minimum(np.log(np.maximum(s, 0.5) / n) + lift, np.log(_LARGEST_RATE)))
    stretch = np.where(enough, 1 / (1 - rate), 1.0)
    y = np.log(rate) - np.log1p(-rate)
    maturity = _maturity(evidence)[j, c, level]
    return MeasurementRows(
        j, c, level, kind, y, spread, count_var * stretch**2, luck * stretch**2, maturity, coverage,
        n.astype(np.int64), s.astype(np.int64), lift,
    )  # fmt: skip


def _coverage(evidence: Evidence, rows: PrefillRows, cell: Ints) -> Floats:
    """Log mean weight at the deepest undecided level below each cell: flat, 0 where there is none.

    The plain mean, not the log-normal one of `lift`: prefixes of donors that have decided and of those that have not
    are a mixture, whose variance would be taken for a tail.
    """
    size = evidence.n.size
    largest = np.full(size, -np.inf)
    np.maximum.at(largest, cell, rows.log_w)
    total = np.bincount(cell, weights=np.exp(rows.log_w - largest[cell]), minlength=size)
    n = np.bincount(cell, minlength=size)
    with np.errstate(divide="ignore", invalid="ignore"):
        log_mean = np.where(n > 0, np.log(total) + largest - np.log(n), 0.0).reshape(evidence.n.shape)
    rate = (evidence.k + 0.5) / (evidence.n + 1.0)
    scored = (n > 0).reshape(rate.shape)
    found = np.zeros(rate.shape)
    for level in range(rate.shape[-1]):
        for earlier in range(level):
            undecided = scored[..., earlier] & (rate[..., earlier] < _UNDECIDED * rate[..., level])
            found[..., level] = np.where(undecided, log_mean[..., earlier], found[..., level])
    return found.reshape(-1)


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
        # Cells that exploit too rarely to have such neighbours borrow from all, faintly enough to give way elsewhere.
        overall = hits.sum(1) / np.maximum(tries.sum(1), 1.0)
        relevance[mine] += _BORROWED * share[trace, cell] + _BORROWED_FROM_ALL * overall[trace]
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


@dataclass(frozen=True, slots=True)
class _Variation:
    """Sums of squares of log weights about their cell's mean, and their degrees of freedom: [M]."""

    squares: Floats
    dof: Floats


def _pooled_spread(kind: Ints, level: Ints, hits: _Variation, whole: _Variation) -> tuple[Floats, Floats]:
    """Variance of the successes' log weights per cell, shrunk to its (type, level), and its dof.

    The (type, level) is shrunk to the variance of *all* its log weights, many more, times how the two compare at this
    level over all types: how far a type's donor writes from the target differs more between types than that ratio.
    """
    if not len(kind):
        return np.zeros(0), np.zeros(0)
    n_levels = int(level.max()) + 1
    code = kind * n_levels + level
    pooled = _ratio(np.bincount(code, hits.squares), np.bincount(code, hits.dof))
    pooled_whole = _ratio(np.bincount(code, whole.squares), np.bincount(code, whole.dof))
    usual = _ratio(np.bincount(level, hits.dof * pooled[code]), np.bincount(level, hits.dof * pooled_whole[code]))
    # Checkpoints and runs score the same traces, so their variances are one observation, not many.
    distinct = np.zeros(len(pooled))
    np.maximum.at(distinct, code, hits.dof)
    expected = usual[np.arange(len(pooled)) % n_levels] * pooled_whole
    type_var = (_TYPE_PRIOR_DOF * expected + distinct * pooled) / (_TYPE_PRIOR_DOF + distinct)
    spread = (_CELL_PRIOR_DOF * type_var[code] + hits.squares) / (_CELL_PRIOR_DOF + hits.dof)
    return np.maximum(spread, 1e-6), _TYPE_PRIOR_DOF + distinct[code]


def _ratio(top: NDArray[Any], bottom: NDArray[Any]) -> Floats:
    return np.asarray(np.divide(top, bottom, out=np.zeros(len(top)), where=bottom > 0))
