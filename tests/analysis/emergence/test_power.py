"""A null result is told with the power behind it, and a p-value belongs to the cell that is quoted."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from foreshock.analysis.emergence.power import _within_runs, power_of, power_table
from foreshock.analysis.emergence.run import _best

RUNS = np.repeat(["exploit", "control"], 8)


def test_seven_of_eight_in_one_run_and_none_in_the_other_can_show_nothing() -> None:
    labels = np.array([1.0] * 7 + [0.0] * 9)
    found = power_of(labels, RUNS)
    assert found.p_of_perfect == pytest.approx(1 / 16)
    assert max(found.power) == 0.0


def test_power_grows_with_the_signal_and_with_balance() -> None:
    balanced = power_of(np.tile([1.0, 0.0], 8), RUNS)
    uneven = power_of(np.array([1.0, 1.0, *[0.0] * 14]), RUNS)
    assert balanced.p_of_perfect < 1e-3
    assert balanced.power[0] < balanced.power[1]
    assert uneven.power[1] < balanced.power[1]
    assert 0.75 < balanced.power[1] < 1.0


def test_the_level_of_the_test_is_kept() -> None:
    rng = np.random.default_rng(0)
    labels = np.tile([1.0, 0.0], 8)
    scores = rng.standard_normal((400, 16))
    shuffled = np.stack([_within_runs(labels, RUNS, rng) for _ in range(199)])
    ranks = scores.argsort(1).argsort(1)
    observed = ranks @ labels
    beaten = (ranks @ shuffled.T > observed[:, None]).sum(1) + 0.5 * (ranks @ shuffled.T == observed[:, None]).sum(1)
    assert ((beaten + 0.5) / 200 <= 0.05).mean() < 0.1


def test_runs_in_which_all_or_none_emerge_have_no_power_to_state() -> None:
    found = power_of(np.repeat([1.0, 0.0], 8), RUNS)
    assert np.isnan(found.p_of_perfect)
    features = pd.DataFrame(
        {"cutoff_idx": 0, "run": RUNS, "exploit_type": [f"t{i % 8}" for i in range(16)], "at_risk": True,
         "label_probability": np.repeat([0.9, 0.1], 8)}
    )  # fmt: skip
    table = power_table(pd.concat([features, features]))
    assert table["emerging_by_run"].tolist() == ["control: 0 of 8; exploit: 8 of 8"]


def test_the_quoted_cell_is_the_one_whose_p_value_is_quoted() -> None:
    known = pd.DataFrame(
        {
            "cutoff_idx": [0, 1],
            "metric": ["few", "many"],
            "model": "threshold_level",
            "auc": [1.0, 0.9],
            "auc_lower": [0.3, 0.7],
            "auc_upper": [1.0, 0.97],
            "auc_within_run": [1.0, 0.9],
            "n": [3, 16],
            "p_value": [0.25, 0.004],
            "p_value_grid": [0.8, 0.03],
        }
    )
    best = _best(known)
    assert best is not None
    assert (best["metric"], best["p_value"], best["p_value_grid"]) == ("many", 0.004, 0.03)
    untested = _best(known.assign(p_value=np.nan, p_value_grid=np.nan))
    assert untested is not None
    assert (untested["metric"], untested["p_value"]) == ("few", None)
