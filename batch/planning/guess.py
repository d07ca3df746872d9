"""What a folder holds that a sweep could use: checkpoints, problems, traces. Files are told by their first row.

Nothing is chosen here between several: whoever asks shows them all.
"""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foreshock.batch.config import CheckpointsConfig
from foreshock.batch.planning.checkpoints import find_checkpoints
from foreshock.errors import ForeshockError

_DEPTH = 4
_PASSED_OVER = {"results", "node_modules", "__pycache__", "venv", "site-packages", "wandb", "mlruns"}
_MOST_FOLDERS = 5_000
_FIRST_BYTES = 1 << 20
_PROBLEM = {"id", "description", "function_name", "test_cases", "ground_truth", "exploit_type"}
_TRACE = {"task_id", "reasoning"}


@dataclass(frozen=True, slots=True)
class Guesses:
    """Folders of checkpoints (with how many), problem files and trace files below a folder, nearest first."""

    checkpoints: tuple[tuple[Path, int], ...]
    problems: tuple[Path, ...]
    traces: tuple[Path, ...]


def look_around(folder: Path) -> Guesses:
    """Look through a folder and what is up to four levels below it; hidden folders and earlier results are passed
    over."""
    checkpoints: list[tuple[Path, int]] = []
    problems: list[Path] = []
    traces: list[Path] = []
    inside: set[Path] = set()
    for place, names in _folders(folder):
        if any(parent in inside for parent in place.parents):
            continue
        n = _checkpoints_in(place)
        if n:
            checkpoints.append((place, n))
            inside.add(place)
            continue
        for name in sorted(names):
            kind = kind_of(place / name)
            if kind is not None:
                (problems if kind == "problems" else traces).append(place / name)
    return Guesses(tuple(checkpoints), tuple(problems), tuple(traces))


def kind_of(path: Path) -> str | None:
    """`problems` or `traces`, by the fields of a file's first row; None for anything else and what cannot be read."""
    try:
        row = _first_row(path)
    except (OSError, ValueError, RecursionError, EOFError):
        return None
    keys = set(row or ())
    if keys >= _PROBLEM:
        return "problems"
    return "traces" if keys >= _TRACE else None


def _first_row(path: Path) -> dict[str, Any] | None:
    name = path.name.removesuffix(".gz")
    if name.endswith(".parquet"):
        import pyarrow.parquet

        names = pyarrow.parquet.read_schema(path).names
        return dict.fromkeys(names)
    if not name.endswith((".jsonl", ".json")):
        return None
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        line = next((line for line in iter(lambda: file.readline(_FIRST_BYTES), b"") if line.strip()), b"")
    row = json.loads(line) if line else None
    return row if isinstance(row, dict) else None


def _folders(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    top = len(folder.parts)
    for seen, (place, folders, names) in enumerate(os.walk(folder)):
        if seen >= _MOST_FOLDERS:
            return
        deep = len(Path(place).parts) - top >= _DEPTH
        kept = [] if deep else sorted(f for f in folders if not f.startswith(".") and f not in _PASSED_OVER)
        folders[:] = kept
        yield Path(place), names


def _checkpoints_in(folder: Path) -> int:
    try:
        found = find_checkpoints(CheckpointsConfig(dir=folder)).checkpoints
    except (ForeshockError, OSError, ValueError):
        return 0
    # A folder that is one model is a checkpoint of its parent, or no training run.
    return len(found) if all(checkpoint.path != folder for checkpoint in found) else 0
