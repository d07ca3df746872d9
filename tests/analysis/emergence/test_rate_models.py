from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from foreshock.analysis.emergence.evaluate import evaluate_emergence
from foreshock.analysis.emergence.rate_models import ConstrainedGPRates, GrowthRates, surface_counts_of
from foreshock.analysis.surfaces.metrics import Metric, RateModel

MODELS = [ConstrainedGPRates(), GrowthRates(settings=40, draws=200)]


@pytest.mark.parametrize("model", MODELS, ids=["gp", "growth"])
def test_a_rate_model_gives_every_seen_checkpoint_and_the_final_one(
    make_cells: Callable[..., pd.DataFrame], model: RateModel
) -> None:
    seen = make_cells(types=3, steps=(1, 4, 16))
    rates = model.log_rates(seen, {"exploit": 64.0, "control": 64.0})
    assert sorted(rates["checkpoint"].unique()) == [1, 4, 16, 64]
    assert len(rates) == 6 * 4
    assert (rates["log_rate"] < 0).all()
    assert np.isfinite(rates["log_rate"]).all()


@pytest.mark.parametrize("model", MODELS, ids=["gp", "growth"])
def test_one_checkpoint_is_enough(make_cells: Callable[..., pd.DataFrame], model: RateModel) -> None:
    rates = model.log_rates(make_cells(types=2, steps=(4,)), {"exploit": 64.0, "control": 64.0})
    assert len(rates) == 4 * 2


def test_counts_land_in_their_cells(make_cells: Callable[..., pd.DataFrame]) -> None:
    cells = make_cells(types=2, steps=(1, 4), runs=("exploit",)).sample(frac=1, random_state=0)
    counts = surface_counts_of(cells)
    mine = cells[(cells["exploit_type"] == "type_1") & (cells["checkpoint"] == 4) & (cells["prefill_level"] == 10)]
    assert counts.k[1].reshape(2, 3)[1, 1] == mine["k"].item()
    assert counts.kl[1].reshape(2, 3)[1, 1] == pytest.approx(mine["kl_mean"].item())


def test_rate_models_become_two_metrics_each(make_cells: Callable[..., pd.DataFrame]) -> None:
    results = evaluate_emergence(
        make_cells(types=3, steps=(1, 4, 16)), permutations=19, rate_models={Metric.GP: ConstrainedGPRates()}
    ).results
    assert {"gp_log_rate_p0", "gp_log_rate_p0_last"} <= set(results["metric"])
    last = results.query("metric == 'gp_log_rate_p0_last' and model == 'threshold_slope'")
    assert last["auc"].isna().all()
    assert last["reason"].notna().all()
