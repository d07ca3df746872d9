"""Saving a figure: SVG, PNG, PDF and the numbers it was drawn from, side by side.

PNG and PDF carry title and caption, because a picture travels without its page; the SVG does not, because the page that
holds it carries both. Its text stays text, and its values say their numbers.
"""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from markupsafe import escape
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure as MplFigure
from matplotlib.ticker import LogFormatter
from matplotlib.transforms import Bbox

from foreshock.analysis.figures.csv_file import write_csv
from foreshock.analysis.figures.scheme import follow_the_page
from foreshock.analysis.figures.style import SOFT_INK
from foreshock.analysis.figures.values import Value, values_of
from foreshock.durable import atomic_write_bytes

VALUES = '<g id="values">'
"""What opens the part of an SVG that says its values."""
_METADATA = re.compile(r"\s*<metadata>.*?</metadata>", re.DOTALL)
_MOST_BAR_SHAPES = 256
_LETTERS_PER_INCH = {"title": 11.0, "caption": 16.5}


@dataclass(frozen=True, slots=True)
class SavedFigure:
    """A figure on disk. `values` are what its SVG says when pointed at, in the SVG's units."""

    name: str
    title: str
    caption: str
    svg: Path
    png: Path
    pdf: Path
    csv: Path
    values: tuple[Value, ...] = ()


def save_figure(
    figure: MplFigure, data: pd.DataFrame, directory: Path, name: str, title: str, caption: str
) -> SavedFigure:
    """Write `name`.svg, .png, .pdf and .csv into `directory`, and close the figure. Call inside `house_style`."""
    csv = write_csv(data, directory / f"{name}.csv")
    with plt.rc_context({"figure.constrained_layout.use": False, "figure.autolayout": False, "svg.hashsalt": name}):
        return _save_laid_out(figure, _settle_layout(figure), csv, name, title, caption)


def _save_laid_out(figure: MplFigure, plot: Bbox, csv: Path, name: str, title: str, caption: str) -> SavedFigure:
    bare = plot.padded(0.05)
    values = values_of(figure, bare)
    # No timestamps: the same data give the same bytes.
    with _colour_bars_as_shapes(figure):
        drawn = _METADATA.sub("", _drawn(figure, "svg", bare, {"Date": None, "Creator": None}).decode())
    svg, png, pdf = (csv.parent / f"{name}.{suffix}" for suffix in ("svg", "png", "pdf"))
    atomic_write_bytes(svg, with_values(drawn, [value_markup(value, None) for value in values]).encode())
    width, height = figure.get_size_inches()
    wrapped_title = textwrap.fill(title, int(_LETTERS_PER_INCH["title"] * plot.width))
    wrapped_caption = textwrap.fill(caption, int(_LETTERS_PER_INCH["caption"] * plot.width))
    left, above, below = plot.x0 / width, (plot.y1 + 0.14) / height, (plot.y0 - 0.12) / height
    texts = (
        figure.text(left, above, wrapped_title, fontsize=11.5, weight="bold", va="bottom"),
        figure.text(left, below, wrapped_caption, fontsize=8.5, color=SOFT_INK, va="top", linespacing=1.35),
    )
    extents = [text.get_window_extent().transformed(figure.dpi_scale_trans.inverted()) for text in texts]
    page = Bbox.union([plot, *extents]).padded(0.15)
    atomic_write_bytes(png, _drawn(figure, "png", page, {"Software": None}))
    atomic_write_bytes(pdf, _drawn(figure, "pdf", page, {"CreationDate": None}))
    plt.close(figure)
    return SavedFigure(name, title, caption, svg, png, pdf, csv, values)


def _settle_layout(figure: MplFigure) -> Bbox:
    """Lay the figure out once, freeze it, and return the box around everything drawn, in inches.

    With no layout engine left, saving draws once instead of twice; matplotlib takes the settings' engine for none, so
    they must not name one, here and while saving.
    """
    _parse_powers(figure)
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
    _parse_powers(figure)  # of ticks that the new size has room for
    figure.set_layout_engine(None)
    return figure.get_tightbbox()


def _parse_powers(figure: MplFigure) -> None:
    """Let matplotlib set the powers of ten of logarithmic axes, which it writes as mathematics; no other text is."""
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        for formatter, ticks in (
            (axis.get_major_formatter(), axis.get_major_ticks),
            (axis.get_minor_formatter(), axis.get_minor_ticks),
        ):
            for tick in ticks() if isinstance(formatter, LogFormatter) else ():
                tick.label1.set_parse_math(True)


def _drawn(figure: MplFigure, suffix: str, page: Bbox, stamp: dict[str, Any]) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format=suffix, bbox_inches=page, metadata=stamp)
    return stream.getvalue()


@contextmanager
def _colour_bars_as_shapes(figure: MplFigure) -> Iterator[None]:
    """Colour bars as shapes instead of pictures, so that a dark page can turn them with the cells that they explain.
    Where the cells themselves are a picture, both stay one."""
    meshes = [mesh for mesh in figure.findobj(QuadMesh) if mesh.get_rasterized()]
    if any(array is not None and array.size > _MOST_BAR_SHAPES for array in (mesh.get_array() for mesh in meshes)):
        meshes = []
    for mesh in meshes:
        mesh.set_rasterized(False)
        mesh.set_edgecolor("face")  # no seams between shapes
    try:
        yield
    finally:
        for mesh in meshes:
            mesh.set_rasterized(True)
            mesh.set_edgecolor("none")


def value_markup(value: Value, link: str | None) -> str:
    """The rectangle that answers for a value, inside a link if there is one: to samples, or to a table of the page
    (`#anchor`). A link is no tab stop: there are hundreds, and the tables below lead to the same samples."""
    box = f'x="{value.x}" y="{value.y}" width="{value.width}" height="{value.height}"'
    shape = f'<rect class="value" {box} fill="transparent"><title>{escape(value.text)}</title></rect>'
    if link is None:
        return shape
    samples = "" if link.startswith("#") else ' data-samples=""'
    return f'<a href="{escape(link)}"{samples} tabindex="-1">{shape}</a>'


def with_values(svg: str, marks: list[str]) -> str:
    """An SVG with `marks` on top of it."""
    end = svg.rindex("</svg>")
    return f"{svg[:end]}{VALUES}{''.join(marks)}</g>\n{svg[end:]}"


def natural_width(svg: str) -> float:
    """Width of an SVG as drawn, in points."""
    found = re.search(r'width="([\d.]+)pt"', svg)
    return float(found[1]) if found else 400.0


def inline_svg(svg: str, prefix: str, title: str) -> str:
    """An SVG as part of an HTML page that holds several: ids prefixed, no prolog, named for those who cannot see it,
    and in the page's colours."""
    body = follow_the_page(svg[svg.index("<svg") :])
    body = re.sub(r'\bid="', f'id="{prefix}-', body)
    body = re.sub(r'(xlink:href="#|url\(#)', rf"\g<1>{prefix}-", body)
    head = f'<svg role="group" aria-label="{escape(title)}" style="--natural: {natural_width(svg):.0f}"'
    return re.sub(r"<svg(\s)", rf"{head}\1", body, count=1)
