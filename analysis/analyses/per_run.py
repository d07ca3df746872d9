"""Analyses that look at one run after another: which runs they are about, and one table of them all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from foreshock.analysis.analyses.analysis import Request
from foreshock.jobs.records.layout import RunLayout, checkpoint_files

if TYPE_CHECKING:
    import pandas as pd

Folders = Callable[[RunLayout], Sequence[Path]]
"""Where a run keeps what an analysis is about: a run without a checkpoint's file in any of them has nothing of it."""


def any_run_has(request: Request, folders: Folders) -> bool:
    """Whether any of the runs has something in `folders`."""
    return any(_has(run, folders) for run in request.runs)


def table_of_runs(request: Request, folders: Folders, table_of: Callable[[Path], pd.DataFrame]) -> pd.DataFrame:
    """`table_of` each run that has something in `folders`, one below the other; first column `run`, its label."""
    import pandas as pd

    tables = []
    for run, label in request.named():
        if _has(run, folders):
            table = table_of(run)
            table.insert(0, "run", label)
            tables.append(table)
    return pd.concat(tables, ignore_index=True)


def _has(run: Path, folders: Folders) -> bool:
    return any(checkpoint_files(folder) for folder in folders(RunLayout(run)))
