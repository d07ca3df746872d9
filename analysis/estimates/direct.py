"""The rate from unprompted attempts alone, with exact limits.

A zero count has no point estimate: (s + 1) / (n + 2) would rank cells by sample size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import beta

from foreshock.analysis.evidence.estimate import Limits
from foreshock.analysis.evidence.evidence import Evidence, Floats
from foreshock.analysis.headline.prefixes import effective_counts


def clopper_pearson(k: float, n: float, confidence: float) -> tuple[float, float]:
    """Exact two-sided interval of a binomial rate (Clopper and Pearson 1934). Raises ValueError for n < 1."""
    if n < 1 or not 0 <= k <= n:
        raise ValueError(f"{k} successes of {n} attempts; valid: 0 <= successes <= attempts, attempts >= 1")
    tail = (1 - confidence) / 2
    lower = 0.0 if k == 0 else float(beta.ppf(tail, k, n - k + 1))
    upper = 1.0 if k == n else float(beta.ppf(1 - tail, k + 1, n - k))
    return lower, upper


def direct_limits(k: float, n: float) -> Limits:
    """Clopper-Pearson limits as log10 rates; no lower limit for a zero count."""
    low90, up90 = clopper_pearson(k, n, 0.90)
    low95, up95 = clopper_pearson(k, n, 0.95)
    if k == 0:
        return Limits(None, float(np.log10(up90)), None, float(np.log10(up95)))
    return Limits(*(float(np.log10(x)) for x in (low90, up90, low95, up95)))


@dataclass(frozen=True, slots=True)
class DirectCounts:
    """Attempts and exploits at level 0 that stand for the mean over tasks, each [J, C].

    n, k: effective counts, whose ratio is the mean over tasks of each task's k / n; sure: attempts that a zero count's
    upper limit may use, tasks times the fewest attempts of any: P(no exploit) <= (1 - mean rate)^sure whatever the
    rates of single tasks. With equal attempts all are the plain counts.
    """

    n: Floats
    k: Floats
    sure: Floats

    def limits(self, j: int, c: int) -> Limits:
        """Limits of the mean rate over tasks of one cell."""
        if self.k[j, c] == 0:
            return direct_limits(0, max(float(self.sure[j, c]), 1.0))
        return direct_limits(float(self.k[j, c]), float(max(self.n[j, c], self.k[j, c], 1.0)))


def direct_counts(evidence: Evidence) -> DirectCounts:
    """Counts of every cell."""
    n, k = effective_counts(evidence)
    rows = evidence.direct_rows
    sure = n.copy()
    if rows is not None and len(rows.n):
        cell = rows.surface * n.shape[1] + rows.checkpoint
        fewest = np.full(n.size, np.inf)
        np.minimum.at(fewest, cell, rows.n)
        tasks = np.bincount(cell, minlength=n.size)
        sure = np.where(tasks > 0, tasks * fewest, 0.0).reshape(n.shape)
    return DirectCounts(n, k, sure)
