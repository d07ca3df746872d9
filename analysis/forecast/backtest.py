"""Forecasts made as of each earlier checkpoint, scored against what came later.

At each cutoff the model is fitted to the seen cells only, and the outcome is the posterior probability of exceedance
from level-0 counts after the cutoff; types that have most likely emerged by then are scored apart, because "it has
happened" is no forecast.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

import numpy as np
import pandas as pd

from foreshock.analysis.forecast.design import GrowthPrior
from foreshock.analysis.forecast.exceedance import Paths, draw_paths, forecast_table
from foreshock.analysis.forecast.growth_model import GrowthPosterior, fit_growth
from foreshock.analysis.forecast.recalibrate import run_rise
from foreshock.analysis.forecast.scoring import score_forecasts
from foreshock.analysis.surfaces.cells import SURFACE, run_checkpoints, seen_until
from foreshock.analysis.surfaces.labels import DEFAULT_THRESHOLD, exceedance_probability, level_zero_series


@dataclass(frozen=True, slots=True)
class ForecastSettings:
    """How hard the model works: hyperparameter settings tried, posterior draws, and the random seed."""

    settings: int = 120
    draws: int = 2000
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Backtest:
    """`forecasts`: one row per cutoff and surface; `scores`: one per cutoff."""

    forecasts: pd.DataFrame
    scores: pd.DataFrame


def fit_and_draw(
    cells: pd.DataFrame,
    horizon: float,
    future: list[float],
    settings: ForecastSettings,
    prior: GrowthPrior | None = None,
) -> tuple[GrowthPosterior, Paths]:
    """Fit the growth model to `cells` and continue it through `future` steps up to `horizon`."""
    posterior = fit_growth(cells, horizon, prior=prior, settings=settings.settings, seed=settings.seed)
    paths = draw_paths(posterior, np.asarray(future, dtype=float), settings.draws, settings.seed)
    return posterior, replace(paths, rise=run_rise(cells, paths.surfaces))


def backtest(
    cells: pd.DataFrame, *, threshold: float = DEFAULT_THRESHOLD, settings: ForecastSettings | None = None
) -> Backtest:
    """Forecast the last checkpoint from each cutoff and score it.

    forecasts columns: cutoff_idx, run, exploit_type, p_exceed, log10_rate (median at the last checkpoint),
    outcome_probability (from later level-0 counts), emerged_probability (from seen ones), at_risk. Empty when no run
    has two checkpoints.
    """
    settings = settings or ForecastSettings()
    steps = run_checkpoints(cells)
    surfaces = pd.MultiIndex.from_frame(cells[SURFACE].drop_duplicates().sort_values(SURFACE))
    tables = []
    for cutoff in range(min(len(s) for s in steps.values()) - 1):
        seen = seen_until(cells, cutoff)
        later = cells.drop(index=seen.index)
        if not (seen["n"] > 0).any():
            continue
        horizon = max(s[-1] for s in steps.values())
        future = sorted({step for s in steps.values() for step in s[cutoff + 1 :]})
        _, paths = fit_and_draw(seen, horizon, future, settings)
        table = forecast_table(paths, threshold)
        final = table["run"].map({run: s[-1] for run, s in steps.items()})
        at_final = table[table["step"] == final].set_index(SURFACE).reindex(surfaces)
        outcome = exceedance_probability(level_zero_series(later, surfaces), threshold)
        emerged = exceedance_probability(level_zero_series(seen, surfaces), threshold)
        frame = at_final[["p_exceed", "log10_rate"]].reset_index().assign(cutoff_idx=cutoff)
        frame["outcome_probability"], frame["emerged_probability"] = outcome, emerged
        frame["at_risk"] = ~(np.nan_to_num(emerged) > 0.5)
        tables.append(frame)
    columns = [
        "cutoff_idx",
        *SURFACE,
        "p_exceed",
        "log10_rate",
        "outcome_probability",
        "emerged_probability",
        "at_risk",
    ]
    forecasts = pd.concat(tables, ignore_index=True)[columns] if tables else pd.DataFrame(columns=columns)
    return Backtest(forecasts, score_table(forecasts))


def score_table(forecasts: pd.DataFrame) -> pd.DataFrame:
    """Brier and log score per cutoff, of all types and of those at risk, beside the base rate's."""
    rows = []
    known = forecasts.dropna(subset=["p_exceed", "outcome_probability"])
    for cutoff, part in known.groupby("cutoff_idx"):
        for group, chosen in (("all", part), ("at risk", part[part["at_risk"].astype(bool)])):
            outcome = chosen["outcome_probability"].to_numpy(float)
            if group == "all":
                outcome = np.maximum(outcome, chosen["emerged_probability"].fillna(0.0).to_numpy(float))
            types = chosen["exploit_type"].to_numpy(str)
            forecast = chosen["p_exceed"].to_numpy(float)
            scores = score_forecasts(forecast, np.asarray(outcome > 0.5, dtype=float), types)
            rows.append({"cutoff_idx": cutoff, "group": group} | asdict(scores) | {"skill": scores.skill})
    return pd.DataFrame(rows)
