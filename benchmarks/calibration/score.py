"""Scores of an estimator against known rates, per regime and kind of cell.

Errors and intervals are on log10 of the rate, and cells are split by whether level 0 showed an exploit, because a
zero cell is the case the tool exists for and a pooled figure would hide it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from benchmarks.calibration.arrays import Array


@dataclass(frozen=True, slots=True)
class Cells:
    """Estimates of cells in log10: truth, point, and limits; NaN where the method says nothing. All [N]."""

    truth: Array
    point: Array
    lower90: Array
    upper90: Array
    lower95: Array
    upper95: Array
    zero: Array


@dataclass(frozen=True, slots=True)
class Score:
    """Figures of one method on one kind of cell; widths and scores in decades."""

    n: int
    bias: float
    rmse: float
    cov90: float
    cov95: float
    width95: float
    is95: float


def interval_score(truth: Array, lower: Array, upper: Array, level: float) -> Array:
    """Width plus the penalty for misses, 2/alpha a decade (Gneiting and Raftery 2007); lower is better."""
    alpha = 1 - level
    below, above = np.maximum(lower - truth, 0), np.maximum(truth - upper, 0)
    return np.asarray(upper - lower + 2 / alpha * (below + above))


def score(cells: Cells, zero: bool) -> Score:
    """Score the zero cells or those with successes; a missing limit counts as open on its side."""
    mask = (cells.zero > 0) == zero
    truth, point = cells.truth[mask], cells.point[mask]
    error = (point - truth)[np.isfinite(point)]
    low90, low95 = (np.nan_to_num(x[mask], nan=-np.inf) for x in (cells.lower90, cells.lower95))
    up90, up95 = (np.nan_to_num(x[mask], nan=0.0) for x in (cells.upper90, cells.upper95))
    finite = np.isfinite(low95)
    widths = (up95 - low95)[finite]
    scores = interval_score(truth[finite], low95[finite], up95[finite], 0.95)
    return Score(
        n=int(mask.sum()),
        bias=float(error.mean()) if len(error) else np.nan,
        rmse=float(np.sqrt((error**2).mean())) if len(error) else np.nan,
        cov90=float(((truth >= low90) & (truth <= up90)).mean()) if mask.any() else np.nan,
        cov95=float(((truth >= low95) & (truth <= up95)).mean()) if mask.any() else np.nan,
        width95=float(widths.mean()) if len(widths) else np.nan,
        is95=float(scores.mean()) if len(scores) else np.nan,
    )
