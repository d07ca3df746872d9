"""The rate from unprompted attempts alone, with exact limits.

A zero count has no point estimate. (s + 1) / (n + 2) would rank cells by sample size.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import beta

from foreshock.analysis.evidence.estimate import Limits


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
