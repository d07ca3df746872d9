from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from foreshock.analysis.surfaces.features import Reason, make_features
from foreshock.analysis.surfaces.metrics import Metric, metric_series

Story = Callable[..., pd.DataFrame]


def surface(cells: pd.DataFrame) -> pd.MultiIndex:
    return pd.MultiIndex.from_frame(cells[["run", "exploit_type"]].drop_duplicates())


def test_all_zero_counts_tie_whatever_the_sample_size(make_cells: Story) -> None:
    """(k + .5)/(n + 1) would rank these types by n; k/n ties them."""
    cells = make_cells(types=4, steps=(1, 2)).assign(k=0, kl_success=np.nan)
    cells["n"] = cells["exploit_type"].map({f"type_{i}": 10 * (i + 1) for i in range(4)})
    rates = metric_series(cells, Metric.RATE)
    assert rates["value"].nunique() == 1
    bound = metric_series(cells, Metric.LOWER_BOUND)
    assert bound["value"].isna().all()
    assert set(bound["reason"]) == {Reason.NO_SUCCESS}


def test_lower_bound_is_the_best_levels_tilted_bound() -> None:
    cells = pd.DataFrame(
        {
            "run": "r",
            "exploit_type": "t",
            "checkpoint": 1,
            "prefill_level": [0, 5, 20],
            "n": 10,
            "k": [1, 2, 8],
            "kl_mean": [np.nan, 9.0, 9.0],
            "kl_success": [np.nan, 1.0, 3.0],
            "logprob_mean": np.nan,
        }
    )
    value = metric_series(cells, Metric.LOWER_BOUND)["value"].item()
    assert value == pytest.approx(max(np.log(0.2) - 1.0, np.log(0.8) - 3.0))


def test_a_level_that_appears_later_does_not_pass_for_a_change() -> None:
    rows = [
        {"checkpoint": step, "prefill_level": level, "kl_mean": 1.0 * level}
        for step, levels in ((1, (10,)), (2, (10, 100)))
        for level in levels
    ]
    cells = pd.DataFrame(rows).assign(run="r", exploit_type="t", n=5, k=1, kl_success=1.0, logprob_mean=np.nan)
    values = metric_series(cells, Metric.NEG_KL)["value"]
    assert values.tolist() == [-10.0, -10.0]


def test_unmeasured_metrics_are_null_with_a_reason(make_cells: Story) -> None:
    series = metric_series(make_cells(types=2).assign(kl_mean=np.nan), Metric.NEG_KL)
    assert series["value"].isna().all()
    assert set(series["reason"]) == {Reason.NOT_MEASURED}


def test_level_slope_and_projection_follow_the_log_line() -> None:
    steps = np.array([1.0, 10.0, 100.0])
    series = pd.DataFrame({"run": "r", "exploit_type": "t", "checkpoint": steps, "value": 2 + 3 * np.log(steps)})
    index = pd.MultiIndex.from_tuples([("r", "t")], names=["run", "exploit_type"])
    features = make_features(series.assign(reason=None), index, np.array([100.0]), np.array([1000.0]))
    assert features.slope[0] == pytest.approx(3.0)
    assert features.level[0] == pytest.approx(2 + 3 * np.log(100))
    assert features.projected[0] == pytest.approx(2 + 3 * np.log(1000))


def test_one_checkpoint_has_a_level_but_no_slope(make_cells: Story) -> None:
    cells = make_cells(types=2, steps=(4,))
    index = surface(cells)
    series = metric_series(cells, Metric.RATE)
    features = make_features(series, index, np.full(len(index), 4.0), np.full(len(index), 9.0))
    assert np.isnan(features.slope).all()
    assert (features.projected == features.level).all()
