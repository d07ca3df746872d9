"""Permutation p-values: labels are shuffled among the types at risk of the same run.

Shuffling within a run keeps each run's number of emerging types, so telling the runs apart earns nothing. All cells
of the grid are shuffled by the same random order of types, so that the best cell of the grid can be compared with
the best cell of each shuffled grid (Westfall and Young's max statistic).

Cells are compared after dividing by the spread of their own shuffled AUCs; a raw maximum would only ever look at the
cells with the fewest types. p is a mid-p (ties count half): uniform under the null although the statistic takes few
values.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Array = NDArray[np.float64]


class WithinRunShuffles:
    """`count` random orders of all surfaces, drawn once and used by every cell."""

    def __init__(self, runs: pd.Index, count: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.count = count
        self._runs = np.asarray(runs, dtype=str)
        self._keys = rng.random((count, len(runs)))

    def shuffle(self, labels: Array, keep: NDArray[np.bool_]) -> Array:
        """Labels [count, kept] of the kept surfaces, rearranged within each run."""
        runs, keys = self._runs[keep], self._keys[:, keep]
        out = np.empty((self.count, int(keep.sum())))
        for run in np.unique(runs):
            members = np.flatnonzero(runs == run)
            out[:, members] = labels[members][np.argsort(keys[:, members], axis=1)]
        return out


@dataclass(frozen=True, slots=True)
class GridPValues:
    """`single`: of each cell alone; `adjusted`: of each cell, given that the whole grid was searched.

    `overall`: of the best cell of the grid. None where nothing can be tested.
    """

    single: list[float | None]
    adjusted: list[float | None]
    overall: float | None


def mid_p(observed: Array, shuffled: Array) -> Array:
    """P(shuffled >= observed) with ties counted half, one added to both sides. observed [C], shuffled [C, B]."""
    above = (shuffled > observed[:, None] + 1e-12).sum(-1)
    equal = (np.abs(shuffled - observed[:, None]) <= 1e-12).sum(-1)
    return np.asarray((above + 0.5 * (equal + 1)) / (shuffled.shape[1] + 1))


def grid_p_values(observed: Array, shuffled: Array) -> GridPValues:
    """p-values of a grid of C cells with AUC `observed` [C] and `shuffled` [C, B]; NaN cells are left out.

    A cell whose AUC no shuffle can change (every run's types share one label) has no p-value.
    """
    spread = np.zeros(len(observed))
    valid = np.isfinite(observed) & np.isfinite(shuffled).all(-1)
    if valid.any() and shuffled.shape[1] > 1:
        spread[valid] = shuffled[valid].std(-1)
    testable = valid & (spread > 1e-9)
    single: list[float | None] = [None] * len(observed)
    adjusted: list[float | None] = [None] * len(observed)
    if not testable.any():
        return GridPValues(single, adjusted, None)
    centre, scale = shuffled[testable].mean(-1), spread[testable]
    z = (observed[testable] - centre) / scale
    z_shuffled = (shuffled[testable] - centre[:, None]) / scale[:, None]
    best = z_shuffled.max(0)
    alone = mid_p(observed[testable], shuffled[testable])
    joint = mid_p(z, np.broadcast_to(best, (len(z), len(best))))
    for place, p_alone, p_joint in zip(np.flatnonzero(testable), alone, joint, strict=True):
        single[place], adjusted[place] = float(p_alone), float(p_joint)
    return GridPValues(single, adjusted, float(mid_p(z.max(keepdims=True), best[None])[0]))
