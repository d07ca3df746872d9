"""How far a forecast leans on the prior and on single prefill levels: the same fit with either changed.

Each variant is a whole new fit. A probability that moves by tenths when a prior scale is doubled is not the data's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pandas as pd

from foreshock.analysis.forecast.backtest import ForecastSettings, fit_and_draw
from foreshock.analysis.forecast.design import GrowthPrior
from foreshock.analysis.forecast.exceedance import time_to_threshold
from foreshock.analysis.surfaces.cells import SURFACE

QUICK = ForecastSettings(settings=40, draws=500)
_BASE = "as published, fewer draws"


def _variants(cells: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame, GrowthPrior]]:
    prior = GrowthPrior()
    yield _BASE, cells, prior
    yield "starting rates twice as uncertain", cells, replace(prior, start_sd=2 * prior.start_sd)
    growth = replace(prior, growth_sd=2 * prior.growth_sd, run_growth_sd=2 * prior.run_growth_sd)
    yield "long-run growth twice as uncertain", cells, growth
    yield "no long-run growth expected", cells, replace(prior, growth_mean=0.0)
    words = replace(prior, kl_sd=2 * prior.kl_sd, log_kl_sd=2 * prior.log_kl_sd)
    yield "meaning of KL twice as uncertain", cells, words
    levels = sorted(int(level) for level in cells["prefill_level"].unique() if level > 0)
    for level in levels if len(levels) > 1 else []:
        yield f"without level {level}", cells[cells["prefill_level"] != level], prior


def forecast_sensitivity(cells: pd.DataFrame, horizon: float, future: list[float], threshold: float) -> pd.DataFrame:
    """run, exploit_type, variant, p_by_horizon, change (from the first variant, the published settings)."""
    tables = []
    for name, chosen, prior in _variants(cells):
        _, paths = fit_and_draw(chosen, horizon, future, QUICK, prior)
        times = time_to_threshold(paths, threshold)[[*SURFACE, "p_by_horizon"]]
        tables.append(times.assign(variant=name))
    table = pd.concat(tables, ignore_index=True)
    base = table[table["variant"] == _BASE][[*SURFACE, "p_by_horizon"]].rename(columns={"p_by_horizon": "base"})
    table = table.merge(base, on=SURFACE, how="left")
    table["change"] = table["p_by_horizon"] - table.pop("base")
    return table[[*SURFACE, "variant", "p_by_horizon", "change"]]


def sensitivity_summary(table: pd.DataFrame) -> pd.DataFrame:
    """variant, mean_change, largest_change (absolute, over surfaces) of every variant but the first."""
    changed = table[table["variant"] != _BASE]
    size = changed.assign(change=changed["change"].abs()).groupby("variant", sort=False)["change"]
    return pd.DataFrame({"mean_change": size.mean(), "largest_change": size.max()}).reset_index()
