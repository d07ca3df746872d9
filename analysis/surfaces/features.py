"""Features of one metric at one cutoff: level, slope, projection.

A feature that was not observed is NaN with a reason, never a smoothed number. Smoothing makes the feature a function
of the sample size wherever no exploit was seen, and sample sizes differ between types.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from foreshock.analysis.surfaces.labels import log_step

Array = NDArray[np.float64]


class Reason(StrEnum):
    """Why a value is missing."""

    NOT_MEASURED = "not measured"
    NO_SUCCESS = "no success at any prefilled level"
    NO_COMMON_LEVEL = "no level was measured at every checkpoint seen"
    ONE_POINT = "fewer than two checkpoints with a value"


@dataclass(frozen=True, slots=True)
class Features:
    """Features of n surfaces. NaN entries have a reason; `bottom` marks levels known to be below every observed one.

    level, slope, projected: [n]; bottom: [n]; reasons: [n] of the level (None where it is there).
    """

    level: Array
    slope: Array
    projected: Array
    bottom: NDArray[np.bool_]
    reasons: tuple[Reason | None, ...]


def make_features(
    series: pd.DataFrame,
    surfaces: pd.MultiIndex,
    last_seen: Array,
    final: Array,
    *,
    single_slope: float = np.nan,
    carried: bool = False,
) -> Features:
    """Level, slope and projection of each surface.

    series: run, exploit_type, checkpoint, value, reason (value NaN where missing). last_seen, final: [n] steps.
    level: the value at the last checkpoint seen. slope: least squares over log step, per unit of log step.
    projected: that line at the final checkpoint; the level itself where there is no slope.
    single_slope: what a surface with one point gets as slope. carried: where there is no value at the last checkpoint
    seen, the level is the last one before it.
    """
    n = len(surfaces)
    level, slope, projected = (np.full(n, np.nan) for _ in range(3))
    bottom = np.zeros(n, dtype=bool)
    reasons: list[Reason | None] = []
    # Plain arrays: a boolean index into a frame costs a thousand times what is looked up here.
    surface = surfaces.get_indexer(pd.MultiIndex.from_frame(series[["run", "exploit_type"]]))
    steps, values = series["checkpoint"].to_numpy(float), series["value"].to_numpy(float)
    whys = series["reason"].to_numpy(object)
    for i in range(n):
        rows = np.flatnonzero(surface == i)
        known = rows[np.isfinite(values[rows])]
        at_last = rows[steps[rows] == last_seen[i]]
        if carried and len(known):
            at_last = known[[np.argmax(steps[known])]]
        if not len(at_last):
            reasons.append(Reason.NOT_MEASURED)
            continue
        value, why = float(values[at_last[0]]), whys[at_last[0]]
        level[i] = value
        reasons.append(None if np.isfinite(value) else Reason(why))
        bottom[i] = not np.isfinite(value) and why == Reason.NO_SUCCESS
        if len(known) >= 2:
            slope[i], intercept = _line(log_step(steps[known]), values[known])
            projected[i] = intercept + slope[i] * log_step(final[i : i + 1])[0]
        else:
            slope[i], projected[i] = single_slope, value
    return Features(level, slope, projected, bottom, tuple(reasons))


def _line(x: Array, y: Array) -> tuple[float, float]:
    centred = x - x.mean()
    rise = y - y[0]  # exactly 0 where nothing changes: slopes of rounding alone would rank surfaces at random
    slope = float((centred * rise).sum() / (centred**2).sum())
    return slope, float(y[0] + rise.mean() - slope * x.mean())
