"""Forecasts of held-out simulated sweeps, scored against the truth.

The base rate to beat is that of the very sweeps that are scored, which no forecaster knows; that of the other worlds'
sweeps stands beside it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from benchmarks.emergence.worlds import World, draw_sweep

from foreshock.analysis.forecast.backtest import ForecastSettings, fit_and_draw
from foreshock.analysis.forecast.exceedance import forecast_table
from foreshock.analysis.forecast.figures import reliability_figure
from foreshock.analysis.forecast.scoring import reliability_table, score_forecasts
from foreshock.analysis.surfaces.cells import seen_until

THRESHOLD = 0.10


def forecast_world(world: World, seeds: range, cutoffs: list[int], settings: ForecastSettings) -> pd.DataFrame:
    """world, seed, cutoff_idx, run, exploit_type, p_exceed, outcome (true rate passes 10%), at_risk (not yet)."""
    tables = []
    for seed in seeds:
        sweep = draw_sweep(world, seed)
        surface = ["run", "exploit_type"]
        outcome = sweep.truth.groupby(surface)["rate"].max() > THRESHOLD
        for cutoff in cutoffs:
            last = float(sweep.steps[-1])
            future = [float(step) for step in sweep.steps[cutoff + 1 :]]
            _, paths = fit_and_draw(seen_until(sweep.cells, cutoff), last, future, settings)
            table = forecast_table(paths, THRESHOLD)
            table = table[table["step"] == last][[*surface, "p_exceed"]]
            seen = sweep.truth[sweep.truth["checkpoint"] <= sweep.steps[cutoff]]
            emerged = seen.groupby(surface)["rate"].max() > THRESHOLD
            keys = pd.MultiIndex.from_frame(table[surface])
            tables.append(
                table.assign(
                    world=world.name,
                    seed=seed,
                    cutoff_idx=cutoff,
                    outcome=outcome.reindex(keys).to_numpy(float),
                    at_risk=~emerged.reindex(keys).to_numpy(bool),
                )
            )
    return pd.concat(tables, ignore_index=True)


def summarise(forecasts: pd.DataFrame) -> pd.DataFrame:
    """Scores per world, cutoff and group (`all` types, or those `at risk`).

    `brier_base` is that of the world's own base rate, `brier_base_elsewhere` of the other worlds' together (null if
    only one was run): what a forecaster could have known.
    """
    rows = []
    for (world, cutoff), part in forecasts.groupby(["world", "cutoff_idx"]):
        others = forecasts[(forecasts["cutoff_idx"] == cutoff) & (forecasts["world"] != world)]
        for group, chosen in (("all", part), ("at risk", part[part["at_risk"]])):
            elsewhere = (others if group == "all" else others[others["at_risk"]])["outcome"].mean()
            p, y = chosen["p_exceed"].to_numpy(float), chosen["outcome"].to_numpy(float)
            scores = score_forecasts(p, y, chosen["exploit_type"].to_numpy(str))
            rows.append(
                {
                    "world": world,
                    "checkpoints_seen": int(str(cutoff)) + 1,
                    "group": group,
                    "n": scores.n,
                    "mean_forecast": float(p.mean()),
                    "frequency": float(y.mean()),
                    "brier": scores.brier,
                    "brier_base": scores.brier_base,
                    "brier_base_elsewhere": float(((y - elsewhere) ** 2).mean()),
                    "skill": scores.skill,
                    "log_score": scores.log_score,
                    "log_base": scores.log_base,
                }
            )
    return pd.DataFrame(rows)


def write(forecasts: pd.DataFrame, directory: Path) -> pd.DataFrame:
    """Write forecasts.csv, scores.csv and the reliability diagram; return the scores."""
    directory.mkdir(parents=True, exist_ok=True)
    scores = summarise(forecasts)
    forecasts.to_csv(directory / "forecasts.csv", index=False)
    scores.to_csv(directory / "scores.csv", index=False)
    tables = [
        reliability_table(part["p_exceed"].to_numpy(float), part["outcome"].to_numpy(float)).assign(group=name)
        for name, part in _groups(forecasts)
    ]
    reliability_figure(
        pd.concat(tables, ignore_index=True),
        directory,
        "Reliability of forecasts on simulated sweeps",
        "Types not yet emerged at the cutoff. Bars are Wilson's 95% intervals, too short where one sweep gives "
        "several forecasts; the number of forecasts stands beside each point.",
    )
    return scores


def _groups(forecasts: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    risky = forecasts[forecasts["at_risk"]]
    early = np.asarray(risky["cutoff_idx"] <= 2)
    named = [("at most 3 checkpoints seen", risky[early]), ("4 or more", risky[~early])]
    return [(name, part) for name, part in named if len(part)]
