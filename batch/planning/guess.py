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

from foreshock.batch.config_inputs import CheckpointsConfig
from foreshock.batch.planning.checkpoints import find_checkpoints
from foreshock.errors import ForeshockError

_DEPTH = 4
_PASSED_OVER = {"results", "node_modules", "__pycache__", "venv", "site-packages", "wandb", "mlruns"}
_MOST_FOLDERS = 5_000
_FIRST_BYTES = 1 << 20
_PROBLEM = {"id", "description", "function_name", "test_cases", "ground_truth", "exploit_type"}
_OTHERS_PROBLEM = {
    "task_id", "question_id", "prompt", "question", "instruction", "text", "entry_point", "test", "tests", "test_list",
    "test_cases", "canonical_solution", "solution", "solutions", "code", "starter_code", "input_output", "category",
}  # fmt: skip
"""How other sets of coding problems name their fields."""
_ENOUGH = 3
_TRACE = {"task_id", "reasoning"}


@dataclass(frozen=True, slots=True)
class Guesses:
    """Folders of checkpoints (with how many), problem files and trace files below a folder, nearest first. `unlike`:
    files that may be meant as problems, with the required fields that their first row lacks."""

    checkpoints: tuple[tuple[Path, int], ...]
    problems: tuple[Path, ...]
    traces: tuple[Path, ...]
    unlike: tuple[tuple[Path, tuple[str, ...]], ...] = ()


def look_around(folder: Path) -> Guesses:
    """Look through a folder and what is up to four levels below it; hidden folders and earlier results are passed
    over."""
    checkpoints: list[tuple[Path, int]] = []
    problems: list[Path] = []
    traces: list[Path] = []
    unlike: list[tuple[Path, tuple[str, ...]]] = []
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
            fields = _fields_of(place / name)
            kind = _kind(fields)
            if kind is not None:
                (problems if kind == "problems" else traces).append(place / name)
            elif len(fields & (_PROBLEM | _OTHERS_PROBLEM)) >= _ENOUGH:
                unlike.append((place / name, tuple(sorted(_PROBLEM - fields))))
    return Guesses(tuple(checkpoints), tuple(problems), tuple(traces), tuple(unlike))


def kind_of(path: Path) -> str | None:
    """`problems` or `traces`, by the fields of a file's first row; None for anything else and what cannot be read."""
    return _kind(_fields_of(path))


def _kind(fields: set[str]) -> str | None:
    if fields >= _PROBLEM:
        return "problems"
    return "traces" if fields >= _TRACE else None


def _fields_of(path: Path) -> set[str]:
    """Fields of a file's first row; none where there is no such row."""
    try:
        return set(_first_row(path) or ())
    except (OSError, ValueError, RecursionError, EOFError):
        return set()


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
