"""Array types and small numerical helpers that the simulated worlds share."""

from __future__ import annotations

from typing import Any

import numpy as np
from benchmarks.calibration.regimes import Range
from numpy.typing import NDArray

Array = NDArray[np.float64]
Ints = NDArray[np.int64]


def draw(rng: np.random.Generator, bounds: Range, size: tuple[int, ...] | None = None) -> Array:
    """Uniform within the bounds."""
    return np.asarray(rng.uniform(bounds.low, bounds.high, size))


def cumulative(p: Any) -> Array:
    """Cumulative sum over the last axis."""
    return np.asarray(np.cumsum(p, axis=-1))


def softmax(logits: Array) -> Array:
    """Probabilities over the last axis."""
    shifted = np.exp(logits - logits.max(-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(-1, keepdims=True))
