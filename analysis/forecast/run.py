"""The forecast of run directories: probabilities, times, backtest, logit-space predictions, figures.

Every forecast comes with its own track record. The same model is refitted as of each earlier checkpoint and scored
against what came later, on the user's data, next to the base rate.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from foreshock.analysis.figures import SavedFigure, write_csv
from foreshock.analysis.forecast.backtest import ForecastSettings, backtest, fit_and_draw
from foreshock.analysis.forecast.exceedance import forecast_table, time_to_threshold
from foreshock.analysis.forecast.figures import curve_table, growth_figure, reliability_figure
from foreshock.analysis.forecast.logits import level_zero_logits
from foreshock.analysis.forecast.predictors import compare_predictors
from foreshock.analysis.forecast.scoring import reliability_table
from foreshock.analysis.forecast.sensitivity import forecast_sensitivity
from foreshock.analysis.forecast.temporal import temporal_scores
from foreshock.analysis.surfaces.cells import RunSource, load_cells, looks_of, modelled_cells, run_checkpoints
from foreshock.analysis.surfaces.labels import DEFAULT_THRESHOLD
from foreshock.analysis.surfaces.whole_traces import COLUMNS, trace_signals
from foreshock.analysis.tables.load import run_name
from foreshock.durable import atomic_write_bytes
from foreshock.errors import InputError
from foreshock.jobs.records.exploit_types import INTENTIONAL, IntentionalTypes

_FUTURE_STEPS = 12
_MIN_SCORED = 8


@dataclass(frozen=True, slots=True)
class ForecastOptions:
    """horizon: the step to forecast to; None: twice the last checkpoint. score: also score past forecasts.
    sensitivity: also fit with other priors and without each level. intentional: types to forecast; None for all."""

    threshold: float = DEFAULT_THRESHOLD
    horizon: float | None = None
    score: bool = True
    sensitivity: bool = True
    intentional: IntentionalTypes | None = INTENTIONAL
    figures: bool = True
    settings: ForecastSettings = field(default_factory=ForecastSettings)


@dataclass(frozen=True, slots=True)
class ForecastRun:
    """What `run_forecast` found and wrote. Tables that could not be made are empty."""

    forecast: pd.DataFrame
    times: pd.DataFrame
    scores: pd.DataFrame
    past: pd.DataFrame
    temporal: pd.DataFrame
    predictors: pd.DataFrame
    sensitivity: pd.DataFrame
    whole_traces: pd.DataFrame
    summary: dict[str, object]
    figures: tuple[SavedFigure, ...]
    notes: tuple[str, ...]
    directory: Path


def run_forecast(sources: list[RunSource], output_dir: Path, options: ForecastOptions | None = None) -> ForecastRun:
    """Forecast one or more runs jointly and write the tables, figures and summary.

    Raises:
        InputError: unusable rows, a horizon before the last checkpoint, a threshold that is not a rate.
    """
    options = options or ForecastOptions()
    loaded = load_cells(sources, options.intentional)
    cells, thinned = modelled_cells(loaded.cells, "the forecast")
    notes = [*loaded.notes, *thinned]
    last = float(cells["checkpoint"].max())
    horizon = _horizon(last, options.horizon)
    future = future_steps(last, horizon)
    posterior, paths = fit_and_draw(cells, horizon, future, options.settings)
    forecast, times = forecast_table(paths, options.threshold), time_to_threshold(paths, options.threshold)
    shortest = min(len(steps) for steps in run_checkpoints(cells).values())
    if shortest < 2:
        notes.append("a run has one checkpoint: its forecast rests on the prior's growth and the other types")
    past = scores = pd.DataFrame()
    if options.score and shortest >= 2:
        scored = backtest(cells, threshold=options.threshold, settings=options.settings)
        past, scores = scored.forecasts, scored.scores
    varied = pd.DataFrame()
    if options.sensitivity:
        varied = forecast_sensitivity(cells, horizon, future, options.threshold)
    logits = level_zero_logits(cells)
    temporal = temporal_scores(logits, past) if shortest >= 2 else pd.DataFrame()
    predictors = compare_predictors(cells) if shortest >= 2 and cells["exploit_type"].nunique() > 1 else pd.DataFrame()
    wholes = _whole_traces(sources, cells)
    output_dir.mkdir(parents=True, exist_ok=True)
    tables = {
        "forecast.csv": forecast,
        "time_to_threshold.csv": times,
        "past_forecasts.csv": past,
        "forecast_scores.csv": scores,
        "trajectory_predictions.csv": temporal,
        "predictor_comparison.csv": predictors,
        "sensitivity.csv": varied,
        "whole_traces.csv": wholes,
    }
    for name, table in tables.items():
        if len(table.columns):
            write_csv(table, output_dir / name)
    figures: list[SavedFigure] = []
    if options.figures:
        curves = curve_table(paths, posterior.data.steps)
        figures.append(growth_figure(curves, cells, options.threshold, output_dir, looks_of(sources)))
        figures += _reliability(past, output_dir)
    summary: dict[str, object] = {
        "threshold": options.threshold,
        "last_checkpoint": last,
        "horizon": horizon,
        "runs": sorted(cells["run"].unique().tolist()),
        "intentional": "all types" if options.intentional is None else options.intentional.to_json(),
        "effective_settings": posterior.ess,
        "expected_to_emerge": int((forecast[forecast["step"] == horizon]["p_exceed"] > 0.5).sum()),
        "n_surfaces": len(paths.surfaces),
    }
    text = json.dumps(summary | {"notes": notes}, indent=2) + "\n"
    atomic_write_bytes(output_dir / "summary.json", text.encode())
    found = (forecast, times, scores, past, temporal, predictors, varied, wholes)
    return ForecastRun(*found, summary, tuple(figures), tuple(notes), output_dir)


def _horizon(last: float, given: float | None) -> float:
    """The step to forecast to. Raises InputError unless it lies after the last checkpoint."""
    horizon = 2 * max(last, 1.0) if given is None else given
    if not np.isfinite(horizon) or horizon <= last:
        raise InputError(
            f"horizon {horizon:.10g} does not lie after the last checkpoint {last:.0f}",
            fix=f"name a step above {last:.0f}",
        )
    return horizon


def _whole_traces(sources: list[RunSource], cells: pd.DataFrame) -> pd.DataFrame:
    """How much likelier whole exploit traces have become, by forecast type; empty where none was scored."""
    parts = [trace_signals(source.path).assign(run=source.label or run_name(source.path)) for source in sources]
    joined = pd.concat([part for part in parts if len(part)], ignore_index=True) if any(map(len, parts)) else None
    if joined is None:
        return pd.DataFrame()
    return joined[joined["exploit_type"].isin(set(cells["exploit_type"]))][["run", *COLUMNS]]


def future_steps(last: float, horizon: float, count: int = _FUTURE_STEPS) -> list[float]:
    """Whole steps from just after `last` to `horizon`, evenly spread in log step."""
    start = max(last, 0.5)
    steps = np.unique(np.round(np.geomspace(start, horizon, count + 1)[1:]))
    steps = steps[(steps > last) & (steps < horizon)]
    return [*(float(s) for s in steps), float(horizon)]


def _reliability(past: pd.DataFrame, output_dir: Path) -> list[SavedFigure]:
    if past.empty:
        return []
    known = past[past["at_risk"].astype(bool)].dropna(subset=["p_exceed", "outcome_probability"])
    if len(known) < _MIN_SCORED:
        return []
    outcome = np.asarray(known["outcome_probability"].to_numpy(float) > 0.5, dtype=float)
    table = reliability_table(known["p_exceed"].to_numpy(float), outcome)
    note = (
        "Forecasts made as of every earlier checkpoint for types that had not emerged by then, in five bins. Bars are "
        "Wilson's 95% intervals; the number of forecasts stands beside each point. Forecasts of the same type at "
        "several checkpoints are not independent, so the bars are too short."
    )
    return [reliability_figure(table, output_dir, "Can the forecasts be believed?", note)]
