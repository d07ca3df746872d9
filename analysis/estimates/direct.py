"""The rate from unprompted attempts alone, with exact limits.

A zero count has no point estimate: (s + 1) / (n + 2) would rank cells by sample size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import beta, chi2

from foreshock.analysis.evidence.estimate import Limits
from foreshock.analysis.evidence.evidence import Bools, Evidence, Floats
from foreshock.analysis.headline.prefixes import effective_counts


def clopper_pearson(k: int, n: int, confidence: float) -> tuple[float, float]:
    """Exact two-sided interval of a binomial rate (Clopper and Pearson 1934). Raises ValueError for n < 1."""
    if n < 1 or not 0 <= k <= n:
        raise ValueError(f"{k} successes of {n} attempts; valid: 0 <= successes <= attempts, attempts >= 1")
    tail = (1 - confidence) / 2
    lower = 0.0 if k == 0 else float(beta.ppf(tail, k, n - k + 1))
    upper = 1.0 if k == n else float(beta.ppf(1 - tail, k + 1, n - k))
    return lower, upper


def direct_limits(k: int, n: int) -> Limits:
    """Clopper-Pearson limits as log10 rates; no lower limit for a zero count."""
    low90, up90 = clopper_pearson(k, n, 0.90)
    low95, up95 = clopper_pearson(k, n, 0.95)
    if k == 0:
        return Limits(None, float(np.log10(up90)), None, float(np.log10(up95)))
    return Limits(*(float(np.log10(x)) for x in (low90, up90, low95, up95)))


def weighted_limits(mean: float, square: float, largest: float, confidence: float) -> tuple[float, float]:
    """Interval of a weighted sum of counts, sum w k (Fay and Feuer 1997, Statistics in Medicine 16:791).

    mean: sum w k; square: sum w^2 k; largest: the largest w. Holds whatever the rates behind the counts; for equal
    weights it is Garwood's exact interval of a Poisson mean, a little wider than a binomial one.
    """
    tail = (1 - confidence) / 2
    lower = 0.0 if mean <= 0 else float(square / (2 * mean) * chi2.ppf(tail, 2 * mean**2 / square))
    more, most = mean + largest, square + largest**2
    return lower, min(float(most / (2 * more) * chi2.ppf(1 - tail, 2 * more**2 / most)), 1.0)


@dataclass(frozen=True, slots=True)
class DirectCounts:
    """Attempts and exploits at level 0 that stand for the mean over tasks, each [J, C].

    n, k: effective counts, whose ratio is the mean over tasks of each task's k / n; square, largest: sum of w^2 k and
    the largest w, with w = 1 / (tasks times the task's attempts), so that sum of w k is that mean; equal: whether all
    tasks had equal attempts, where all of it is the plain counts.
    """

    n: Floats
    k: Floats
    square: Floats
    largest: Floats
    equal: Bools

    def limits(self, j: int, c: int) -> Limits:
        """Limits of the mean rate over tasks of one cell with an attempt; no lower one for a zero count."""
        n, k = float(self.n[j, c]), float(self.k[j, c])
        if self.equal[j, c]:
            return direct_limits(round(k), round(n))
        ends = [weighted_limits(k / n, self.square[j, c], self.largest[j, c], level) for level in (0.90, 0.95)]
        (low90, up90), (low95, up95) = ends
        if k <= 0:
            return Limits(None, float(np.log10(up90)), None, float(np.log10(up95)))
        return Limits(*(float(np.log10(x)) for x in (low90, up90, low95, up95)))


def direct_counts(evidence: Evidence) -> DirectCounts:
    """Counts of every cell."""
    n, k = effective_counts(evidence)
    rows = evidence.direct_rows
    square, largest = np.zeros(n.shape), np.zeros(n.shape)
    equal = np.ones(n.shape, dtype=bool)
    if rows is not None and len(rows.n):
        cell = rows.surface * n.shape[1] + rows.checkpoint
        fewest, most = np.full(n.size, np.inf), np.zeros(n.size)
        np.minimum.at(fewest, cell, rows.n)
        np.maximum.at(most, cell, rows.n)
        tasks = np.bincount(cell, minlength=n.size)
        weight = 1 / (tasks[cell] * np.maximum(rows.n, 1))
        squares = np.bincount(cell, weights=weight**2 * rows.k, minlength=n.size)
        square = np.asarray(squares, dtype=np.float64).reshape(n.shape)
        least = np.where(np.isfinite(fewest), fewest, 1.0)
        largest = np.asarray(1 / np.maximum(tasks * least, 1.0), dtype=np.float64).reshape(n.shape)
        equal = ((fewest == most) | (tasks == 0)).reshape(n.shape)
    return DirectCounts(n, k, square, largest, equal)
