"""Figures of the forecast: growth curves with what may come, and how far forecast probabilities can be believed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit

from foreshock.analysis.figures import SavedFigure, house_style, new_figure, save_figure
from foreshock.analysis.figures.many import drawn_part
from foreshock.analysis.figures.palette import OTHER, RunLooks
from foreshock.analysis.figures.style import INK, RULE, checkpoint_axis, power_of_ten
from foreshock.analysis.figures.values import mark_point, rows_of, samples_of
from foreshock.analysis.forecast.exceedance import Paths
from foreshock.analysis.tables.schema import checkpoint_label

FORECASTS_TABLE = "past-forecasts"
"""Anchor of the report's table of the forecasts behind the reliability figure."""
_MAX_PANELS = 16
_COLUMNS = 4


def curve_table(paths: Paths, steps: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> pd.DataFrame:
    """run, exploit_type, checkpoint, seen, log10_rate and 50% and 95% limits, over seen and future steps.

    steps: [J, K] the seen checkpoints of each surface (padding repeats the last).
    """
    rows = []
    for j, (run, kind) in enumerate(paths.surfaces):
        own = np.unique(steps[j])
        for i, step in enumerate(own):
            rows.append((run, kind, step, True, *_quantiles(paths.seen[:, j, i])))
        for i, step in enumerate(paths.steps):
            if step > paths.last_step[j]:
                rows.append((run, kind, step, False, *_quantiles(paths.future[:, j, i])))
    columns = ["run", "exploit_type", "checkpoint", "seen", "lower95", "lower50", "log10_rate", "upper50", "upper95"]
    return pd.DataFrame(rows, columns=columns)


def _quantiles(logits: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> list[float]:
    values = np.quantile(logits, [0.025, 0.25, 0.5, 0.75, 0.975])
    return [float(v) for v in np.log10(expit(values))]


def growth_figure(
    curves: pd.DataFrame, cells: pd.DataFrame, threshold: float, directory: Path, looks: RunLooks
) -> SavedFigure:
    """One panel a (run, type): measured level-0 rates, the fitted curve, and its continuation."""
    # The types most likely to matter first: highest median at the end.
    last = curves.drop_duplicates(["run", "exploit_type"], keep="last")
    last = last.sort_values("log10_rate", ascending=False).head(_MAX_PANELS)
    keys = list(zip(last["run"].astype(str), last["exploit_type"].astype(str), strict=True))
    keys.sort(key=lambda key: (looks.place(key[0]), key[1]))  # which are drawn: the highest; where: as everywhere
    rows = -(-len(keys) // _COLUMNS)
    drawn, others = drawn_part(curves, within=["run", "exploit_type", "seen"])  # so the last seen one is drawn
    steps = sorted(drawn["checkpoint"].unique())
    zero = cells[(cells["prefill_level"] == 0) & (cells["n"] > 0)]
    with house_style():
        figure, axes = new_figure(
            9.2, 1.9 * rows + 0.5, rows, min(_COLUMNS, len(keys)), sharex=True, sharey=True, squeeze=False
        )
        place = dict(zip(steps, checkpoint_axis(axes[-1, 0], steps), strict=True))
        _thin_labels(axes[-1, 0], steps, list(place.values()))
        for axis, key in zip(axes.flat, keys, strict=False):
            part = drawn[(drawn["run"] == key[0]) & (drawn["exploit_type"] == key[1])]
            x = part["checkpoint"].map(place).to_numpy(float)
            colour = looks.colour(key[0])
            axis.fill_between(x, part["lower95"], part["upper95"], color=colour, alpha=0.13, lw=0)
            axis.fill_between(x, part["lower50"], part["upper50"], color=colour, alpha=0.22, lw=0)
            axis.plot(x, part["log10_rate"], color=colour, lw=1.4)
            seen = part[part["seen"]]["checkpoint"].max()
            axis.axvline(place[seen], color=RULE, lw=1.0)
            axis.axhline(np.log10(threshold), color=INK, lw=0.9, ls=(0, (4, 2)))
            mine = zero[(zero["run"] == key[0]) & (zero["exploit_type"] == key[1]) & (zero["k"] > 0)]
            mine = mine[mine["checkpoint"].isin(place)]
            rate = np.log10(mine["k"] / mine["n"])
            axis.plot(mine["checkpoint"].map(place), rate, "o", color=INK, markersize=3)
            for at, row in zip(x, rows_of(part), strict=True):
                told = f"{key[1]}, {key[0]}, step {checkpoint_label(row.checkpoint)}: "
                told += f"median rate {10**row.log10_rate:.2g}, 95% {10**row.lower95:.2g} to {10**row.upper95:.2g}"
                told += "" if row.seen else " (nothing measured yet)"
                # What is to come rests on all that was seen.
                where = samples_of(key[0], row.checkpoint if row.seen else None, 0, key[1])
                mark_point(axis, at, row.log10_rate, told, where)
            axis.set_title(f"{key[1].replace('_', ' ')}\n{looks.label(key[0])}", fontsize=7.5)
            axis.set_ylim(-6, 0.15)
            axis.set_yticks([-6, -4, -2, 0], [power_of_ten(power) for power in (-6, -4, -2, 0)], parse_math=True)
        for axis in axes.flat[len(keys) :]:
            axis.set_axis_off()
        for axis in axes[:, 0]:
            axis.set_ylabel("unprompted rate")
        return save_figure(
            figure,
            curves,
            directory,
            "growth_curves",
            "Unprompted exploit rate: so far and to come",
            "Line and bands: median, 50% and 95% interval of the growth model. Right of the grey line nothing has been "
            "measured. Dots: measured rates (zero counts have no dot). Dashed: the threshold. "
            f"At most {_MAX_PANELS} types are drawn, the highest first; the table has all.{others}",
        )


def _thin_labels(axis: Any, steps: list[float], places: list[float]) -> None:
    """Small panels have room for three labels: the ends and the step nearest the middle of the axis."""
    log = axis.get_xscale() == "log"
    shown = np.log(places) if log else np.asarray(places)
    middle = int(np.argmin(np.abs(shown - (shown[0] + shown[-1]) / 2)))
    kept = sorted({0, middle, len(steps) - 1})
    axis.set_xticks([places[i] for i in kept], [checkpoint_label(steps[i]) for i in kept])


def reliability_figure(table: pd.DataFrame, directory: Path, title: str, note: str) -> SavedFigure:
    """Forecast probability against how often it came true. table: `reliability_table` with an optional `group`."""
    groups = list(dict.fromkeys(table["group"])) if "group" in table else [None]
    with house_style():
        figure, axis = new_figure(4.6, 4.2)
        axis.plot([0, 1], [0, 1], color=RULE, lw=1.2, zorder=0)
        for offset, (group, colour) in enumerate(zip(groups, OTHER, strict=False)):
            part = table if group is None else table[table["group"] == group]
            x = part["mean_forecast"] + 0.006 * offset
            axis.vlines(x, part["lower95"], part["upper95"], color=colour, lw=1.0, alpha=0.6)
            axis.plot(x, part["frequency"], color=colour, marker="o", markersize=5, lw=1.2, label=group)
            for place, row in zip(x, rows_of(part), strict=True):
                at = (place, row.frequency)
                axis.annotate(f"{row.n}", at, xytext=(5, -9), textcoords="offset points", fontsize=7.5)
                told = f"forecasts of {row.bin_lower:.1f} to {row.bin_upper:.1f}, on average {row.mean_forecast:.2f}: "
                told += f"{round(row.frequency * row.n)} of {row.n} came true"
                mark_point(axis, *at, told, table=FORECASTS_TABLE)
        axis.set_xlim(-0.03, 1.03)
        axis.set_ylim(-0.03, 1.03)
        axis.set_xlabel("forecast probability")
        axis.set_ylabel("share that came true")
        if groups != [None]:
            axis.legend(loc="upper left")
        return save_figure(figure, table, directory, "reliability", title, note)
