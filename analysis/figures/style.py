"""The house style of every figure: quiet axes, one ink, colours that survive colour blindness and grey printing.

Colour carries one meaning a figure. Ordered things (checkpoints, rates) run along one hue from pale to dark, so that
lightness alone tells them apart; unordered things (runs, predictors) take the colours of `palette`. Text has a contrast
of 4.5:1 or more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import numpy as np

mpl.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure as MplFigure
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, NullLocator

from foreshock.analysis.figures.fonts import font_settings
from foreshock.analysis.figures.palette import contrast

INK = "#22292f"
SOFT_INK = "#5f6b76"
RULE = "#d5dbe1"
PAPER = "#ffffff"
SEQUENTIAL = LinearSegmentedColormap.from_list(
    "foreshock", ["#f4f7fa", "#cfe0ec", "#94bfdb", "#4c93bf", "#1d659a", "#0b3a63", "#071f38"]
)
MISSING = "#ececec"
RATE_TICKS = (0, 1, 5, 10, 20, 40, 60, 80, 100)

_FAMILIES = ("Inter", "Source Sans 3", "Helvetica Neue", "Arial", "Liberation Sans", "DejaVu Sans")
_RC: dict[Any, Any] = {
    "figure.dpi": 100,
    "savefig.dpi": 180,
    "figure.facecolor": PAPER,
    "font.size": 9.5,
    "text.color": INK,
    "axes.edgecolor": SOFT_INK,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9.5,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "xtick.color": SOFT_INK,
    "ytick.color": SOFT_INK,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "legend.frameon": False,
    "legend.fontsize": 9,
    "pdf.fonttype": 42,
    "svg.fonttype": "none",
    "text.parse_math": False,  # names of runs, tasks and types come from files and may hold dollar signs
    "figure.constrained_layout.use": True,
}


@contextmanager
def house_style() -> Iterator[None]:
    """Draw inside this context; it leaves matplotlib's settings as they were."""
    with mpl.rc_context(_RC | font_settings(_FAMILIES)):
        yield


def new_figure(
    width: float = 6.2, height: float = 3.7, rows: int = 1, columns: int = 1, **kwargs: Any
) -> tuple[MplFigure, Any]:
    """A figure in inches; call inside `house_style`."""
    return plt.subplots(rows, columns, figsize=(width, height), **kwargs)


def ordered_colours(count: int) -> list[tuple[float, float, float, float]]:
    """`count` colours from pale to dark, none so pale that it vanishes on white."""
    return [tuple(SEQUENTIAL(value)) for value in np.linspace(0.28, 0.95, max(count, 1))] if count else []


def checkpoint_axis(axis: Axes, steps: Sequence[float], label: str = "training step") -> list[float]:
    """Prepare the x axis for checkpoints; returns their positions.

    Steps spread over a factor of 8 or more go on a log scale, where step 0 sits one gap before the first and `final`
    one gap past the last.
    Labels that would collide are thinned, the first and last kept.
    """
    finite = sorted(step for step in steps if np.isfinite(step))
    positive = [step for step in finite if step > 0]
    log = bool(positive) and positive[-1] / positive[0] >= 8
    positions = [_position(step, positive if log else finite, log) for step in steps]
    if log:
        axis.set_xscale("log")
    kept = _spread(np.log(positions) if log else np.asarray(positions, dtype=float))
    axis.xaxis.set_major_locator(FixedLocator([positions[i] for i in kept]))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xticklabels([f"{steps[i]:.0f}" if np.isfinite(steps[i]) else "final" for i in kept])
    if len(positions) == 1:
        axis.set_xlim(positions[0] * 0.5, positions[0] * 1.5) if positions[0] > 0 else axis.set_xlim(-1, 1)
    axis.set_xlabel(f"{label} (log scale)" if log else label)
    return positions


def _position(step: float, finite: Sequence[float], log: bool) -> float:
    if log and step == 0:
        return finite[0] ** 2 / finite[1]
    if np.isfinite(step):
        return step
    if not finite:
        return 1.0
    last = max(finite)
    return last * 1.35 if log else last + max(last / max(len(finite), 1), 1)


def _spread(places: np.ndarray[Any, Any], share: float = 0.055) -> list[int]:
    """Indices of places at least `share` of the range apart; the last always stays."""
    if len(places) < 2:
        return list(range(len(places)))
    gap = share * (places.max() - places.min())
    kept = [len(places) - 1]
    for index in range(len(places) - 2, -1, -1):
        if places[kept[-1]] - places[index] >= gap:
            kept.append(index)
    return kept[::-1]


def power_of_ten(exponent: int) -> str:
    """10 to a whole power as mathematics, for texts with parse_math=True: not every font has a raised minus sign."""
    return f"$10^{{{exponent}}}$"


def percent_axis(axis: Axes) -> None:
    """The y axis of a rate in per cent: the same in every run, so that runs can be compared; the root keeps small rates
    visible."""
    axis.set_yscale("function", functions=(lambda y: np.sqrt(np.maximum(y, 0.0)), np.square))
    axis.set_yticks(RATE_TICKS, [f"{tick}" for tick in RATE_TICKS])
    axis.set_ylim(0, 100)


def legend_above(axis: Axes, title: str | None = None, columns: int = 8) -> None:
    """Legend in rows above the axes, where it takes no width from the data; `title` opens the first row."""
    handles, labels = axis.get_legend_handles_labels()
    if title is not None:
        handles, labels = [Patch(alpha=0.0), *handles], [title, *labels]
    if max((len(label) for label in labels), default=0) <= 4:
        columns += 2  # short labels such as training steps
    columns = min(columns, len(labels))
    # matplotlib fills columns; entries are read in rows
    order = [i for column in range(columns) for i in range(column, len(labels), columns)]
    handles, labels = [handles[i] for i in order], [labels[i] for i in order]
    legend = axis.legend(
        handles,
        labels,
        loc="lower left",
        bbox_to_anchor=(-0.01, 1.0),
        ncols=columns,
        handlelength=1.3,
        handletextpad=0.45,
        columnspacing=1.15,
        borderaxespad=0.2,
    )
    if title is not None:
        legend.get_texts()[0].set_color(SOFT_INK)
        legend.get_texts()[0].set_x(-18)


def label_lines_at_end(axis: Axes, ends: Sequence[tuple[float, float, str, Any]], min_gap: float = 0.055) -> None:
    """Name lines at their right end instead of in a legend; (x, y, text, colour), moved apart where they collide.

    `min_gap` is the least distance, as a share of the y range.
    """
    low, high = axis.get_ylim()
    gap = min_gap * (high - low)
    ordered = sorted(ends, key=lambda end: end[1])
    heights = _apart([y for _, y, _, _ in ordered], gap, low, high)
    for (x, _, text, colour), height in zip(ordered, heights, strict=True):
        axis.annotate(
            text,
            (x, height),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            color=colour,
            fontsize=8.5,
            annotation_clip=False,
        )


def _apart(heights: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Sorted heights moved at least `gap` apart, as little as that takes, inside [low, high] where there is room."""
    upward: list[float] = []
    for height in heights:
        upward.append(max(height, upward[-1] + gap) if upward else height)
    if not upward or upward[-1] <= high:
        return upward
    downward: list[float] = []
    ceiling = high
    for height in reversed(upward):
        downward.append(min(height, ceiling))
        ceiling = downward[-1] - gap
    return downward[::-1] if downward[-1] >= low else upward


def readable_on(colour: Any) -> str:
    """Black or white, whichever reads better on `colour`: 4.5:1 or more on any."""
    shade = mpl.colors.to_hex(colour)
    return max("#ffffff", "#000000", key=lambda ink: contrast(ink, shade))
