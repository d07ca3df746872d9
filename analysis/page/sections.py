"""What a report is made of. Any analysis can make a `Section` and hand it to `write_report`.

A section's body is HTML that its author vouches for; every value from data must go through `markupsafe.escape` (or
the helpers here) on its way in, because task ids and run names come from files.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from markupsafe import Markup, escape

from foreshock.analysis.figures import SavedFigure
from foreshock.analysis.page.links import LinksCell, SampleCell, TableCell

MOST_ROWS = 400
"""Of a table in a page."""

Cell = SampleCell | TableCell | LinksCell | str
ObjectArray = npt.NDArray[np.object_]


class Part(StrEnum):
    """The report's parts, in order, after the answer that opens it."""

    VALIDITY = "validity"
    EVIDENCE = "evidence"
    METHODS = "methods"


@dataclass(frozen=True, slots=True)
class ReportTable:
    """A CSV that belongs to a section: offered for download, and shown as a table when `frame` is given."""

    title: str
    csv: Path
    frame: pd.DataFrame | None = None


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the report. `anchor` is its id in the page (letters, digits, hyphens); `lead` one plain sentence.

    `part` is where it stands in the report's order; `warning` sets it apart as something to read first. `figures` are
    shown two abreast where there is room, `folded` ones sit behind "more figures".
    """

    title: str
    anchor: str
    body_html: str = ""
    figures: tuple[SavedFigure, ...] = ()
    tables: tuple[ReportTable, ...] = ()
    lead: str = ""
    folded: tuple[SavedFigure, ...] = field(default=())
    part: Part = Part.EVIDENCE
    warning: bool = False


def paragraph(text: str) -> Markup:
    """Plain text as a paragraph."""
    return Markup("<p>{}</p>").format(text)


def bullets(lines: Sequence[str]) -> Markup:
    """Lines as a list, markup as it is; empty for none."""
    if not lines:
        return Markup("")
    return Markup("<ul>{}</ul>").format(Markup("").join(Markup("<li>{}</li>").format(line) for line in lines))


def column_of(cells: Iterable[Cell]) -> ObjectArray:
    """Cells as a column, which pandas takes as it is."""
    given = list(cells)
    column = np.empty(len(given), dtype=object)
    column[:] = given
    return column


def computed_from(frame: pd.DataFrame, anchor: str, columns: Sequence[str]) -> pd.DataFrame:
    """The frame with its numbers in `columns` opening the table at `anchor`; missing ones stay as they are."""
    linked = {
        column: column_of(
            TableCell(anchor, str(format_value(value))) if _is_there(value) else format_value(value)
            for value in frame[column]
        )
        for column in columns
        if column in frame
    }
    return frame.assign(**linked)


def _is_there(value: object) -> bool:
    """Whether a cell is not a gap: it holds a number, or words around one ("0.71 to 1")."""
    return isinstance(value, str) or (value is not None and not pd.isna(value))  # type: ignore[call-overload]  # a scalar


def html_table(frame: pd.DataFrame, names: dict[str, str] | None = None) -> Markup:
    """A frame as an HTML table that scrolls sideways on a narrow screen. Numbers are right-aligned.

    Of a long one, the first and the last rows, and between them how many there are more: a page must open.
    """
    names = names or {}
    numeric = {column: _is_numeric(frame[column]) for column in frame.columns}
    head = Markup("").join(
        Markup("<th{}>{}</th>").format(_align(numeric[column]), names.get(column, str(column).replace("_", " ")))
        for column in frame.columns
    )
    rows = []
    n_left_out = max(len(frame) - MOST_ROWS, 0)
    for place, values in enumerate(frame.itertuples(index=False, name=None)):
        if n_left_out and MOST_ROWS // 2 <= place < MOST_ROWS // 2 + n_left_out:
            if place == MOST_ROWS // 2:
                said = f"{n_left_out:,} of {len(frame):,} rows are not shown; the CSV file has all"
                rows.append(Markup('<tr><td colspan="{}">{}</td></tr>').format(len(frame.columns), said))
            continue
        cells = (
            Markup("<td{}>{}</td>").format(_align(numeric[column]), format_value(_plain(column, value)))
            for column, value in zip(frame.columns, values, strict=True)
        )
        rows.append(Markup("<tr>{}</tr>").format(Markup("").join(cells)))
    return Markup('<div class="scroll"><table><thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>').format(
        head, Markup("").join(rows)
    )


def folded_table(anchor: str, title: str, frame: pd.DataFrame) -> Markup:
    """A table that is folded until somebody opens it or follows a link to `anchor`."""
    return Markup('<details class="behind"><summary>{}</summary><div id="{}" tabindex="-1">{}</div></details>').format(
        title, anchor, html_table(frame)
    )


def _is_numeric(column: pd.Series[Any]) -> bool:
    return pd.api.types.is_numeric_dtype(column) or any(isinstance(value, (SampleCell, TableCell)) for value in column)


def _plain(column: object, value: Any) -> Any:
    """Names of exploit types as figures and sentences write them."""
    is_type = str(column).replace("_", " ") == "exploit type" and isinstance(value, str)
    return value.replace("_", " ") if is_type else value


def format_value(value: Any) -> Markup:
    """A value for people: 3 significant digits, thousands separated, an en dash for missing; markup as it is."""
    if isinstance(value, (SampleCell, TableCell, LinksCell)):
        return Markup(value.__html__())
    if value is None or (not isinstance(value, str) and pd.isna(value)):
        return Markup("–")
    if isinstance(value, bool):
        return Markup("yes") if value else Markup("no")
    if isinstance(value, float) and value == float("inf"):
        return Markup("final")
    if isinstance(value, float) and not value.is_integer():
        return escape(f"{value:.3g}")
    if isinstance(value, (int, float)):
        return escape(f"{int(value):,}")
    return escape(str(value))


def percent(rate: float) -> str:
    """A rate for people, small ones to two digits."""
    value = 100 * rate
    if value in (0.0, 100.0):
        return f"{value:.0f}%"
    return f"{value:.0f}%" if value >= 9.95 else f"{value:.2g}%" if value >= 1e-4 else f"{value:.1e}%"


def _align(numeric: bool) -> Markup:
    return Markup(' class="num"') if numeric else Markup("")
