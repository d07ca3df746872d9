"""Saving a figure: PNG, PDF and the numbers it was drawn from, side by side.

The files carry title and caption, because a picture travels without its page; the copy that goes into the report does
not, because there the page carries both.
"""

from __future__ import annotations

import io
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure as MplFigure
from matplotlib.transforms import Bbox
from PIL import Image

from foreshock.analysis.figures.csv_file import write_csv
from foreshock.analysis.figures.style import SOFT_INK
from foreshock.durable import atomic_write_bytes

_LETTERS_PER_INCH = {"title": 11.0, "caption": 16.5}


@dataclass(frozen=True, slots=True)
class SavedFigure:
    """A figure on disk. `plot_box` is the part of the PNG between title and caption (left, upper, right, lower)."""

    name: str
    title: str
    caption: str
    png: Path
    pdf: Path
    csv: Path
    plot_box: tuple[int, int, int, int]

    @property
    def image(self) -> bytes:
        """The PNG without title and caption, for a page that prints them itself."""
        stream = io.BytesIO()
        with Image.open(self.png) as page:
            page.convert("RGB").crop(self.plot_box).save(stream, format="png")
        return stream.getvalue()


def save_figure(
    figure: MplFigure, data: pd.DataFrame, directory: Path, name: str, title: str, caption: str
) -> SavedFigure:
    """Write `name`.png, .pdf and .csv into `directory`, and close the figure. Call inside `house_style`."""
    csv = write_csv(data, directory / f"{name}.csv")
    with plt.rc_context({"figure.constrained_layout.use": False, "figure.autolayout": False}):
        return _save_laid_out(figure, _settle_layout(figure), csv, name, title, caption)


def _save_laid_out(figure: MplFigure, plot: Bbox, csv: Path, name: str, title: str, caption: str) -> SavedFigure:
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
    # No timestamps: the same data give the same bytes.
    png, pdf = csv.parent / f"{name}.png", csv.parent / f"{name}.pdf"
    atomic_write_bytes(png, _drawn(figure, "png", page, {"Software": None}))
    atomic_write_bytes(pdf, _drawn(figure, "pdf", page, {"CreationDate": None}))
    plt.close(figure)
    return SavedFigure(name, title, caption, png, pdf, csv, _box_in(page, plot.padded(0.05)))


def _settle_layout(figure: MplFigure) -> Bbox:
    """Lay the figure out once, freeze it, and return the box around everything drawn, in inches.

    With no layout engine left, saving draws once instead of twice; matplotlib takes the settings' engine for none, so
    they must not name one, here and while saving.
    """
    figure.draw_without_rendering()
    figure.set_layout_engine(None)
    return figure.get_tightbbox()


def _drawn(figure: MplFigure, suffix: str, page: Bbox, stamp: dict[str, Any]) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format=suffix, bbox_inches=page, metadata=stamp)
    return stream.getvalue()


def _box_in(page: Bbox, part: Bbox) -> tuple[int, int, int, int]:
    """`part` of a page in the PNG's pixels; both in inches from the figure's lower left corner."""
    dots = float(plt.rcParams["savefig.dpi"])
    edges = (part.x0 - page.x0, page.y1 - part.y1, part.x1 - page.x0, page.y1 - part.y0)
    left, upper, right, lower = (round(edge * dots) for edge in edges)
    return left, upper, right, lower
