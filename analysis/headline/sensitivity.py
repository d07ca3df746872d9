"""How far a headline leans on its prior and on single prefill levels: the same estimate with either changed.

What the exploits after each prefix say is measured once; joining, smoothing and the learned quantiles are done again. A
median that moves by half an interval when a prior scale is doubled is not the data's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from foreshock.analysis.evidence.evidence import Evidence, Floats
from foreshock.analysis.headline.estimate import Headline, cell_quantiles, reduce_table
from foreshock.analysis.headline.learned import learned
from foreshock.analysis.headline.prefixes import LevelTable, level_table
from foreshock.analysis.headline.smoother import Settings


@dataclass(frozen=True, slots=True)
class _Variant:
    name: str
    evidence: Evidence
    table: LevelTable
    settings: Settings


def _variants(evidence: Evidence, table: LevelTable) -> Iterator[_Variant]:
    h = Settings()
    wide = replace(h, level_sd=2 * h.level_sd, type_sd=2 * h.type_sd, surface_sd=2 * h.surface_sd)
    yield _Variant("rates twice as uncertain beforehand", evidence, table, wide)
    rough = replace(h, slope_sd=2 * h.slope_sd, bend_sd=2 * h.bend_sd)
    yield _Variant("growth twice as uncertain beforehand", evidence, table, rough)
    yield _Variant("no shift for a low mean weight", evidence, table, replace(h, shift=0.0))
    strict = replace(h, shift=2 * h.shift, widen=2 * h.widen)
    yield _Variant("twice the shift and width for a low mean weight", evidence, table, strict)
    above = np.flatnonzero(evidence.levels > 0)
    for gone in above if len(above) > 1 else []:
        kept = np.arange(len(evidence.levels)) != gone
        less = replace(evidence, levels=evidence.levels[kept], n=evidence.n[:, :, kept], k=evidence.k[:, :, kept])
        columns = {field.name: getattr(table, field.name)[:, :, kept] for field in fields(LevelTable)}
        yield _Variant(f"without level {evidence.levels[gone]}", less, LevelTable(**columns), h)


def headline_sensitivity(evidence: Evidence, headline: Headline) -> pd.DataFrame:
    """run, exploit_type, checkpoint, variant, log10_rate, change (decades), outside: the median of each cell that is an
    estimate under each variant, and whether it leaves the 95% interval as published."""
    known, parts = learned(), []
    chosen = np.argwhere(headline.verdict.estimate)
    names = pd.DataFrame(
        [(evidence.surfaces[j].run, evidence.surfaces[j].exploit_type, int(evidence.steps[c])) for j, c in chosen],
        columns=["run", "exploit_type", "checkpoint"],
    )
    if not len(names):
        return names.assign(variant="", log10_rate=np.nan, change=np.nan, outside=False)

    def pick(grid: Floats) -> Floats:
        return grid[chosen[:, 0], chosen[:, 1]]

    base, low, high = (pick(grid) for grid in (headline.median, headline.lower95, headline.upper95))
    with threadpool_limits(1):
        for variant in _variants(evidence, level_table(evidence)):
            found = reduce_table(variant.evidence, variant.table, variant.settings)
            median = pick(cell_quantiles(found, known)[2])
            outside = (median < low) | (median > high)
            parts.append(names.assign(variant=variant.name, log10_rate=median, change=median - base, outside=outside))
    return pd.concat(parts, ignore_index=True)


def headline_sensitivity_summary(table: pd.DataFrame) -> pd.DataFrame:
    """variant, mean_change (signed), typical_change and largest_change (absolute, decades), outside (share)."""
    size = table.assign(size=table["change"].abs()).groupby("variant", sort=False)
    columns = {
        "mean_change": size["change"].mean(), "typical_change": size["size"].median(),
        "largest_change": size["size"].max(), "outside": size["outside"].mean(),
    }  # fmt: skip
    return pd.DataFrame(columns).reset_index()
