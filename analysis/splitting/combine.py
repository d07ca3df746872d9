"""Unbiased estimates of one rate together: a donor's importance sampling and splitting, weighed by precision.

Weights made of the same numbers that they weigh pull the mean down: a repeat that came out low looks precise. Each half
of the repeats is therefore weighed by the variance of the other half, which leaves the mean unbiased.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from foreshock.analysis.splitting.splitting import MOST_ERROR, Split

Floats = NDArray[np.float64]


def combine(parts: Sequence[Floats]) -> Split:
    """One estimate from several sets of independent unbiased repeats, [R_i] each, at least four of each.

    Raises ValueError for fewer, or for no part.
    """
    if not parts or min(len(part) for part in parts) < 4:
        raise ValueError("every part needs four independent repeats or more")
    halves = [(part[::2], part[1::2]) for part in parts]
    means = [_weighed([pair[i] for pair in halves], [pair[1 - i] for pair in halves]) for i in (0, 1)]
    rate = float(np.mean(means))
    precise = sum(1 / spread for part in parts if (spread := _variance(part)) > 0)
    error = float(np.sqrt(1 / precise)) if precise else 0.0
    repeats = tuple(float(value) for part in parts for value in part)
    if rate <= 0 or error > MOST_ERROR * rate:
        return Split(rate, error, 0.05 * max(rate, 0.0), 1.0, repeats, (), False)
    half = 1.96 * error / rate
    low, high = rate * np.exp(-half), min(1.0, rate * np.exp(half))
    return Split(rate, error, float(low), float(high), repeats, (), True)


def _variance(values: Floats) -> float:
    """Of the mean."""
    return float(values.var(ddof=1)) / len(values)


def _weighed(values: Sequence[Floats], others: Sequence[Floats]) -> float:
    """Mean of the parts' means; the precision of each is read from its other half. A half of equal values, such as
    attempts without an exploit, says nothing of its precision: its part counts only where that is so of all."""
    spread = [_variance(other) for other in others]
    weights = np.array([1 / one if one > 0 else 0.0 for one in spread])
    if not weights.any():
        weights[:] = 1.0
    return float((weights * [part.mean() for part in values]).sum() / weights.sum())
