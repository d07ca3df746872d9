"""Exploit rates as measured: against the prefill level, and as a surface over training and level."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import norm

from foreshock.analysis.figures.many import drawn_part
from foreshock.analysis.figures.save import SavedFigure, save_figure
from foreshock.analysis.figures.style import (
    MISSING,
    SEQUENTIAL,
    house_style,
    legend_above,
    new_figure,
    ordered_colours,
    percent_axis,
    readable_on,
)
from foreshock.analysis.figures.values import mark_cell, mark_point, rows_of, samples_of
from foreshock.analysis.tables.schema import checkpoint_label

_MAX_PANELS = 15


def wilson(k: np.ndarray[Any, Any], n: np.ndarray[Any, Any], level: float = 0.95) -> tuple[Any, Any]:
    """Wilson score interval of k of n (Wilson 1927); well behaved at 0 and n."""
    z = norm.ppf(0.5 + level / 2)
    rate = k / n
    centre = (rate + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * np.sqrt(rate * (1 - rate) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    return np.maximum(centre - half, 0.0), np.minimum(centre + half, 1.0)


def pooled_rates(cells: pd.DataFrame) -> pd.DataFrame:
    """checkpoint, prefill_level, n, k, rate, lower95, upper95 over all exploit types."""
    pooled = cells.groupby(["checkpoint", "prefill_level"], observed=True)[["n", "k"]].sum().reset_index()
    lower, upper = wilson(pooled["k"].to_numpy(), pooled["n"].to_numpy())
    return pooled.assign(rate=pooled["k"] / pooled["n"], lower95=lower, upper95=upper)


def pass_rates_figure(cells: pd.DataFrame, directory: Path, run: str) -> SavedFigure:
    """Exploit rate against prefill level, one line a checkpoint."""
    data = pooled_rates(cells)
    drawn, others = drawn_part(data)
    levels = sorted(drawn["prefill_level"].unique())
    steps = sorted(drawn["checkpoint"].unique())
    place = {level: index for index, level in enumerate(levels)}
    with house_style():
        figure, axis = new_figure(6.2, 4.0)
        for step, colour in zip(steps, ordered_colours(len(steps)), strict=True):
            part = drawn[drawn["checkpoint"] == step]
            x = part["prefill_level"].map(place).to_numpy(dtype=float)
            rate = 100 * part["rate"].to_numpy()
            axis.fill_between(x, 100 * part["lower95"], 100 * part["upper95"], color=colour, alpha=0.10, lw=0)
            axis.plot(x, rate, color=colour, marker="o", markersize=4, label=checkpoint_label(step))
            for row, place_x, height in zip(rows_of(part), x, rate, strict=True):
                mark_point(axis, place_x, height, _told(row), samples_of(run, step, row.prefill_level))
        axis.set_xticks(range(len(levels)), [str(level) for level in levels])
        axis.set_xlim(-0.35, len(levels) - 0.65)
        percent_axis(axis)
        axis.set_xlabel("prefill level (words of exploit reasoning forced)")
        axis.set_ylabel("exploit rate (%, square-root scale)")
        legend_above(axis, "step")
        return save_figure(
            figure,
            data,
            directory,
            "pass_rates_vs_level",
            "How little of a kick is enough",
            f"Share of attempts that exploit the weak verifier, by words of exploit reasoning forced, at each "
            f"checkpoint of {run}. Bands are 95% Wilson intervals that treat attempts as independent. "
            f"n = {_range(data['n'])} attempts a point.{others}",
        )


def rate_surface_figure(cells: pd.DataFrame, directory: Path, run: str) -> SavedFigure:
    """Heat map over checkpoint and level, all exploit types together, with counts in the cells."""
    data = pooled_rates(cells)
    drawn, others = drawn_part(data)
    steps = sorted(drawn["checkpoint"].unique())
    levels = sorted(drawn["prefill_level"].unique())
    with house_style():
        width = max(4.2, min(0.78 * len(steps) + 1.6, 10))
        figure, axis = new_figure(width, max(1.8, 0.44 * len(levels) + 1.0))
        image = _heat(axis, drawn, steps, levels, run, annotate=len(steps) * len(levels) <= 150)
        axis.set_xlabel("training step")
        axis.set_ylabel("prefill level (words)")
        bar = figure.colorbar(image, ax=axis, shrink=0.9, pad=0.02, aspect=24)
        bar.set_label("exploit rate (%)")
        bar.outline.set_visible(False)
        return save_figure(
            figure,
            data,
            directory,
            "rate_surface",
            "The exploit rate over training and prefill",
            f"Exploits per attempts in every cell of {run}, all exploit types together. "
            f"Grey cells were not measured. Level 0 is the unprompted rate.{others}",
        )


def type_surfaces_figure(cells: pd.DataFrame, directory: Path, run: str) -> SavedFigure:
    """The same surface per exploit type, small."""
    data = cells.assign(rate=cells["k"] / cells["n"])
    types = sorted(data["exploit_type"].astype(str).unique())
    shown = types[:_MAX_PANELS]
    drawn, others = drawn_part(data)
    steps = sorted(drawn["checkpoint"].unique())
    levels = sorted(data["prefill_level"].unique())
    columns = min(3, len(shown))
    rows = -(-len(shown) // columns)
    with house_style():
        figure, axes = new_figure(
            max(2.07 * columns, 3.4), 1.8 * rows + 0.5, rows, columns, squeeze=False, sharex=True, sharey=True
        )
        image: Any = None
        for axis, kind in zip(axes.flat, shown, strict=False):
            part = drawn[drawn["exploit_type"].astype(str) == kind]
            image = _heat(axis, part, steps, levels, run, annotate=False)
            axis.set_title(textwrap.fill(kind.replace("_", " "), 18), fontsize=8.5)
        for axis in list(axes.flat)[len(shown) :]:
            axis.set_visible(False)
        figure.supxlabel("training step", fontsize=9.5)
        figure.supylabel("prefill level (words)", fontsize=9.5)
        bar = figure.colorbar(image, ax=axes, shrink=0.85, pad=0.02, aspect=28)
        bar.set_label("exploit rate (%)")
        bar.outline.set_visible(False)
        rest = "" if len(types) <= _MAX_PANELS else f" The first {_MAX_PANELS} of {len(types)} types are shown."
        return save_figure(
            figure,
            data,
            directory,
            "rate_surface_by_type",
            "The same surface for each exploit type",
            f"Exploit rate per exploit type in {run}, on one colour scale. Grey cells were not measured. "
            f"n = {_range(data['n'])} attempts a cell.{rest}{others}",
        )


def _heat(axis: Any, data: pd.DataFrame, steps: list[float], levels: list[int], run: str, annotate: bool) -> Any:
    grid = np.full((len(levels), len(steps)), np.nan)
    rows = [levels.index(level) for level in data["prefill_level"]]
    columns = [steps.index(step) for step in data["checkpoint"]]
    grid[rows, columns] = 100 * data["rate"].to_numpy(dtype=float)
    colours = SEQUENTIAL.with_extremes(bad=MISSING)
    edges = (np.arange(len(steps) + 1) - 0.5, np.arange(len(levels) + 1) - 0.5)
    image = axis.pcolormesh(*edges, np.ma.masked_invalid(grid), cmap=colours, vmin=0, vmax=100)
    axis.set_facecolor(MISSING)
    for row, at, item in zip(rows, columns, rows_of(data), strict=True):
        kind = str(item.exploit_type) if "exploit_type" in data else None
        mark_cell(axis, at, row, _told(item), samples_of(run, item.checkpoint, item.prefill_level, kind))
    every = 1 if annotate else max(1, -(-len(steps) // 5))
    axis.set_xticks(range(0, len(steps), every), [checkpoint_label(step) for step in steps[::every]])
    axis.set_yticks(range(len(levels)), [str(level) for level in levels])
    axis.grid(False)
    for spine in axis.spines.values():
        spine.set_visible(False)
    axis.tick_params(length=0)
    axis.set_xticks(np.arange(-0.5, len(steps)), minor=True)
    axis.set_yticks(np.arange(-0.5, len(levels)), minor=True)
    axis.grid(which="minor", visible=True, axis="both", color="white", linewidth=1.5)
    axis.tick_params(which="minor", length=0)
    if annotate:
        for row, column, k, n in zip(rows, columns, data["k"], data["n"], strict=True):
            value = grid[row, column]
            ink = readable_on(colours(value / 100))
            axis.text(column, row + 0.12, _percent(value, k), ha="center", va="center", color=ink, fontsize=9)
            axis.text(column, row - 0.24, f"{k}/{n}", ha="center", va="center", color=ink, fontsize=6.5)
    return image


def _told(row: Any) -> str:
    """A cell or point in words."""
    kind = f"{str(row.exploit_type).replace('_', ' ')}, " if hasattr(row, "exploit_type") else ""
    return (
        f"{kind}step {checkpoint_label(row.checkpoint)}, {row.prefill_level} words: {row.k} of {row.n} exploit "
        f"({100 * row.k / row.n:.1f}%)"
    )


def _percent(value: float, k: int) -> str:
    if k == 0:
        return "0"
    return f"{value:.1f}" if value < 9.95 else f"{value:.0f}"


def _range(counts: pd.Series[Any]) -> str:
    low, high = int(counts.min()), int(counts.max())
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
