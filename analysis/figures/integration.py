"""Figures that set the two measures side by side: words needed, and how natural those words are to the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from foreshock.analysis.figures.many import drawn_part
from foreshock.analysis.figures.palette import LOGPROB, WORDS
from foreshock.analysis.figures.save import SavedFigure, save_figure
from foreshock.analysis.figures.style import (
    INK,
    RULE,
    SOFT_INK,
    checkpoint_axis,
    house_style,
    legend_above,
    new_figure,
    ordered_colours,
)
from foreshock.analysis.figures.values import mark_point, rows_of, samples_of
from foreshock.analysis.tables.schema import checkpoint_label

WAITING_TABLE = "waiting-tasks"
"""Anchor of the report's table of the tasks behind the Kaplan-Meier curves."""
_MOST_MARKS = 200
"""Of one line, that say what they are."""
_MOST_VECTOR_POINTS = 2000
"""More are one picture inside the PDF: as single shapes they take seconds to draw and to open."""


def accessibility_pair_figure(frame: pd.DataFrame, summary: dict[str, Any], directory: Path) -> SavedFigure:
    """Mean accessibility by words and by log-probability, over training, with the middle half of the tasks."""
    rows = []
    for column in ("accessibility", "accessibility_logprob"):
        for step, values in frame.dropna(subset=[column]).groupby("checkpoint")[column]:
            low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
            rows.append((column, step, len(values), float(values.mean()), low, middle, high))
    names = ["measure", "checkpoint", "n_tasks", "mean", "q25", "median", "q75"]
    data = pd.DataFrame(rows, columns=names)
    drawn, others = drawn_part(data)
    with house_style():
        figure, axis = new_figure(6.2, 3.7)
        steps = sorted(drawn["checkpoint"].unique())
        place = dict(zip(steps, checkpoint_axis(axis, steps), strict=True))
        labels = {"accessibility": ("by words", WORDS), "accessibility_logprob": ("by log-probability", LOGPROB)}
        for column, (label, colour) in labels.items():
            part = drawn[drawn["measure"] == column]
            x = [place[step] for step in part["checkpoint"]]
            axis.fill_between(x, part["q25"], part["q75"], color=colour, alpha=0.12, lw=0)
            axis.plot(x, part["mean"], color=colour, marker="o", markersize=4.5, label=label)
            for place_x, row in zip(x, rows_of(part), strict=True):
                told = f"{label}, step {checkpoint_label(row.checkpoint)}: mean {row.mean:.3f} of {row.n_tasks} tasks"
                mark_point(axis, place_x, row.mean, told, samples_of(checkpoint=row.checkpoint))
        axis.set_ylim(-0.02, 1.03)
        axis.set_ylabel("accessibility (mean)")
        legend_above(axis)
        return save_figure(
            figure,
            data,
            directory,
            "logprob_vs_token_accessibility",
            "Two measures of accessibility",
            f"By words: 1 at {summary['word_threshold']} words or fewer. By log-probability: 1 when the needed "
            f"prefix has a log-probability of at least {summary['logprob_threshold']:.1f} nats. Lines are means "
            f"over tasks, bands the middle half.{others}",
        )


def predictor_figure(frame: pd.DataFrame, summary: dict[str, Any], directory: Path) -> SavedFigure:
    """Steps to threshold against each predictor on rows before the threshold, with the fitted lines."""
    exploited = frame["exploitable"].fillna(False).astype(bool)
    columns = ["task_id", "exploit_type", "checkpoint", "min_prefill", "min_prefill_logprob_sum", "steps_to_threshold"]
    data = frame.loc[exploited, columns].dropna()
    data = data[data["steps_to_threshold"] > 0]
    fits = summary["regressions"][summary["headline"]]
    steps = sorted(frame["checkpoint"].unique())
    colours = dict(zip(steps, ordered_colours(len(steps)), strict=True))
    with house_style():
        figure, axes = new_figure(6.6, 3.5, 1, 2, sharey=True)
        panels = (
            ("min_prefill", "token", "min prefill (words)"),
            ("min_prefill_logprob_sum", "logprob", "log-probability of that prefix (nats)"),
        )
        jitter = np.random.default_rng(0).uniform(-1, 1, len(data))
        dense = len(data) > _MOST_VECTOR_POINTS
        for axis, (column, name, label) in zip(axes, panels, strict=True):
            x = data[column].to_numpy(dtype=float)
            y = data["steps_to_threshold"].to_numpy(dtype=float)
            spread = 0.012 * max(np.ptp(x), 1.0)
            inks = [colours[step] for step in data["checkpoint"]]
            axis.scatter(x + spread * jitter, y, s=16, color=inks, alpha=0.75, lw=0, rasterized=dense)
            for place_x, row in zip(x + spread * jitter, rows_of(data) if not dense else (), strict=not dense):
                told = f"{row.task_id}, step {checkpoint_label(row.checkpoint)}: {getattr(row, column):.3g}, "
                told += f"{row.steps_to_threshold:.0f} steps to the threshold"
                where = samples_of(checkpoint=row.checkpoint) | {"task": str(row.task_id)}
                mark_point(axis, place_x, row.steps_to_threshold, told, where)
            _draw_fit(axis, fits[name], x)
            axis.set_xlabel(label)
        axes[0].set_ylabel("steps to threshold")
        known = [step for step in steps if np.isfinite(step)]
        if len(known) > 1:  # the same in every run of these checkpoints
            axes[0].set_ylim(0, 1.04 * (known[-1] - known[0]))
        n = fits["token"]["n"]
        return save_figure(
            figure,
            data,
            directory,
            "token_vs_logprob_comparison",
            "Which measure predicts the threshold",
            f"Each point is a task at a checkpoint (n = {n} rows of {fits['token']['n_tasks']} tasks, the same in both "
            "panels; slightly jittered; darker is later in training). p is from standard errors clustered "
            "by task. Points on the zero line are "
            "already at the word threshold.",
        )


def _draw_fit(axis: Any, fit: dict[str, Any], x: np.ndarray[Any, Any]) -> None:
    if fit["r2"] is None:
        axis.set_title(f"no fit: {fit['reason']}", fontsize=9, weight="normal")
        return
    ends = np.array([x.min(), x.max()])
    axis.plot(ends, fit["intercept"] + fit["slope"] * ends, color=INK, lw=1.4)
    p = fit["p_clustered"]
    shown = "" if p is None else ", p < 0.0001" if p < 1e-4 else f", p = {p:.2g}"
    axis.set_title(f"R² = {fit['r2']:.3f}{shown}")


def waiting_figure(curves: pd.DataFrame, summary: dict[str, Any], directory: Path) -> SavedFigure:
    """Kaplan-Meier curves: share of tasks still short of the word threshold, by accessibility at the start."""
    facts = summary["time_to_threshold"]
    with house_style():
        figure, axis = new_figure(5.2, 3.5)
        for (name, part), colour in zip(curves.groupby("group", sort=False), (INK, SOFT_INK), strict=False):
            one = part.iloc[0]
            label = f"{name} ({int(one['n_tasks'])} tasks, {int(one['n_reached'])} reach it)"
            x, y = part["steps"].to_numpy(dtype=float), part["waiting"].to_numpy(dtype=float)
            axis.step(x, y, where="post", color=colour, label=label)
            every = -(-len(x) // _MOST_MARKS)
            for place_x, height in zip(x[::every], y[::every], strict=True):
                told = f"{name}, {place_x:.0f} steps: {height:.2f} of tasks still short of it"
                mark_point(axis, place_x, height, told, table=WAITING_TABLE)
            low, high = (part[side].astype(float).fillna(part["waiting"]) for side in ("lower95", "upper95"))
            axis.fill_between(x, low, high, step="post", color=colour, alpha=0.14, lw=0)
        axis.set_ylim(-0.02, 1.03)
        axis.set_xlabel("steps since the first checkpoint")
        axis.set_ylabel("not yet at the threshold")
        legend_above(axis, columns=1)
        p = facts["kaplan_meier"]["logrank_p"]
        tested = "" if p is None else f" Log-rank test between the two: p = {p:.2g}."
        return save_figure(
            figure,
            curves,
            directory,
            "waiting_for_the_threshold",
            "Tasks still short of the threshold",
            f"Kaplan-Meier curves with 95% bands of {facts['n_tasks']} tasks that start short of the threshold; the "
            f"{facts['n_censored']} that never reach it count as censored.{tested}",
        )


def threshold_figure(timing: pd.DataFrame, summary: dict[str, Any], directory: Path) -> SavedFigure:
    """When each threshold fires: cumulative shares of tasks, and how many tasks reach which."""
    steps = summary["checkpoints"]
    total = len(timing)
    rows = []
    for name in ("token", "logprob"):
        first = timing[f"checkpoint_first_{name}"].to_numpy(dtype=float)
        rows += [(name, step, int((first <= step).sum()), (first <= step).mean()) for step in steps]
    data = pd.DataFrame(rows, columns=["threshold", "checkpoint", "n_reached", "share_reached"])
    drawn, others = drawn_part(data)
    counts = summary["thresholds"]
    with house_style():
        figure, (left, right) = new_figure(6.6, 3.4, 1, 2, width_ratios=[1.9, 1])
        x = checkpoint_axis(left, sorted(drawn["checkpoint"].unique()))
        for name, label, colour in (("token", "word threshold", WORDS), ("logprob", "log-prob. threshold", LOGPROB)):
            part = drawn[drawn["threshold"] == name]
            left.plot(x, 100 * part["share_reached"], drawstyle="steps-post", color=colour, label=label, marker="o",
                      markersize=4)  # fmt: skip
            for place_x, row in zip(x, rows_of(part), strict=True):
                told = f"{label}, step {checkpoint_label(row.checkpoint)}: {row.n_reached} of {total} tasks"
                mark_point(left, place_x, 100 * row.share_reached, told, samples_of(checkpoint=row.checkpoint))
        left.set_ylim(0, 102)
        left.set_ylabel("tasks that have reached it (%)")
        legend_above(left)
        names = ("both", "token_only", "logprob_only", "neither")
        values = [counts[f"n_{name}"] for name in names]
        right.barh(range(4), values, color=[SOFT_INK, WORDS, LOGPROB, RULE], height=0.62)
        right.set_yticks(range(4), ["both", "words", "log-prob.", "neither"])
        right.invert_yaxis()
        right.grid(False)
        right.spines["bottom"].set_visible(False)
        right.set_xticks([])
        for bar, value in enumerate(values):
            right.text(value + 0.02 * max(values), bar, f"{value}", va="center", color=SOFT_INK)
        right.set_title(f"{total} tasks reach")
        return save_figure(
            figure,
            data,
            directory,
            "threshold_comparison",
            "Which threshold fires first",
            f"Word threshold: {summary['word_threshold']} words. Log-probability threshold: "
            f"{summary['logprob_threshold']:.2f} nats ({summary['logprob_threshold_origin']}). "
            f"{_gap_text(counts)}{others}",
        )


def _gap_text(counts: dict[str, Any]) -> str:
    gap = counts["mean_steps_token_before_logprob"]
    if gap is None:
        return "No task reaches both, so the two cannot be timed against each other."
    if gap == 0:
        return f"On average they fire together ({counts['n_tasks_compared']} tasks reach both)."
    which = "word" if gap > 0 else "log-probability"
    return (
        f"The {which} threshold fires {abs(gap):.1f} steps earlier on average, over the "
        f"{counts['n_tasks_compared']} tasks that reach both."
    )
