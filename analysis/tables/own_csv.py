"""CSV tables with names in them: a task or exploit type called `NA`, `null` or `None` is a name and not a gap."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

NAMES = frozenset({"run", "task_id", "exploit_type"})
_GAPS = ("", "NA", "N/A", "<NA>", "NaN", "nan", "null", "NULL", "None", "#N/A", "n/a")


def read_csv(path: Path, **options: Any) -> pd.DataFrame:
    """As `pandas.read_csv`, but the columns of `NAMES` are text as it stands. Raises as pandas does."""
    columns = pd.read_csv(path, nrows=0).columns
    names = {name: str for name in columns if name in NAMES}
    gaps = {name: _GAPS for name in columns if name not in NAMES}
    options["dtype"] = names | options.get("dtype", {})
    table: pd.DataFrame = pd.read_csv(path, keep_default_na=False, na_values=gaps, **options)
    return table
