"""Figures of very many checkpoints: some are drawn, evenly spaced and with the last, and the caption says so.

A mark, a label and a link for each of thousands would take minutes to draw, and nobody could read them. The table
beside the figure has all.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

MOST = 40
"""Checkpoints in one figure."""


def shown_steps(steps: Iterable[float]) -> list[float]:
    """Of distinct checkpoints those that are drawn, ascending: all, or `MOST` of them with the first and the last."""
    known = sorted(set(steps))
    if len(known) <= MOST:
        return known
    places = np.unique(np.linspace(0, len(known) - 1, MOST).round().astype(int))
    return [known[place] for place in places]


def drawn_part(data: pd.DataFrame, column: str = "checkpoint") -> tuple[pd.DataFrame, str]:
    """The rows that are drawn, and what the caption says of the others: nothing where there are none."""
    n_all = data[column].nunique()
    if n_all <= MOST:
        return data, ""
    shown = shown_steps(data[column].unique())
    drawn = data[data[column].isin(shown)].reset_index(drop=True)
    return drawn, f" {len(shown)} of the {n_all:,} checkpoints are drawn, evenly spaced; the table has all."
