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
    error = float(np.sqrt(1 / sum(1 / max(_variance(part), 1e-300) for part in parts)))
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
    """Mean of the parts' means; the precision of each is read from its other half."""
    spread = [_variance(other) for other in others]
    floor = max(max(spread) * 1e-6, 1e-300)  # a half of equal values says nothing of its precision
    weights = np.array([1 / max(one, floor) for one in spread])
    return float((weights * [part.mean() for part in values]).sum() / weights.sum())
