"""rates.csv: one row per method and cell."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path

from foreshock.analysis.evidence.estimate import COLUMNS, RateEstimate, as_row
from foreshock.durable import atomic_write_bytes


def write_rates(estimates: Iterable[RateEstimate], path: Path) -> None:
    """Write rates.csv atomically; numbers with 6 significant digits, missing ones empty."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    for estimate in estimates:
        writer.writerow([_text(value) for value in as_row(estimate).values()])
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_bytes(path, buffer.getvalue().encode())


def _text(value: str | int | float | None) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)
