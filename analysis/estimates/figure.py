"""The headline figure: estimated unprompted rates over training, with what was seen directly.

One panel an exploit type, runs in colour, so that the question "did this type rise in this run and not in the
control" is answered inside one panel.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from foreshock.analysis.evidence.estimate import COLUMNS, Method, RateEstimate, Status, as_row
from foreshock.analysis.figures.many import drawn_part
from foreshock.analysis.figures.palette import RunLooks
from foreshock.analysis.figures.save import SavedFigure, save_figure
from foreshock.analysis.figures.style import checkpoint_axis, house_style, new_figure
from foreshock.analysis.figures.values import mark_point, rows_of, samples_of

_MOST_PANELS = 16
_FLOOR = -7.0


def rates_frame(estimates: Sequence[RateEstimate]) -> pd.DataFrame:
    """rates.csv as a frame; missing values are NaN."""
    frame = pd.DataFrame([as_row(estimate) for estimate in estimates], columns=list(COLUMNS))
    numbers = ["log10_rate", "lower90", "upper90", "lower95", "upper95", "ess", "pareto_k"]
    return frame.astype(dict.fromkeys(numbers, np.float64))


def headline_figure(estimates: Sequence[RateEstimate], directory: Path, looks: RunLooks) -> SavedFigure:
    """Headline medians and 95% intervals per exploit type; filled dots are directly observed rates."""
    frame = rates_frame(estimates)
    drawn, others = drawn_part(frame, within=["run"])
    headline = drawn[drawn["method"] == Method.HEADLINE.value]
    direct = drawn[(drawn["method"] == Method.DIRECT.value) & drawn["log10_rate"].notna()]
    types = _most_interesting(headline)
    columns = min(4, len(types))
    rows = -(-len(types) // columns)
    with house_style():
        figure, axes = new_figure(2.3 * columns + 0.6, 2.0 * rows + 0.7, rows, columns, squeeze=False, sharey=True)
        for i, axis in enumerate(axes.flat):
            if i >= len(types):
                axis.set_visible(False)
                continue
            _panel(axis, headline[headline["exploit_type"] == types[i]], direct, looks)
            axis.set_title(types[i].replace("_", " "))
            if i % columns == 0:
                axis.set_ylabel("unprompted exploit rate")
        figure.legend(*axes.flat[0].get_legend_handles_labels(), loc="outside upper left", ncols=8, fontsize=8.5)
        return save_figure(
            figure,
            frame[frame["method"].isin([Method.HEADLINE.value, Method.DIRECT.value])],
            directory,
            "headline_rates",
            "How often each checkpoint would exploit unprompted",
            "Line: median of the headline estimate; band: its 95% interval, calibrated on random simulated sweeps. No "
            "line: the data support no estimate, and the band is what the bounds leave. Dots: rates seen directly; "
            f"where there is no dot, no exploit was seen.{others}",
        )


def _most_interesting(headline: pd.DataFrame) -> list[str]:
    """Types by their highest estimate, at most _MOST_PANELS, then by name."""
    highest = headline.groupby("exploit_type")["upper95"].max().sort_values(ascending=False, kind="stable")
    return sorted(str(name) for name in highest.index[:_MOST_PANELS])


def _panel(axis: Any, mine: pd.DataFrame, direct: pd.DataFrame, looks: RunLooks) -> None:
    steps = sorted(mine["checkpoint"].unique())
    places = dict(zip(steps, checkpoint_axis(axis, [float(s) for s in steps]), strict=True))
    for run in looks.ordered(mine["run"]):
        here = mine[mine["run"] == run].sort_values("checkpoint")
        seen = direct[(direct["run"] == run) & (direct["exploit_type"] == here["exploit_type"].iloc[0])]
        x = [places[step] for step in here["checkpoint"]]
        colour = looks.colour(run)
        axis.plot(x, 10 ** here["log10_rate"], color=colour, label=looks.legend(run))
        low, high = (10 ** here[name].clip(lower=_FLOOR) for name in ("lower95", "upper95"))
        axis.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)
        dots = [places[step] for step in seen["checkpoint"]]
        axis.plot(dots, 10 ** seen["log10_rate"], looks.marker(run), color=colour, markersize=3.5)
        for place, row in zip(x, rows_of(here), strict=True):
            _mark(axis, place, row, looks)
    axis.set_yscale("log")
    axis.set_ylim(10**_FLOOR, 1.2)


def _mark(axis: Any, place: float, row: Any, looks: RunLooks) -> None:
    """A cell's estimate or bound in words, where its line or the middle of its band is."""
    low = _FLOOR if pd.isna(row.lower95) else max(row.lower95, _FLOOR)
    high = 0.0 if pd.isna(row.upper95) else row.upper95
    middle = (low + high) / 2 if pd.isna(row.log10_rate) else row.log10_rate
    told = f"{row.exploit_type}, {looks.label(row.run)}, step {row.checkpoint}: "
    told += f"estimate {10**row.log10_rate:.2g}, " if row.status == Status.ESTIMATE else "bound, "
    told += f"95% {10**low:.2g} to {10**high:.2g}; {row.successes} of {row.n} seen"
    told += f" ({row.reason})" if row.reason else ""
    mark_point(axis, place, 10**middle, told, samples_of(row.run, row.checkpoint, 0, row.exploit_type))
