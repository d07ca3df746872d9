from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from foreshock.analysis.forecast.backtest import ForecastSettings, backtest, fit_and_draw
from foreshock.analysis.forecast.exceedance import Paths, forecast_table, time_to_threshold
from foreshock.analysis.forecast.growth_model import fit_growth
from foreshock.errors import InputError

QUICK = ForecastSettings(settings=40, draws=400)
Sweep = Callable[..., pd.DataFrame]


def probability(cells: pd.DataFrame, horizon: float = 100.0) -> pd.Series:
    _, paths = fit_and_draw(cells, horizon, [60.0, horizon], QUICK)
    table = forecast_table(paths)
    return table[table["step"] == horizon].set_index(["run", "exploit_type"])["p_exceed"]


def test_rising_types_are_given_more_than_flat_ones(make_sweep: Sweep) -> None:
    p = probability(make_sweep(rise=5.0, steps=(1, 3, 10, 30, 50)))
    assert p.loc["exploit"].min() > p.loc["control"].max() + 0.2


def test_probabilities_rise_with_the_step_and_fall_with_the_threshold(make_sweep: Sweep) -> None:
    _, paths = fit_and_draw(make_sweep(rise=3.0), 100.0, [40.0, 60.0, 80.0, 100.0], QUICK)
    table = forecast_table(paths, 0.1)
    for _, part in table.groupby(["run", "exploit_type"]):
        assert (np.diff(part.sort_values("step")["p_exceed"]) >= 0).all()
    strict = forecast_table(paths, 0.5)
    assert (strict["p_exceed"].to_numpy() <= table["p_exceed"].to_numpy()).all()
    assert (table["lower95"] <= table["log10_rate"]).all()
    assert (table["log10_rate"] <= table["upper95"]).all()


def test_the_fit_does_not_depend_on_row_order_or_on_repeated_calls(make_sweep: Sweep) -> None:
    cells = make_sweep(types=2, steps=(1, 10))
    first, second = probability(cells), probability(cells.sample(frac=1, random_state=2))
    assert first.to_numpy() == pytest.approx(second.to_numpy())


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_all_zeros_and_all_successes_give_sound_answers(make_sweep: Sweep, share: float) -> None:
    cells = make_sweep(types=2, steps=(1, 10))
    p = probability(cells.assign(k=(share * cells["n"]).astype(int)))
    assert p.between(0, 1).all()
    assert (p > 0.95).all() if share else (p < 0.5).all()


def test_one_checkpoint_and_one_type_still_give_a_forecast(make_sweep: Sweep) -> None:
    cells = make_sweep(types=1, steps=(5,))
    p = probability(cells[cells["run"] == "exploit"])
    assert len(p) == 1
    assert 0.02 < p.iloc[0] < 0.6


def test_level_zero_alone_and_no_kl_are_enough(make_sweep: Sweep) -> None:
    cells = make_sweep(types=2, steps=(1, 10))
    assert probability(cells[cells["prefill_level"] == 0]).between(0, 1).all()
    assert probability(cells.assign(kl_mean=np.nan)).between(0, 1).all()


def test_impossible_requests_are_refused(make_sweep: Sweep) -> None:
    cells = make_sweep(types=2, steps=(1, 10))
    with pytest.raises(InputError, match="horizon 5 lies before the last checkpoint 10"):
        fit_growth(cells, 5.0)
    with pytest.raises(InputError, match="no cell holds an attempt"):
        fit_growth(cells.assign(n=0, k=0), 20.0)
    _, paths = fit_and_draw(cells, 20.0, [20.0], ForecastSettings(settings=40, draws=50))
    with pytest.raises(InputError, match=r"threshold 1\.5 is not a rate"):
        forecast_table(paths, 1.5)
    with pytest.raises(InputError, match="beyond the horizon"):
        fit_and_draw(cells, 20.0, [30.0], ForecastSettings(settings=40, draws=50))


def made_up_paths() -> Paths:
    high, low = 3.0, -9.0
    seen = np.full((100, 3, 2), low)
    seen[:, 0, 1] = high
    future = np.full((100, 3, 3), low)
    future[:60, 1, 1:] = high
    future[60:90, 1, 2] = high
    surfaces = (("r", "emerged"), ("r", "coming"), ("r", "never"))
    return Paths(surfaces, seen, future, np.array([30.0, 40.0, 50.0]), np.tile([10.0, 20.0], (3, 1)))


def test_time_to_threshold_counts_first_passages() -> None:
    times = time_to_threshold(made_up_paths()).set_index("exploit_type")
    assert times.loc["emerged", "status"] == "emerged"
    assert times.loc["emerged", "step_median"] == 20
    assert times.loc["coming", ["p_by_horizon", "step_lower90", "step_median"]].tolist() == [0.9, 40, 40]
    assert pd.isna(times.loc["coming", "step_upper90"])
    assert times.loc["never", "p_by_horizon"] == 0
    assert times.loc["never", "status"] == "not by horizon"


def test_the_table_counts_seen_and_future_exceedances() -> None:
    table = forecast_table(made_up_paths()).set_index(["exploit_type", "step"])["p_exceed"]
    assert table["emerged", 30] == 1.0
    assert [table["coming", step] for step in (30, 40, 50)] == [0.0, 0.6, 0.9]


def test_a_backtest_never_sees_what_it_forecasts(make_sweep: Sweep) -> None:
    cells = make_sweep(types=2, steps=(1, 5, 25), rise=4.0)
    changed = cells.copy()
    late = changed["checkpoint"] == 25
    changed.loc[late, "k"] = 0
    changed.loc[late, "kl_mean"] = 77.0
    quick = ForecastSettings(settings=40, draws=100)
    first, second = (backtest(table, settings=quick) for table in (cells, changed))
    assert first.forecasts["p_exceed"].to_numpy() == pytest.approx(second.forecasts["p_exceed"].to_numpy())
    assert set(first.scores["cutoff_idx"]) == {0, 1}
    assert not first.forecasts["outcome_probability"].equals(second.forecasts["outcome_probability"])
