"""From run directories to forecasts on disk."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from foreshock.analysis.forecast.backtest import ForecastSettings
from foreshock.analysis.forecast.run import ForecastOptions, future_steps, run_forecast
from foreshock.analysis.report.forecast_section import forecast_section
from foreshock.analysis.surfaces.cells import RunSource
from foreshock.errors import InputError

QUICK = ForecastSettings(settings=40, draws=200)


def test_everything_is_written_and_told(toy_run: Path, tmp_path: Path) -> None:
    done = run_forecast([RunSource(toy_run)], tmp_path / "out", ForecastOptions(settings=QUICK, intentional=None))
    names = {path.name for path in (tmp_path / "out").iterdir()}
    tables = {
        "forecast.csv",
        "time_to_threshold.csv",
        "past_forecasts.csv",
        "forecast_scores.csv",
        "trajectory_predictions.csv",
        "sensitivity.csv",
        "summary.json",
    }
    assert tables <= names
    assert {"growth_curves.png", "growth_curves.pdf", "growth_curves.csv"} <= names
    written = pd.read_csv(tmp_path / "out" / "forecast.csv")
    assert written["p_exceed"].between(0, 1).all()
    assert written["step"].max() == done.summary["horizon"]
    section = forecast_section(done)
    assert section.anchor == "forecast"
    assert "base rate" in section.body_html
    assert "rests on" in section.body_html
    assert set(done.times["rests_on"]) <= {"data", "prior growth", "prior"}
    assert done.sensitivity.groupby("variant").size().nunique() == 1
    assert (done.sensitivity["variant"].str.startswith("without level")).any()
    assert all(table.csv.exists() for table in section.tables)


def test_a_horizon_that_is_not_ahead_is_refused(toy_run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not lie after the last checkpoint"):
        run_forecast([RunSource(toy_run)], tmp_path, ForecastOptions(horizon=1.0, settings=QUICK, intentional=None))


def test_future_steps_are_whole_increasing_and_end_at_the_horizon() -> None:
    steps = future_steps(90, 200)
    assert steps[-1] == 200
    assert sorted(set(steps)) == steps
    assert steps[0] > 90
    assert all(step == int(step) for step in steps)
    assert future_steps(0, 1) == [1.0]
