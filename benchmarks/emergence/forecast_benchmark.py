"""Forecasts of held-out simulated sweeps, scored against the truth.

The base rate to beat is that of the very sweeps that are scored, which no forecaster knows; that of the other worlds'
sweeps stands beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from benchmarks.emergence.worlds import Sweep
from numpy.typing import NDArray

from foreshock.analysis.forecast.backtest import ForecastSettings, fit_and_draw
from foreshock.analysis.forecast.exceedance import model_passage, passage
from foreshock.analysis.forecast.figures import reliability_figure
from foreshock.analysis.forecast.scoring import brier, reliability_table, score_forecasts
from foreshock.analysis.surfaces.cells import SURFACE, seen_until

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]
THRESHOLD = 0.10
TOGETHER = "all worlds"


def forecast_world(
    name: str, draw: Callable[[int], Sweep], seeds: range, cutoffs: list[int], settings: ForecastSettings
) -> pd.DataFrame:
    """Forecasts of one kind of world at each cutoff that leaves a later checkpoint.

    Columns: world, seed, cutoff_idx, run, exploit_type, p_exceed, p_exceed_model (uncorrected), outcome (true rate
    passes 10%), at_risk (not yet), and passed_before, passed_until: the forecast's distribution of the time to
    threshold just before and at the true first passage (1 above where it lies beyond the last checkpoint).
    """
    tables = []
    for seed in seeds:
        sweep = draw(seed)
        rates = sweep.truth.pivot(index=SURFACE, columns="checkpoint", values="rate")
        for cutoff in [cutoff for cutoff in cutoffs if cutoff < len(sweep.steps) - 1]:
            future = [float(step) for step in sweep.steps[cutoff + 1 :]]
            _, paths = fit_and_draw(seen_until(sweep.cells, cutoff), float(sweep.steps[-1]), future, settings)
            passed, seen = passage(paths, THRESHOLD)
            model, _ = model_passage(paths, THRESHOLD)
            above = rates.loc[list(paths.surfaces)].to_numpy() > THRESHOLD
            before, until = _around_first_passage(above, cutoff, passed, seen)
            table = pd.DataFrame(list(paths.surfaces), columns=SURFACE)
            tables.append(
                table.assign(
                    world=name,
                    seed=seed,
                    cutoff_idx=cutoff,
                    p_exceed=passed[:, -1],
                    p_exceed_model=model[:, -1],
                    outcome=above.any(axis=1).astype(float),
                    at_risk=~above[:, : cutoff + 1].any(axis=1),
                    passed_before=before,
                    passed_until=until,
                )
            )
    return pd.concat(tables, ignore_index=True)


def _around_first_passage(above: Flags, cutoff: int, passed: Array, seen: Array) -> tuple[Array, Array]:
    """Forecast P(passed) just before and at the true first passage; surfaces that passed by the cutoff have (0, seen),
    those that never pass (P at the last checkpoint, 1)."""
    chance = np.column_stack([seen, passed])
    later = above[:, cutoff + 1 :]
    place = np.where(later.any(axis=1), later.argmax(axis=1), later.shape[1])
    rows = np.arange(len(above))
    before = chance[rows, place]
    until = np.where(later.any(axis=1), chance[rows, np.minimum(place + 1, passed.shape[1])], 1.0)
    already = above[:, : cutoff + 1].any(axis=1)
    return np.where(already, 0.0, before), np.where(already, seen, until)


def time_coverage(forecasts: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """How often the true first passage lies in the central 90% interval of the forecast time, censored series included.

    Checkpoints and censoring make the forecast distribution jump; the truth's place in it is drawn evenly within the
    jump (randomised probability integral transform), so that a right forecast covers exactly .90.
    """
    rng = np.random.default_rng(seed)
    jump = (forecasts["passed_until"] - forecasts["passed_before"]).to_numpy(float)
    place = forecasts["passed_before"].to_numpy(float) + rng.random(len(forecasts)) * jump
    early = np.asarray(forecasts["cutoff_idx"] <= 2)
    rows = []
    for group, chosen in (("all", early | True), ("at most 3 checkpoints", early), ("4 or more", ~early)):
        mine = place[chosen]
        inside, below = ((mine >= 0.05) & (mine <= 0.95)).mean(), (mine < 0.05).mean()
        rows.append((group, len(mine), inside, below, (mine > 0.95).mean()))
    return pd.DataFrame(rows, columns=["checkpoints_seen", "n", "coverage90", "before_5", "after_95"])


def summarise(forecasts: pd.DataFrame) -> pd.DataFrame:
    """Scores per world, cutoff and group (`all` types, or those `at risk`), and of all worlds together.

    `brier_base` is that of the world's own base rate, `brier_base_elsewhere` of the other worlds' together (null if
    only one was run): what a forecaster could have known.
    """
    rows = []
    together = forecasts.assign(world=TOGETHER) if forecasts["world"].nunique() > 1 else forecasts.iloc[:0]
    for (world, cutoff), part in pd.concat([forecasts, together]).groupby(["world", "cutoff_idx"], sort=False):
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
                    "brier_model": brier(chosen["p_exceed_model"].to_numpy(float), y),
                    "skill": scores.skill,
                    "log_score": scores.log_score,
                    "log_base": scores.log_base,
                }
            )
    return pd.DataFrame(rows)


def write(forecasts: pd.DataFrame, directory: Path) -> pd.DataFrame:
    """Write forecasts.csv, scores.csv, time_coverage.csv, reliability.csv and its diagram; return the scores."""
    directory.mkdir(parents=True, exist_ok=True)
    scores = summarise(forecasts)
    forecasts.to_csv(directory / "forecasts.csv", index=False)
    scores.to_csv(directory / "scores.csv", index=False)
    time_coverage(forecasts).to_csv(directory / "time_coverage.csv", index=False)
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
