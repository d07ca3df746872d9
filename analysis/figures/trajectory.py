"""Figures of trajectories: how far each task is from being exploited, and how that changes over training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from foreshock.analysis.figures.save import SavedFigure, save_figure
from foreshock.analysis.figures.style import (
    ACCENT,
    CATEGORICAL,
    INK,
    RULE,
    SOFT_INK,
    WARM,
    checkpoint_axis,
    house_style,
    label_lines_at_end,
    legend_above,
    new_figure,
    ordered_colours,
    readable_on,
)
from foreshock.analysis.tables.schema import checkpoint_label

_BANDS = ("not exploited at any level", "lower half", "upper half", "at or below the threshold")


def accessibility_figure(frame: pd.DataFrame, summary: dict[str, Any], directory: Path) -> SavedFigure:
    """Shares of tasks in four classes of accessibility at each checkpoint, and the mean."""
    known = frame.dropna(subset=["accessibility"])
    band = np.select(
        [~known["exploitable"].to_numpy(dtype=bool), known["at_threshold"].to_numpy(dtype=bool),
         known["accessibility"].to_numpy() > 0.5],
        [0, 3, 2], 1,
    )  # fmt: skip
    counts = pd.crosstab(known["checkpoint"].to_numpy(), band).reindex(columns=range(4), fill_value=0)
    shares = counts.div(counts.sum(axis=1), axis=0)
    mean = known.groupby("checkpoint")["accessibility"].mean()
    data = pd.DataFrame({"checkpoint": shares.index, "n_tasks": counts.sum(axis=1).to_numpy()})
    for index, name in enumerate(("none", "low", "high", "at_threshold")):
        data[f"share_{name}"] = shares[index].to_numpy()
    data["mean_accessibility"] = mean.to_numpy()
    colours = ["#e9edf1", *ordered_colours(3)]
    with house_style():
        figure, axis = new_figure(6.2, 3.7)
        x = np.arange(len(shares))
        bottom = np.zeros(len(shares))
        for index in (3, 2, 1, 0):
            height = 100 * shares[index].to_numpy()
            axis.bar(x, height, 0.72, bottom=bottom, color=colours[index], edgecolor="white", label=_BANDS[index])
            for position, value, base in zip(x, height, bottom, strict=True):
                if value >= 7:
                    axis.text(position, base + value / 2, f"{value:.0f}", ha="center", va="center",
                              fontsize=8.5, color=readable_on(colours[index]))  # fmt: skip
            bottom += height
        for position, value in zip(x, mean, strict=True):
            axis.text(position, 102, f"{value:.2f}", ha="center", color=WARM, fontsize=9, weight="bold")
        axis.set_xticks(x, [checkpoint_label(step) for step in shares.index])
        axis.set_xlabel("training step")
        axis.set_ylabel("tasks (%)")
        axis.set_ylim(0, 110)
        axis.set_yticks(range(0, 101, 20))
        legend_above(axis, columns=2)
        return save_figure(
            figure,
            data,
            directory,
            "accessibility_distribution",
            "How accessible the exploits are, over training",
            f"Tasks by accessibility: 1 when {summary['threshold']} words or fewer are enough, falling linearly to 0 "
            f"at {summary['max_level']} words. Above the bars: the mean. "
            f"{summary['n_tasks']} tasks; {_attempts_text(summary)}",
        )


def median_trajectory_figure(frame: pd.DataFrame, summary: dict[str, Any], directory: Path) -> SavedFigure:
    """Median min prefill with the interquartile range."""
    data = (
        frame.dropna(subset=["min_prefill"])
        .astype({"min_prefill": float})
        .groupby("checkpoint")["min_prefill"]
        .describe(percentiles=[0.25, 0.5, 0.75])
        .reset_index()[["checkpoint", "count", "25%", "50%", "75%"]]
        .set_axis(["checkpoint", "n_tasks", "q25", "median", "q75"], axis=1)
    )
    none = summary["max_level"] + 1
    with house_style():
        figure, axis = new_figure(6.2, 3.7)
        x = checkpoint_axis(axis, data["checkpoint"].tolist())
        axis.fill_between(x, data["q25"], data["q75"], color=ACCENT, alpha=0.16, lw=0, label="middle half of the tasks")
        axis.plot(x, data["median"], color=ACCENT, marker="o", markersize=4.5, label="median")
        axis.axhline(summary["threshold"], color=WARM, lw=1.1, ls=(0, (4, 3)), label="threshold")
        _words_axis(axis, summary["levels"], none)
        legend_above(axis)
        return save_figure(
            figure,
            data,
            directory,
            "median_trajectory",
            "The smallest prefill that is enough",
            f"Min prefill: the smallest level at which any attempt exploits a task. “none” (plotted at {none}) "
            f"means no attempt did at any level. It falls with the number of attempts; {_attempts_text(summary)}",
        )


def time_to_threshold_figure(frame: pd.DataFrame, summary: dict[str, Any], directory: Path) -> SavedFigure:
    """Cumulative share of tasks that have come to the threshold, per exploit type."""
    data = first_reached(frame)
    with house_style():
        figure, axis = new_figure(6.2, 3.9)
        steps = sorted(data["checkpoint"].unique())
        x = dict(zip(steps, checkpoint_axis(axis, steps), strict=True))
        ends = []
        types = [kind for kind in data["exploit_type"].unique() if kind != "all"]
        colours = dict(zip(types, CATEGORICAL, strict=False))
        for kind in [*types, "all"]:
            part = data[data["exploit_type"] == kind]
            whole = kind == "all"
            colour = INK if whole else colours.get(kind, SOFT_INK)
            at = [x[step] for step in part["checkpoint"]]
            share = 100 * part["share_reached"].to_numpy()
            axis.plot(at, share, drawstyle="steps-post", color=colour, lw=2.6 if whole else 1.3,
                      alpha=1 if whole else 0.85)  # fmt: skip
            label = f"all {part['n_tasks'].iloc[0]} tasks" if whole else kind.replace("_", " ")
            ends.append((at[-1], float(share[-1]), label, colour))
        axis.set_ylim(0, 101)
        axis.set_ylabel("tasks that have reached the threshold (%)")
        label_lines_at_end(axis, ends)
        never = summary["n_tasks"] - summary["n_tasks_reaching_threshold"]
        return save_figure(
            figure,
            data,
            directory,
            "time_to_threshold",
            "When tasks become easy to exploit",
            f"Share of tasks for which {summary['threshold']} words or fewer have been enough at this checkpoint or an "
            f"earlier one. {summary['n_tasks_reaching_threshold']} of {summary['n_tasks']} tasks get there; "
            f"{never} do not.",
        )


def first_reached(frame: pd.DataFrame) -> pd.DataFrame:
    """exploit_type (and `all`), checkpoint, n_tasks, n_reached, share_reached: first arrivals, cumulated."""
    steps = sorted(frame["checkpoint"].unique())
    reached = frame[frame["at_threshold"].fillna(False).astype(bool)]
    first = reached.groupby(["task_id", "exploit_type"], observed=True)["checkpoint"].min().reset_index()
    tasks = frame[["task_id", "exploit_type"]].drop_duplicates()
    rows = []
    for kind in [*sorted(tasks["exploit_type"].unique()), "all"]:
        mine = first if kind == "all" else first[first["exploit_type"] == kind]
        total = len(tasks) if kind == "all" else int((tasks["exploit_type"] == kind).sum())
        for step in steps:
            count = int((mine["checkpoint"] <= step).sum())
            rows.append((kind, step, total, count, count / total))
    return pd.DataFrame(rows, columns=["exploit_type", "checkpoint", "n_tasks", "n_reached", "share_reached"])


def descent_rates_figure(rates: pd.DataFrame, summary: dict[str, Any], directory: Path) -> SavedFigure:
    """Words per 100 steps by which min prefill falls between neighbouring checkpoints: mean, median and IQR."""
    grouped = rates.groupby(["checkpoint_from", "checkpoint_to"])["words_per_100_steps"]
    data = grouped.describe(percentiles=[0.25, 0.5, 0.75])[["count", "mean", "25%", "50%", "75%"]].reset_index()
    data = data.set_axis(["checkpoint_from", "checkpoint_to", "n_tasks", "mean", "q25", "median", "q75"], axis=1)
    with house_style():
        figure, axis = new_figure(6.2, 3.6)
        x = np.arange(len(data))
        axis.axhline(0, color=SOFT_INK, lw=0.8)
        axis.bar(x, data["q75"] - data["q25"], 0.5, bottom=data["q25"], color=ACCENT, alpha=0.22,
                 label="middle half of the tasks")  # fmt: skip
        axis.hlines(data["median"], x - 0.25, x + 0.25, color=ACCENT, lw=2.2, label="median")
        axis.plot(x, data["mean"], "D", color=WARM, markersize=5, label="mean")
        axis.set_xticks(x, [f"{row.checkpoint_from}–{row.checkpoint_to}" for row in data.itertuples()])
        axis.set_xlabel("between training steps")
        axis.set_ylabel("fall of min prefill\n(words per 100 steps)")
        legend_above(axis)
        return save_figure(
            figure,
            data,
            directory,
            "descent_rates",
            "How fast the needed prefill falls",
            "Change of min prefill between neighbouring checkpoints, per 100 training steps; above zero means that "
            f"fewer words are needed. “None” counts as {summary['max_level'] + 1} words, so falls from it are "
            "understated.",
        )


def attempts_figure(data: pd.DataFrame, summary: dict[str, Any], directory: Path) -> SavedFigure:
    """Expected min prefill against the number of attempts, one line a checkpoint."""
    steps = sorted(data["checkpoint"].unique())
    with house_style():
        figure, axis = new_figure(6.2, 3.7)
        for step, colour in zip(steps, ordered_colours(len(steps)), strict=True):
            part = data[data["checkpoint"] == step]
            axis.plot(part["attempts"], part["expected_min_prefill"], color=colour, marker="o", markersize=4,
                      label=checkpoint_label(step))  # fmt: skip
        ticks = sorted(data["attempts"].unique())
        axis.set_xticks(ticks, [str(tick) for tick in ticks])
        axis.set_ylim(bottom=0)
        axis.set_xlabel("attempts per task and level")
        axis.set_ylabel("mean of expected min prefill (words)")
        legend_above(axis, "step")
        return save_figure(
            figure,
            data,
            directory,
            "min_prefill_by_attempts",
            "Min prefill depends on the number of attempts",
            "What these data say min prefill would have been with fewer attempts: the exact expectation over which of "
            "the attempts had been drawn. Compare sweeps at equal attempts only. “None” counts as "
            f"{summary['max_level'] + 1} words.",
        )


def _words_axis(axis: Any, levels: list[int], none: int) -> None:
    ticks = _thin([level for level in levels if level <= none], none)
    axis.set_yticks([*ticks, none], [*map(str, ticks), "none"])
    axis.set_ylim(-0.02 * none, none * 1.04)
    axis.set_ylabel("min prefill (words)")
    axis.grid(True, axis="y", color=RULE)


def _thin(levels: list[int], none: int) -> list[int]:
    kept: list[int] = []
    for level in levels:
        if (not kept or level - kept[-1] >= 0.055 * none) and none - level >= 0.055 * none:
            kept.append(level)
    return kept


def _attempts_text(summary: dict[str, Any]) -> str:
    attempts = summary["attempts_per_level"]
    if isinstance(attempts, list):
        return f"between {attempts[0]} and {attempts[-1]} attempts per task and level."
    return f"{attempts} attempt{'s' if attempts != 1 else ''} per task and level."
