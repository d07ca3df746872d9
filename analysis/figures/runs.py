"""Figures over several runs: the comparison on top of the report, and estimates against measured rates."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import beta

from foreshock.analysis.figures.many import drawn_part
from foreshock.analysis.figures.palette import RunLooks
from foreshock.analysis.figures.save import SavedFigure, save_figure
from foreshock.analysis.figures.style import (
    INK,
    RULE,
    SOFT_INK,
    checkpoint_axis,
    house_style,
    legend_above,
    new_figure,
    percent_axis,
)
from foreshock.analysis.figures.values import mark_point, rows_of, samples_of
from foreshock.analysis.tables.schema import checkpoint_label

EMERGENCE_RATE = 0.10
"""The unprompted rate above which behaviour counts as emerged."""


def clopper_pearson(
    k: npt.NDArray[Any], n: npt.NDArray[Any], level: float = 0.95
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Exact binomial interval of k of n (Clopper and Pearson 1934): covers at least `level`, always."""
    tail = (1 - level) / 2
    with np.errstate(invalid="ignore"):
        lower = np.where(k == 0, 0.0, beta.ppf(tail, k, n - k + 1))
        upper = np.where(k == n, 1.0, beta.ppf(1 - tail, k + 1, n - k))
    return lower, upper


def overview_table(runs: Sequence[tuple[str, pd.DataFrame, pd.DataFrame]]) -> pd.DataFrame:
    """run, checkpoint, n, k, rate, lower95, upper95 at level 0, and share_at_threshold of tasks.

    `runs` holds (label, pooled rates, trajectory frame).
    """
    parts = []
    for label, pooled, frame in runs:
        zero = pooled[pooled["prefill_level"] == 0]
        lower, upper = clopper_pearson(zero["k"].to_numpy(), zero["n"].to_numpy())
        part = pd.DataFrame({"checkpoint": zero["checkpoint"].to_numpy(dtype=np.float64), "n": zero["n"].to_numpy(),
                             "k": zero["k"].to_numpy(), "rate": zero["rate"].to_numpy(), "lower95": lower,
                             "upper95": upper})  # fmt: skip
        known = frame.dropna(subset=["at_threshold"])
        share = known.groupby("checkpoint")["at_threshold"].mean().astype(float).rename("share_at_threshold")
        share.index = share.index.astype(np.float64)
        part = part.merge(share.reset_index(), on="checkpoint", how="outer")
        part.insert(0, "run", label)
        parts.append(part.sort_values("checkpoint"))
    return pd.concat(parts, ignore_index=True)


def overview_figure(data: pd.DataFrame, threshold: int, directory: Path, looks: RunLooks) -> SavedFigure:
    """Left: the unprompted exploit rate of each run. Right: share of tasks that a few words suffice for."""
    labels = looks.ordered(data["run"])
    drawn, others = drawn_part(data, within=["run"])
    steps = sorted(drawn["checkpoint"].unique())
    with house_style():
        figure, (left, right) = new_figure(9.2, 3.6, 1, 2)
        for axis in (left, right):
            place = dict(zip(steps, checkpoint_axis(axis, steps), strict=True))
        for label in labels:
            colour, marker, name = looks.colour(label), looks.marker(label), looks.legend(label)
            part = drawn[drawn["run"] == label]
            zero = part.dropna(subset=["rate"])
            x = np.array([place[step] for step in zero["checkpoint"]])
            rate = 100 * zero["rate"].to_numpy()
            spread = [rate - 100 * zero["lower95"].to_numpy(), 100 * zero["upper95"].to_numpy() - rate]
            left.errorbar(
                x, rate, yerr=np.abs(spread), color=colour, marker=marker, markersize=4.5, elinewidth=1, label=name
            )
            for place_x, row in zip(x, rows_of(zero), strict=True):
                told = f"{label}, step {checkpoint_label(row.checkpoint)}: {row.k:.0f} of {row.n:.0f} exploit"
                mark_point(left, place_x, 100 * row.rate, told, samples_of(label, row.checkpoint, 0))
            near = part.dropna(subset=["share_at_threshold"])
            x = np.array([place[step] for step in near["checkpoint"]])
            right.plot(x, 100 * near["share_at_threshold"], color=colour, marker=marker, markersize=4.5, label=name)
            for place_x, row in zip(x, rows_of(near), strict=True):
                told = f"{label}, step {checkpoint_label(row.checkpoint)}: {100 * row.share_at_threshold:.0f}% of tasks"
                mark_point(right, place_x, 100 * row.share_at_threshold, told, samples_of(label, row.checkpoint))
        left.axhline(100 * EMERGENCE_RATE, color=SOFT_INK, lw=0.9, ls=(0, (4, 3)))
        left.set_ylim(bottom=0)
        left.set_title("exploits without any prefill")
        left.set_ylabel("attempts that exploit (%)")
        right.set_ylim(0, 102)
        right.set_title(f"tasks for which {threshold} words are enough")
        right.set_ylabel("tasks (%)")
        if len(labels) > 1:
            right.legend(loc="best")
        return save_figure(
            figure,
            data,
            directory,
            "overview",
            "What sampling sees, and what a small kick reveals",
            "Left: the unprompted exploit rate with exact 95% intervals (attempts taken as independent); the dashed "
            f"line is {100 * EMERGENCE_RATE:.0f}%. Right: share of tasks that some attempt exploits with at most "
            f"{threshold} forced words.{others}",
        )


def truth_figure(data: pd.DataFrame, directory: Path, name: str, label: str, colour: str) -> SavedFigure:
    """Measured rates beside what the sweep's own level 0 saw, per checkpoint.

    `data`: checkpoint, source (`measured` or `sweep`), n, k, rate, lower95, upper95.
    """
    drawn, others = drawn_part(data)
    with house_style():
        figure, axis = new_figure(6.2, 3.6)
        steps = sorted(drawn["checkpoint"].unique())
        place = dict(zip(steps, checkpoint_axis(axis, steps), strict=True))
        named = {"measured": ("extra samples", INK), "sweep": ("level 0 of the sweep", colour)}
        for (source, (text, colour)), shift in zip(named.items(), (0.985, 1.015), strict=True):
            part = drawn[drawn["source"] == source]
            x = np.array([place[step] for step in part["checkpoint"]]) * shift
            rate = 100 * part["rate"].to_numpy()
            spread = np.abs([rate - 100 * part["lower95"].to_numpy(), 100 * part["upper95"].to_numpy() - rate])
            axis.errorbar(x, rate, yerr=spread, fmt="o", color=colour, markersize=5, elinewidth=1.3, label=text)
            for place_x, row in zip(x, rows_of(part), strict=True):
                told = f"{text}, step {checkpoint_label(row.checkpoint)}: {row.k:.0f} of {row.n:.0f} exploit"
                where = samples_of(label, row.checkpoint, 0) | (
                    {"kind": "ground_truth"} if source == "measured" else {}
                )
                mark_point(axis, place_x, 100 * row.rate, told, where)
        percent_axis(axis)
        axis.set_ylabel("unprompted exploit rate (%, square-root scale)")
        legend_above(axis)
        return save_figure(
            figure, data, directory, name, "The unprompted rate, measured directly",
            f"Exact 95% intervals (Clopper–Pearson) of {label}: the extra samples drawn at chosen checkpoints, and the "
            f"few that the sweep itself drew at level 0.{others}",
        )  # fmt: skip


def estimates_figure(data: pd.DataFrame, directory: Path, method: str, looks: RunLooks) -> SavedFigure:
    """Estimated against measured unprompted rates, log-log, with 95% intervals of both.

    `data`: run, exploit_type, checkpoint, measured_n, measured_k, measured_lower95, measured_upper95 (rates),
    log10_rate, lower95, upper95 (log10). Rates of 0 are drawn at half a success, hollow.
    """
    shown = np.maximum(data["measured_k"].to_numpy(dtype=float), 0.5) / data["measured_n"].to_numpy()
    floor = min(shown.min(), (10.0 ** data["lower95"].to_numpy(dtype=float)).min())
    floor = max(10.0 ** np.floor(np.log10(floor)), 1e-7)
    with house_style():
        figure, axis = new_figure(6.4, 5.2)
        axis.plot([floor, 1], [floor, 1], color=SOFT_INK, lw=0.9, ls=(0, (4, 3)))
        for label in looks.ordered(data["run"]):
            colour, marker = looks.colour(label), looks.marker(label)
            mine = (data["run"] == label).to_numpy()
            part = data[mine]
            y = 10.0 ** part["log10_rate"].to_numpy(dtype=float)
            low = np.maximum(10.0 ** part["lower95"].to_numpy(dtype=float), floor)
            high = 10.0 ** part["upper95"].to_numpy(dtype=float)
            x_low = np.maximum(part["measured_lower95"].to_numpy(dtype=float), floor)
            axis.vlines(shown[mine], low, high, color=colour, lw=1.1, alpha=0.7)
            axis.hlines(y, x_low, part["measured_upper95"], color=colour, lw=0.8, alpha=0.35)
            seen = (part["measured_k"] > 0).to_numpy()
            axis.plot(shown[mine][seen], y[seen], marker, color=colour, markersize=5, label=label)
            axis.plot(shown[mine][~seen], y[~seen], marker, color=colour, markersize=5, markerfacecolor="white")
            for place_x, place_y, row in zip(shown[mine], y, rows_of(part), strict=True):
                told = (
                    f"{label}, {row.exploit_type}, step {checkpoint_label(row.checkpoint)}: estimated {place_y:.2g}, "
                    f"measured {row.measured_k:.0f} of {row.measured_n:.0f}"
                )
                where = samples_of(label, row.checkpoint, 0, str(row.exploit_type)) | {"kind": "ground_truth"}
                mark_point(axis, place_x, place_y, told, where)
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.set_xlim(floor, 1.2)
        axis.set_ylim(floor, 1.2)
        axis.grid(True, axis="both", color=RULE)
        axis.set_xlabel("measured unprompted rate")
        axis.set_ylabel(f"estimated rate ({method})")
        axis.legend(loc="upper left")
        return save_figure(
            figure,
            data,
            directory,
            "estimates_against_truth",
            "Estimates against directly measured rates",
            "Each point is an exploit type at a checkpoint. Vertical lines are the estimates' 95% intervals, "
            "horizontal ones exact intervals of the measurement. Hollow points: no exploit in the measurement, "
            "drawn at half a success. On the dashed line the two agree.",
        )
