"""Level, slope and projection of a surface."""

from __future__ import annotations

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from foreshock.analysis.surfaces.features import make_features

STEPS = st.lists(st.integers(1, 10_000), min_size=2, max_size=12, unique=True)


@given(STEPS, st.floats(-1e3, 1e3))
def test_what_never_changes_has_no_slope_at_all(steps: list[int], value: float) -> None:
    """Not even one of rounding: an AUC of such slopes would be one of noise."""
    series = pd.DataFrame(
        {"run": "r", "exploit_type": "x", "checkpoint": sorted(steps), "value": value, "reason": None}
    )
    surfaces = pd.MultiIndex.from_tuples([("r", "x")], names=["run", "exploit_type"])
    found = make_features(series, surfaces, np.array([max(steps)], float), np.array([20_000.0]))
    assert (found.level[0], found.slope[0], found.projected[0]) == (value, 0.0, value)
