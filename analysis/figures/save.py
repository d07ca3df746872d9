"""Saving a figure: PNG, PDF and the numbers it was drawn from, side by side.

The hard decision: the files carry title and caption, because a picture travels without its page; the copy that
goes into the report does not, because there the page carries both.
"""

from __future__ import annotations

import io
import textwrap
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure as MplFigure

from foreshock.analysis.figures.style import SOFT_INK
from foreshock.analysis.tables.schema import FINAL
from foreshock.jobs.records.jsonl import atomic_write_bytes

_LETTERS_PER_INCH = {"title": 11.0, "caption": 16.5}


@dataclass(frozen=True, slots=True)
class SavedFigure:
    """A figure on disk. `image` is the PNG without title and caption, for a page that prints them itself."""

    name: str
    title: str
    caption: str
    png: Path
    pdf: Path
    csv: Path
    image: bytes


def save_figure(
    figure: MplFigure, data: pd.DataFrame, directory: Path, name: str, title: str, caption: str
) -> SavedFigure:
    """Write `name`.png, .pdf and .csv into `directory`, and close the figure. Call inside `house_style`."""
    csv = write_csv(data, directory / f"{name}.csv")
    bare = io.BytesIO()
    figure.savefig(bare, format="png", dpi=170, bbox_inches="tight", pad_inches=0.06)
    figure.set_layout_engine("none")
    width, height = figure.get_size_inches()
    box = figure.get_tightbbox()
    wrapped_title = textwrap.fill(title, int(_LETTERS_PER_INCH["title"] * box.width))
    wrapped_caption = textwrap.fill(caption, int(_LETTERS_PER_INCH["caption"] * box.width))
    left = box.x0 / width
    figure.text(left, box.y1 / height + 0.14 / height, wrapped_title, fontsize=11.5, weight="bold", va="bottom")
    figure.text(left, box.y0 / height - 0.12 / height, wrapped_caption, fontsize=8.5, color=SOFT_INK, va="top",
                linespacing=1.35)  # fmt: skip
    paths = {}
    for suffix in ("png", "pdf"):
        paths[suffix] = directory / f"{name}.{suffix}"
        # No timestamps: the same data give the same bytes.
        stamp = {"CreationDate": None} if suffix == "pdf" else {"Software": None}
        drawn = io.BytesIO()
        figure.savefig(drawn, format=suffix, bbox_inches="tight", pad_inches=0.15, metadata=stamp)
        atomic_write_bytes(paths[suffix], drawn.getvalue())
    plt.close(figure)
    return SavedFigure(name, title, caption, paths["png"], paths["pdf"], csv, bare.getvalue())


def write_csv(data: pd.DataFrame, path: Path) -> Path:
    """A CSV as people expect it: no index, empty for missing, `final` for the checkpoint without a step."""
    shown = data.copy()
    for column in shown.columns:
        if column.startswith("checkpoint") and pd.api.types.is_float_dtype(shown[column]):
            shown[column] = [_step_text(step) for step in shown[column]]
    atomic_write_bytes(path, shown.to_csv(index=False, float_format="%.10g", lineterminator="\n").encode())
    return path


def _step_text(step: float) -> str:
    if pd.isna(step):
        return ""
    return FINAL if step == float("inf") else f"{step:.0f}"
