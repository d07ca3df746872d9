"""Figures of trajectories: how far each task is from being exploited, and how that changes over training."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.ticker import NullLocator

from foreshock.analysis.figures.many import drawn_part
from foreshock.analysis.figures.palette import OTHER, RUNS
from foreshock.analysis.figures.save import SavedFigure, save_figure
from foreshock.analysis.figures.style import (
    INK,
    RULE,
    SOFT_INK,
    checkpoint_axis,
    house_style,
    label_lines_at_end,
    legend_above,
    new_figure,
    ordered_colours,
    readable_on,
)
from foreshock.analysis.figures.values import mark_point, rows_of, samples_of
from foreshock.analysis.tables.schema import checkpoint_label

_TYPE_MARKERS = "osD^vP*X<>"
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
    drawn, others = drawn_part(data)
    colours = ["#e9edf1", *ordered_colours(3)]
    with house_style():
        figure, axis = new_figure(6.2, 3.7)
        x = np.arange(len(drawn))
        bottom = np.zeros(len(drawn))
        for index, name in ((3, "at_threshold"), (2, "high"), (1, "low"), (0, "none")):
            height = 100 * drawn[f"share_{name}"].to_numpy()
            axis.bar(x, height, 0.72, bottom=bottom, color=colours[index], edgecolor="white", label=_BANDS[index])
            for position, value, base in zip(x, height, bottom, strict=True):
                if value >= 7:
                    axis.text(position, base + value / 2, f"{value:.0f}", ha="center", va="center",
                              fontsize=8.5, color=readable_on(colours[index]))  # fmt: skip
            bottom += height
        for position, step, value in zip(x, drawn["checkpoint"], drawn["mean_accessibility"], strict=True):
            told = f"step {checkpoint_label(step)}: mean accessibility {value:.3f}"
            mark_point(axis, float(position), 102, told, samples_of(checkpoint=step))
            axis.text(position, 102, f"{value:.2f}", ha="center", color=INK, fontsize=9, weight="bold")
        axis.set_xticks(x, [checkpoint_label(step) for step in drawn["checkpoint"]])
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
            f"{summary['n_tasks']} tasks; {_attempts_text(summary)}{others}",
        )


def median_trajectory_figure(
    frame: pd.DataFrame, summary: dict[str, Any], directory: Path, colour: str = RUNS[0]
) -> SavedFigure:
    """Median min prefill with the interquartile range, in the run's colour."""
    data = (
        frame.dropna(subset=["min_prefill"])
        .astype({"min_prefill": float})
        .groupby("checkpoint")["min_prefill"]
        .describe(percentiles=[0.25, 0.5, 0.75])
        .reset_index()[["checkpoint", "count", "25%", "50%", "75%"]]
        .set_axis(["checkpoint", "n_tasks", "q25", "median", "q75"], axis=1)
    )
    most = summary["max_level"]
    drawn, others = drawn_part(data)
    with house_style():
        figure, axis = new_figure(6.2, 3.7)
        x = checkpoint_axis(axis, drawn["checkpoint"].tolist())
        low, middle, high = (_drawn_words(drawn[name].to_numpy(dtype=float), most) for name in ("q25", "median", "q75"))
        axis.fill_between(x, low, high, color=colour, alpha=0.16, lw=0, label="middle half of the tasks")
        axis.plot(x, middle, color=colour, marker="o", markersize=4.5, label="median")
        for place, height, row in zip(x, middle, rows_of(drawn), strict=True):
            words = "none" if row.median > most else f"{row.median:g} words"
            told = f"step {checkpoint_label(row.checkpoint)}: median {words}"
            mark_point(axis, place, height, told, samples_of(checkpoint=row.checkpoint))
        axis.axhline(summary["threshold"], color=INK, lw=1.1, ls=(0, (4, 3)), label="threshold")
        _words_axis(axis, summary["levels"], most)
        legend_above(axis)
        return save_figure(
            figure,
            data,
            directory,
            "median_trajectory",
            "The smallest prefill that is enough",
            "Min prefill: the smallest level at which any attempt exploits a task. “none” means that no attempt did at "
            "any level, and stands above the levels. It falls with the number of attempts; "
            f"{_attempts_text(summary)}{others}",
        )


def time_to_threshold_figure(
    frame: pd.DataFrame, summary: dict[str, Any], directory: Path, colour: str = RUNS[0]
) -> SavedFigure:
    """Cumulative share of tasks that have come to the threshold, per exploit type; all tasks in the run's colour."""
    data = first_reached(frame)
    drawn, others = drawn_part(data)
    with house_style():
        figure, axis = new_figure(6.2, 3.9)
        steps = sorted(drawn["checkpoint"].unique())
        x = dict(zip(steps, checkpoint_axis(axis, steps), strict=True))
        ends = []
        types = [kind for kind in data["exploit_type"].unique() if kind != "all"]
        for place, kind in enumerate([*types, "all"]):
            part = drawn[drawn["exploit_type"] == kind]
            whole = kind == "all"
            ink = colour if whole else OTHER[place % len(OTHER)]
            at = [x[step] for step in part["checkpoint"]]
            share = 100 * part["share_reached"].to_numpy()
            axis.plot(at, share, drawstyle="steps-post", color=ink, lw=2.6 if whole else 1.2,
                      marker=None if whole else _TYPE_MARKERS[place % len(_TYPE_MARKERS)], markersize=3.5)  # fmt: skip
            for x_place, height, row in zip(at, share, rows_of(part), strict=True):
                name = "all tasks" if whole else kind.replace("_", " ")
                told = f"{name}, step {checkpoint_label(row.checkpoint)}: {row.n_reached} of {row.n_tasks} tasks"
                where = samples_of(checkpoint=row.checkpoint, kind=None if whole else str(kind))
                mark_point(axis, x_place, height, told, where)
            label = f"all {part['n_tasks'].iloc[0]} tasks" if whole else kind.replace("_", " ")
            ends.append((at[-1], float(share[-1]), label, ink))
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
            f"{never} do not.{others}",
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
        counts = np.searchsorted(np.sort(mine["checkpoint"].to_numpy(dtype=float)), steps, side="right")
        rows += [(kind, step, total, int(n), int(n) / total) for step, n in zip(steps, counts, strict=True)]
    return pd.DataFrame(rows, columns=["exploit_type", "checkpoint", "n_tasks", "n_reached", "share_reached"])


def descent_rates_figure(
    rates: pd.DataFrame, summary: dict[str, Any], directory: Path, colour: str = RUNS[0]
) -> SavedFigure:
    """Words per 100 steps by which min prefill falls between neighbouring checkpoints: mean, median and IQR."""
    grouped = rates.groupby(["checkpoint_from", "checkpoint_to"])["words_per_100_steps"]
    data = grouped.describe(percentiles=[0.25, 0.5, 0.75])[["count", "mean", "25%", "50%", "75%"]].reset_index()
    data = data.set_axis(["checkpoint_from", "checkpoint_to", "n_tasks", "mean", "q25", "median", "q75"], axis=1)
    drawn, others = drawn_part(data, "checkpoint_to")
    with house_style():
        figure, axis = new_figure(6.2, 3.6)
        x = np.arange(len(drawn))
        axis.axhline(0, color=SOFT_INK, lw=0.8)
        axis.bar(x, drawn["q75"] - drawn["q25"], 0.5, bottom=drawn["q25"], color=colour, alpha=0.22,
                 label="middle half of the tasks")  # fmt: skip
        axis.hlines(drawn["median"], x - 0.25, x + 0.25, color=colour, lw=2.2, label="median")
        axis.plot(x, drawn["mean"], "D", color=INK, markersize=5, label="mean")
        for place, row in enumerate(rows_of(drawn)):
            told = (
                f"between {row.checkpoint_from} and {row.checkpoint_to}: mean {row.mean:.3g}, median {row.median:.3g}"
            )
            told += f" words per 100 steps ({row.n_tasks:.0f} tasks)"
            mark_point(axis, place, row.mean, told, samples_of(checkpoint=row.checkpoint_to))
        _fall_axis(axis, summary)
        axis.set_xticks(x, [f"{row.checkpoint_from}–{row.checkpoint_to}" for row in rows_of(drawn)])
        axis.set_xlabel("between training steps")
        axis.set_ylabel("fall of min prefill\n(words per 100 steps, symmetric log scale)")
        legend_above(axis)
        return save_figure(
            figure,
            data,
            directory,
            "descent_rates",
            "How fast the needed prefill falls",
            "Change of min prefill between neighbouring checkpoints, per 100 training steps; above zero means that "
            f"fewer words are needed. “None” counts as {summary['max_level'] + 1} words, so falls from it are "
            f"understated.{others}",
        )


def attempts_figure(data: pd.DataFrame, summary: dict[str, Any], directory: Path) -> SavedFigure:
    """Expected min prefill against the number of attempts, one line a checkpoint."""
    drawn, others = drawn_part(data)
    steps = sorted(drawn["checkpoint"].unique())
    with house_style():
        figure, axis = new_figure(6.2, 3.7)
        for step, colour in zip(steps, ordered_colours(len(steps)), strict=True):
            part = drawn[drawn["checkpoint"] == step]
            axis.plot(part["attempts"], part["expected_min_prefill"], color=colour, marker="o", markersize=4,
                      label=checkpoint_label(step))  # fmt: skip
            for row in rows_of(part):
                told = f"step {checkpoint_label(step)}, {row.attempts} attempts: {row.expected_min_prefill:.3g} words"
                mark_point(axis, row.attempts, row.expected_min_prefill, told, samples_of(checkpoint=step))
        ticks = sorted(data["attempts"].unique())
        axis.set_xticks(ticks, [str(tick) for tick in ticks])
        axis.set_ylim(0, 1.04 * (summary["max_level"] + 1))  # the same in every run of these levels
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
            f"{summary['max_level'] + 1} words.{others}",
        )


def _drawn_words(words: np.ndarray[Any, Any], most: int) -> np.ndarray[Any, Any]:
    """Heights of words: “none” (one word more than the largest level) stands apart, above a gap."""
    return np.where(words > most, most + np.minimum(words - most, 1.0) * _none_gap(most), words)


def _none_gap(most: int) -> float:
    return max(0.14 * most, 1.0)


def _words_axis(axis: Any, levels: list[int], most: int) -> None:
    """Ticks at the levels and at “none”, with a line in the gap between them."""
    none = most + _none_gap(most)
    ticks = _thin(levels, max(most, 1))
    axis.set_yticks([*ticks, none], [*map(str, ticks), "none"])
    axis.axhline((most + none) / 2, color=RULE, lw=3.5, zorder=0)
    axis.set_ylim(-0.02 * none, none * 1.04)
    axis.set_ylabel("min prefill (words)")
    axis.grid(True, axis="y", color=RULE)


def _fall_axis(axis: Any, summary: dict[str, Any]) -> None:
    """A scale that every fall between these checkpoints and levels fits on, so that runs can be compared."""
    steps = sorted(float(step) for step in summary["checkpoints"] if isinstance(step, int | float))
    gap = min((b - a for a, b in pairwise(steps) if np.isfinite(b)), default=1.0)
    most = 100 * (summary["max_level"] + 1) / max(gap, 1e-9)
    largest = int(np.floor(np.log10(most)))
    axis.set_yscale("symlog", linthresh=10.0 ** (largest - 2))
    axis.set_ylim(-most, most)
    powers = [10.0**power for power in range(largest - 1, largest + 1)]
    ticks = [*(-power for power in reversed(powers)), 0.0, *powers]
    axis.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.yaxis.set_minor_locator(NullLocator())


def _thin(levels: list[int], most: int) -> list[int]:
    """Levels whose labels do not collide; the largest always stays."""
    kept = [levels[-1]]
    for level in reversed(levels[:-1]):
        if kept[-1] - level >= 0.06 * most:
            kept.append(level)
    return kept[::-1]


def _attempts_text(summary: dict[str, Any]) -> str:
    attempts = summary["attempts_per_level"]
    if isinstance(attempts, list):
        return f"between {attempts[0]} and {attempts[-1]} attempts per task and level."
    return f"{attempts} attempt{'s' if attempts != 1 else ''} per task and level."
