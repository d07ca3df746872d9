"""Tables as the CSV files that people open.

A value is put into words once, however many rows hold it. Tables of every task and checkpoint repeat few values, and
putting numbers into words is nearly all that writing costs.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from foreshock.analysis.tables.schema import FINAL
from foreshock.durable import atomic_write_bytes


def write_csv(data: pd.DataFrame, path: Path) -> Path:
    """A CSV as people expect it: no index, 10 significant digits, empty for missing, `final` for the checkpoint
    without a step."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(data.columns)
    writer.writerows(zip(*(_texts(data[name], name.startswith("checkpoint")) for name in data.columns), strict=True))
    atomic_write_bytes(path, buffer.getvalue().encode())
    return path


def _texts(column: pd.Series[Any], is_checkpoint: bool) -> npt.NDArray[np.object_]:
    if column.dtype == object:  # 1 and True are one value to `factorize`
        return np.asarray(column.map(str).where(column.notna(), ""), dtype=object)
    codes, values = pd.factorize(column)
    texts = [_text(value, is_checkpoint) for value in values]
    return np.array([*texts, ""], dtype=object)[codes]  # a missing value's code is -1


def _text(value: Any, is_checkpoint: bool) -> str:
    if not isinstance(value, (float, np.floating)):
        return str(value)
    if is_checkpoint:
        return FINAL if value == np.inf else f"{value:.0f}"
    return f"{value + 0.0:.10g}"  # no negative zero: `factorize` takes it and zero for one value
