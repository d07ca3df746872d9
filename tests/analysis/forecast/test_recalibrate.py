"""The correction of forecasts: what it may and may not do, and that its constants are those shipped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foreshock.analysis.forecast.design import TimeAxis, growth_data
from foreshock.analysis.forecast.exceedance import Paths, PriorLeft, forecast_table, passage, time_to_threshold
from foreshock.analysis.forecast.growth_model import hyper_prior
from foreshock.analysis.forecast.recalibrate import TERMS, recalibrated, run_rise, shipped_constants

Sweep = Callable[..., pd.DataFrame]
IDENTITY = np.array([1.0 if name == "model" else 0.0 for name in TERMS])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=6), st.floats(0, 1))
def test_probabilities_stay_in_range_never_fall_and_keep_what_is_seen(steps: list[float], seen: float) -> None:
    passed = np.maximum(np.sort(np.array(steps)), seen)[None, :]
    found = recalibrated(passed, np.array([seen]), np.array([0.7]))
    assert ((found >= seen - 1e-12) & (found <= 1)).all()
    assert (np.diff(found) >= -1e-12).all()
    assert recalibrated(passed, np.array([seen]), np.array([0.7]), IDENTITY) == pytest.approx(passed, abs=3e-3)


def test_more_exploits_after_prefills_mean_a_higher_forecast() -> None:
    passed, seen = np.array([[0.2, 0.3]]), np.array([0.01])
    still, rising = (recalibrated(passed, seen, np.array([rise])) for rise in (0.0, 1.5))
    assert (rising > still + 0.02).all()


def test_the_rise_of_a_run_by_hand() -> None:
    names = ["run", "exploit_type", "checkpoint", "prefill_level", "n", "k", "kl_mean"]
    rows = [
        ("r", "a", 1, 0, 10, 0, np.nan), ("r", "a", 1, 10, 10, 1, 4.0), ("r", "a", 1, 30, 10, 1, 8.0),
        ("r", "a", 9, 0, 10, 0, np.nan), ("r", "a", 9, 10, 10, 5, 1.0), ("r", "a", 9, 45, 10, 5, np.nan),
        ("r", "b", 1, 0, 10, 0, np.nan), ("r", "b", 9, 0, 10, 0, np.nan),
    ]  # fmt: skip
    found = run_rise(pd.DataFrame(rows, columns=names), (("r", "a"), ("r", "b")))
    own = np.log(5.5 / 5.5) - np.log(1.5 / 9.5)
    assert found.tolist() == pytest.approx([own / 2, own / 2])


def test_the_shipped_constants_name_every_term() -> None:
    constants = shipped_constants()
    assert constants.shape == (len(TERMS),)
    assert constants[TERMS.index("model")] > 0.5


def test_tables_hold_both_probabilities_and_agree_with_the_times() -> None:
    future = np.full((100, 1, 3), -9.0)
    future[:30, 0, 2] = 3.0
    paths = Paths((("r", "t"),), np.full((100, 1, 1), -9.0), future, np.array([2.0, 3.0, 4.0]), np.array([[1.0]]))
    corrected = replace(paths, rise=np.array([3.0]))
    assert forecast_table(paths)["p_exceed"].tolist() == forecast_table(paths)["p_exceed_model"].tolist()
    table = forecast_table(corrected)
    assert table["p_exceed_model"].tolist() == [0.0, 0.0, 0.3]
    assert table["p_exceed"].iloc[-1] > 0.3
    assert time_to_threshold(corrected)["p_by_horizon"].iloc[0] == pytest.approx(table["p_exceed"].iloc[-1])
    assert passage(corrected, 0.1)[0].shape == (1, 3)


@pytest.mark.parametrize(
    ("level", "speed", "said"), [(0.1, 0.3, "data"), (0.1, 0.95, "prior growth"), (0.9, 1, "prior")]
)
def test_what_the_data_do_not_say_is_called_the_priors(level: float, speed: float, said: str) -> None:
    left = PriorLeft(np.array([level]), np.array([speed]))
    paths = Paths((("r", "t"),), np.full((9, 1, 1), -9.0), np.full((9, 1, 1), -9.0), np.array([2.0]), np.array([[1.0]]))
    assert time_to_threshold(replace(paths, prior_left=left))["rests_on"].tolist() == [said]


def test_time_is_expected_to_run_as_the_checkpoints_do(make_sweep: Sweep) -> None:
    warps = []
    for steps in ((10, 20, 30, 40), (1, 4, 16, 64), (10, 20)):
        data = growth_data(make_sweep(types=1, steps=steps))
        warps.append(hyper_prior(data, TimeAxis(steps[0], 100.0)).mean[-1])
    assert warps[0] > 1
    assert warps[1] < -1
    assert warps[1] < warps[2] < warps[0]
