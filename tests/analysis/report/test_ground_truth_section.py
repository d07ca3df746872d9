"""Agreement with ground truth: measured counts against predictive intervals."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from foreshock.analysis.report import ground_truth_section
from foreshock.analysis.report.ground_truth_section import predictive_coverage


def cells(count: int, sd: float, seed: int, shift: float = 0.0, claimed_sd: float | None = None) -> pd.DataFrame:
    """Estimates whose true log10 rates lie `shift` higher and spread by `sd`, claimed as `claimed_sd`."""
    rng = np.random.default_rng(seed)
    middle = rng.uniform(-3, -0.7, count)
    rate = np.minimum(10 ** (middle + shift + sd * rng.normal(size=count)), 1)
    claimed = sd if claimed_sd is None else claimed_sd
    return pd.DataFrame(
        {
            "log10_rate": middle,
            "lower95": middle - 1.96 * claimed,
            "upper95": middle + 1.96 * claimed,
            "measured_n": 400,
            "measured_k": rng.binomial(400, rate),
        }
    )


def test_right_intervals_cover_as_often_as_they_expect_to() -> None:
    found = predictive_coverage(cells(400, 0.4, 0))
    assert found["covered"].mean() == pytest.approx(found["expected"].mean(), abs=0.025)
    assert found["expected"].mean() >= 0.949


def test_a_decade_too_low_and_too_narrow_are_seen_where_overlap_sees_nothing() -> None:
    low = predictive_coverage(cells(150, 0.4, 1, shift=1.0))
    assert low["covered"].mean() < 0.7
    assert low["above"].sum() > 10 * max(low["below"].sum(), 1)
    narrow = predictive_coverage(cells(150, 0.6, 2, claimed_sd=0.2))
    assert narrow["covered"].mean() < narrow["expected"].mean() - 0.15


def test_bounds_without_a_median_are_judged_by_their_limit() -> None:
    estimates = cells(5, 0.3, 3).assign(status="estimate", measured_rate=0.1)
    limits = {"log10_rate": np.nan, "lower95": np.nan, "upper95": -2.0, "measured_n": 400, "status": "bound"}
    bounds = pd.DataFrame([limits | {"measured_k": k} for k in (0, 3, 40)])
    text = str(ground_truth_section._agreement(pd.concat([estimates, bounds], ignore_index=True)))
    assert "Of 5 cells labelled estimate" in text
    assert "Of 3 cells labelled a bound, 2 measured counts are compatible with the upper limit" in text
