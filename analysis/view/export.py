"""`foreshock view --export DIR`: the same page as plain files, to be mailed or put on any web server.

Data are scripts that call one function with JSON, since a page opened from a disk may load scripts but no JSON. A
cell's rows are one file and its samples come in pages, so that a browser loads what is looked at.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from foreshock.analysis.view.query import MOST, RunIndex
from foreshock.analysis.view.server import ASSETS, asset
from foreshock.durable import atomic_write_bytes
from foreshock.errors import InputError

PAGE = 25
"""Samples of one data file."""
_MARKER = b"<!-- source -->"


def export(runs: Sequence[RunIndex], folder: Path, on_progress: Callable[[int, int], None] = lambda *_: None) -> int:
    """Write the page and its data; returns the number of samples. Raises InputError if `folder` is not empty."""
    if folder.exists() and any(folder.iterdir()):
        raise InputError("is not empty", path=folder, fix="name a new folder for the export")
    summaries = [run.summary() for run in runs]
    total, done = sum(summary["rows"] for summary in summaries), 0
    for r, (run, summary) in enumerate(zip(runs, summaries, strict=True)):
        summary["cells"] = {}
        for kind in summary["kinds"]:
            cells = run.cells(kind)
            for c, cell in enumerate(cells):
                name = f"{r}-{kind}-{c}"
                cell["data"] = name
                done += _export_cell(run, kind, cell, name, folder)
                on_progress(done, total)
            summary["cells"][kind] = cells
    _write(folder, "runs", summaries)
    for name in ASSETS:
        data = asset(name)
        if name == "index.html":
            data = data.replace(_MARKER, b'<script src="data/runs.js"></script>')
        atomic_write_bytes(folder / name, data)
    return done


def _export_cell(run: RunIndex, kind: str, cell: dict[str, Any], name: str, folder: Path) -> int:
    filters = {"kind": kind, "checkpoint": str(cell["checkpoint"]), "level": str(cell["level"])}
    rows: list[dict[str, Any]] = []
    while (page := run.rows(filters, len(rows), MOST)).rows:
        rows += page.rows
        if not page.more:
            break
    for start in range(0, len(rows), PAGE):
        _write(folder, f"{name}-{start // PAGE}", [run.sample(row["id"])["row"] for row in rows[start : start + PAGE]])
    _write(folder, name, rows)
    return len(rows)


def _write(folder: Path, name: str, value: Any) -> None:
    """ASCII alone, so that neither a line separator nor a half of a surrogate pair can break the script."""
    text = f"foreshockData({json.dumps(name)}, {json.dumps(value, ensure_ascii=True)});\n"
    atomic_write_bytes(folder / "data" / f"{name}.js", text.encode("ascii"))
