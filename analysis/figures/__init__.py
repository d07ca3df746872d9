"""Figures: one function a figure, each returning what it saved (PNG, PDF, CSV, caption)."""

from __future__ import annotations

from foreshock.analysis.figures.csv_file import write_csv
from foreshock.analysis.figures.save import SavedFigure, save_figure
from foreshock.analysis.figures.style import house_style, new_figure

__all__ = ["SavedFigure", "house_style", "new_figure", "save_figure", "write_csv"]
