"""The report's one figure: where every exploit type of every run stands, and where it may go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from foreshock.analysis.figures.palette import RunLooks
from foreshock.analysis.figures.save import SavedFigure, save_figure
from foreshock.analysis.figures.style import INK, RULE, SOFT_INK, house_style, legend_above, new_figure
from foreshock.analysis.figures.values import mark_point, rows_of, samples_of

_MOST_ROWS = 24
_FLOOR = 1e-6


def answer_figure(
    data: pd.DataFrame, threshold: float, horizon: float | None, directory: Path, looks: RunLooks
) -> SavedFigure:
    """Left: the unprompted rate now, per exploit type and run, with its 95% interval. Right: the chance that it passes
    the threshold by the horizon.

    `data`: run, exploit_type, checkpoint, k, n, rate (NaN for a bound), counted, lower95, upper95, reason, state,
    probability.
    """
    highest = data.groupby("exploit_type")["upper95"].max().sort_values(ascending=False, kind="stable")
    types = sorted(str(name) for name in highest.index[:_MOST_ROWS])[::-1]
    runs = looks.ordered(data["run"])
    gap = 0.6 / max(len(runs), 1)
    place = {kind: i for i, kind in enumerate(types)}
    floor = _floor(data)
    with house_style():
        height = max(1.9, 0.34 * len(types) * max(1.0, 0.62 * len(runs)) + 1.0)
        figure, (left, right) = new_figure(9.2, height, 1, 2, sharey=True, width_ratios=[2.1, 1])
        for i, run in enumerate(runs):
            mine = data[(data["run"] == run) & data["exploit_type"].isin(types)]
            shift = gap * ((len(runs) - 1) / 2 - i)
            for row in rows_of(mine):
                _rate(left, row, place[str(row.exploit_type)] + shift, floor, looks)
                _chance(right, row, place[str(row.exploit_type)] + shift, looks)
            left.plot([], [], looks.marker(run), color=looks.colour(run), label=looks.legend(run))
        left.set_xscale("log")
        left.set_xlim(floor / 1.3, 1.3)
        left.axvline(threshold, color=INK, lw=1.0, ls=(0, (4, 3)))
        left.set_yticks(range(len(types)), [kind.replace("_", " ") for kind in types])
        left.set_ylim(-0.6, len(types) - 0.4)
        left.set_xlabel("unprompted exploit rate at the last checkpoint")
        right.set_xlim(-4, 104)
        right.set_xlabel(f"chance to pass {100 * threshold:g}% (%)")
        for axis in (left, right):
            axis.grid(True, axis="both", color=RULE)
        legend_above(left)
        by = "the last step forecast to" if horizon is None else f"step {horizon:.0f}"
        rest = "" if len(highest) <= _MOST_ROWS else f" {_MOST_ROWS} of {len(highest)} types are drawn, the highest."
        return save_figure(
            figure,
            data,
            directory,
            "answer",
            "Where every exploit type stands, and where it may go",
            "Left: filled marks are estimates of the unprompted rate with 95% intervals, hollow ones counts alone; "
            "bars without a mark are bounds, which say where the rate may lie and no more. Dashed: "
            f"{100 * threshold:g}%. Right: the chance to be above it by {by}; filled at 100: emerged already; no mark: "
            f"not known.{rest}",
        )


def _floor(data: pd.DataFrame) -> float:
    low = data["lower95"].to_numpy(dtype=float)
    low = low[low > 0]
    least = float(low.min()) if len(low) else 1e-3
    return max(float(10.0 ** np.floor(np.log10(min(least, 1e-2)))), _FLOOR)


def _rate(axis: Any, row: Any, y: float, floor: float, looks: RunLooks) -> None:
    if pd.isna(row.upper95):
        return
    colour, low = looks.colour(row.run), max(row.lower95, floor)
    estimate = not pd.isna(row.rate)
    axis.plot([low, max(row.upper95, floor)], [y, y], color=colour, lw=2.0 if estimate else 5.0,
              alpha=1.0 if estimate else 0.35, solid_capstyle="butt")  # fmt: skip
    middle = max(row.rate, floor) if estimate else float(np.sqrt(low * max(row.upper95, floor)))
    if estimate:
        face = "white" if row.counted else colour
        axis.plot([middle], [y], looks.marker(row.run), color=colour, markersize=6, markerfacecolor=face)
    said = "a bound" if not estimate else f"{'counted' if row.counted else 'estimate'} {row.rate:.2g}"
    told = f"{row.exploit_type}, {looks.label(row.run)}: {said}, 95% {row.lower95:.2g} to {row.upper95:.2g}"
    told += f"; {row.k} of {row.n} seen" + (f" ({row.reason})" if row.reason else "")
    mark_point(axis, middle, y, told, samples_of(row.run, row.checkpoint, 0, str(row.exploit_type)))


def _chance(axis: Any, row: Any, y: float, looks: RunLooks) -> None:
    colour = looks.colour(row.run)
    where = samples_of(row.run, level=0, kind=str(row.exploit_type))
    if row.state == "emerged":
        axis.plot([100], [y], looks.marker(row.run), color=colour, markersize=6)
        mark_point(axis, 100, y, f"{row.exploit_type}, {looks.label(row.run)}: emerged", where)
    elif not pd.isna(row.probability) and row.state != "not known":
        chance = 100 * row.probability
        axis.plot([0, chance], [y, y], color=colour, lw=1.2)
        axis.plot([chance], [y], looks.marker(row.run), color=colour, markersize=5, markerfacecolor="white")
        mark_point(axis, chance, y, f"{row.exploit_type}, {looks.label(row.run)}: {chance:.0f}%, {row.state}", where)
    else:
        axis.text(2, y, "not known", va="center", fontsize=8, color=SOFT_INK)
