"""Figures of very many checkpoints: some are drawn, evenly spaced and with the last, and the caption says so.

A mark, a label and a link for each of thousands would take minutes to draw, and nobody could read them. The table
beside the figure has all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd

from foreshock.analysis.tables.spacing import evenly_spaced

MOST = 40
"""Checkpoints in one figure, or of each run in it."""


def shown_steps(steps: Iterable[float]) -> list[float]:
    """Of distinct checkpoints those that are drawn, ascending: all, or `MOST` of them with the first and the last."""
    return evenly_spaced(steps, MOST)


def drawn_part(data: pd.DataFrame, column: str = "checkpoint", within: Sequence[str] = ()) -> tuple[pd.DataFrame, str]:
    """The rows that are drawn, and what the caption says of the others: nothing where there are none.

    within: columns whose groups are thinned each for itself, so that none is lost beside one of very many checkpoints.
    """
    if within:
        steps = data.groupby(list(within), observed=True)[column]
        keep = steps.transform(lambda own: own.isin(shown_steps(own))).astype(bool)
        said = f" At most {MOST} checkpoints of each run are drawn, evenly spaced; the table has all."
    else:
        shown = shown_steps(data[column])
        keep = data[column].isin(shown)
        n_all = data[column].nunique()
        said = f" {len(shown)} of the {n_all:,} checkpoints are drawn, evenly spaced; the table has all."
    return (data, "") if keep.all() else (data[keep].reset_index(drop=True), said)
