"""Values of a figure that say their number when they are pointed at, and know which samples made it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as MplFigure
from matplotlib.transforms import Bbox

_REACH = 6.0
"""Half the side of what answers around a point, in points."""
_MARKED: WeakKeyDictionary[MplFigure, list[_Mark]] = WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class Value:
    """A rectangle of the SVG in its own units, what it says, and filters of `foreshock view` (empty: no samples).
    `table`: where several samples' verdicts made one number, the anchor of the page's table that lists them."""

    x: float
    y: float
    width: float
    height: float
    text: str
    where: Mapping[str, str]
    table: str = ""


@dataclass(frozen=True, slots=True)
class _Mark:
    axis: Axes
    box: tuple[float, float, float, float]
    text: str
    where: Mapping[str, str]
    table: str


def samples_of(
    run: str | None = None, checkpoint: object = None, level: object = None, kind: str | None = None
) -> dict[str, str]:
    """Filters for the samples of a run, as far as they are given. `kind` is an exploit type. A figure of one run leaves
    `run` to the report that shows it."""
    given = {"run": run, "checkpoint": checkpoint, "level": level, "type": kind}
    return {name: _plain(value) for name, value in given.items() if value is not None}


def _plain(value: object) -> str:
    if isinstance(value, float):
        return "final" if value == float("inf") else f"{value:g}" if value < 1e6 else str(int(value))
    return str(value)


def rows_of(frame: pd.DataFrame) -> list[Any]:
    """Rows of a frame with their columns as attributes, whose types pandas cannot know."""
    return list(frame.itertuples())


def mark_point(
    axis: Axes, x: float, y: float, text: str, where: Mapping[str, str] | None = None, table: str = ""
) -> None:
    """Say `text` when the point (x, y), in data coordinates, is pointed at."""
    _mark(axis, (x, y, x, y), text, where, table)


def mark_cell(axis: Axes, x: float, y: float, text: str, where: Mapping[str, str] | None = None) -> None:
    """The same for a cell of a heat map: one unit wide and high, centred on (x, y)."""
    _mark(axis, (x - 0.5, y - 0.5, x + 0.5, y + 0.5), text, where)


def _mark(
    axis: Axes, box: tuple[float, float, float, float], text: str, where: Mapping[str, str] | None, table: str = ""
) -> None:
    figure = axis.get_figure(root=True)
    assert isinstance(figure, MplFigure)
    _MARKED.setdefault(figure, []).append(_Mark(axis, box, text, dict(where or {}), table))


def values_of(figure: MplFigure, page: Bbox) -> tuple[Value, ...]:
    """Marked values of a figure whose layout has settled; `page` is the part that is saved, in inches."""
    found = []
    for mark in _MARKED.get(figure, []):
        corners = mark.axis.transData.transform([mark.box[:2], mark.box[2:]]) * 72 / figure.dpi
        if not (abs(corners) < 1e6).all():  # NaN compares false
            continue
        (left, low), (right, high) = corners.tolist()
        grown = _REACH if mark.box[0] == mark.box[2] else 0.0
        x, y = left - 72 * page.x0 - grown, 72 * page.y1 - high - grown
        size = (right - left + 2 * grown, high - low + 2 * grown)
        place = (round(x, 1), round(y, 1), round(size[0], 1), round(size[1], 1))
        found.append(Value(*place, mark.text, mark.where, mark.table))
    return tuple(found)
