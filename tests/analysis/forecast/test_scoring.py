from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foreshock.analysis.forecast.scoring import brier, log_score, reliability_table, score_forecasts


def test_perfect_forecasts_score_best_and_base_rate_forecasts_have_no_skill() -> None:
    y = np.array([1.0, 0, 0, 1, 0, 0])
    kinds = np.array(list("abcdef"))
    assert score_forecasts(y, y, kinds).brier == 0
    base = score_forecasts(np.full(6, y.mean()), y, kinds)
    assert base.skill == pytest.approx(0.0)
    assert base.log_score == pytest.approx(base.log_base)


def test_the_base_rate_without_the_own_type_cannot_see_it() -> None:
    y, kinds = np.array([1.0, 1, 0, 0]), np.array(["a", "a", "b", "b"])
    scores = score_forecasts(y, y, kinds)
    # Type a is forecast from b alone (1 of 4 after adding one each), and the other way round.
    assert scores.brier_base_without == pytest.approx(0.75**2)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=30))
def test_scores_stay_in_range(samples: list[tuple[float, bool]]) -> None:
    p, y = np.array([s for s, _ in samples]), np.array([float(hit) for _, hit in samples])
    assert 0 <= brier(p, y) <= 1
    assert 0 <= log_score(p, y) <= -np.log(1e-3) + 1e-9
    table = reliability_table(p, y)
    assert table["n"].sum() == len(p)
    assert (table["lower95"] <= table["frequency"] + 1e-9).all()


def test_nan_forecasts_are_refused() -> None:
    with pytest.raises(ValueError, match="leave out samples"):
        score_forecasts(np.array([np.nan]), np.array([1.0]), np.array(["a"]))
