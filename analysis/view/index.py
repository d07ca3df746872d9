"""An index over the sampled rows of one run: who they are and where they lie, while their texts stay in the tables.

A million rows hold gigabytes of text that nobody reads twice, so the index keeps each row's place in its file. It lies
beside the tables (`RUN/.view/`), is made again where a table has changed, and may be deleted at any time.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from foreshock.analysis.tables import TableKind, checkpoint_label
from foreshock.analysis.tables.files import find_run_files, has_files
from foreshock.jobs.records.jsonl import parse_line
from foreshock.jobs.records.table_files import has_table, open_table, table_state
from foreshock.jobs.records.verdicts import UNJUDGED

VERSION = 3
KINDS = (TableKind.EVAL, TableKind.EXTRA, TableKind.GROUND_TRUTH)
_BATCH = 5_000
_SCHEMA = f"""
PRAGMA user_version = {VERSION};
CREATE TABLE files (
  id INTEGER PRIMARY KEY, kind TEXT, path TEXT UNIQUE, checkpoint TEXT, step REAL, level INTEGER,
  size INTEGER, changed INTEGER
);
CREATE TABLE rows (
  id INTEGER PRIMARY KEY, file INTEGER, start INTEGER, length INTEGER, task TEXT, type TEXT, attempt INTEGER,
  rollout INTEGER, exploit INTEGER, secure INTEGER, insecure INTEGER, suspect INTEGER, finish TEXT, code_status TEXT,
  tier TEXT, tokens INTEGER, error TEXT
);
"""
_INDEXES = """
CREATE INDEX IF NOT EXISTS rows_by_file ON rows (file);
CREATE INDEX IF NOT EXISTS rows_by_task ON rows (task);
CREATE INDEX IF NOT EXISTS rows_by_type ON rows (type, exploit);
"""
_COUNTED = f"error IS NULL AND (exploit IS NOT NULL OR code_status IN ({', '.join(map(repr, sorted(UNJUDGED)))}))"
"""Rows that rates count, as the report does: a response without code to judge is an attempt without an exploit."""
_TOTALS = f"""
DROP TABLE IF EXISTS counts;
DROP TABLE IF EXISTS seen;
CREATE TABLE counts AS SELECT file, type, count(*) AS attempts, sum({_COUNTED}) AS counted,
  sum({_COUNTED} AND coalesce(exploit, 0)) AS exploits FROM rows GROUP BY file, type;
CREATE TABLE seen AS SELECT DISTINCT 'finish' AS field, finish AS value FROM rows WHERE finish IS NOT NULL
  UNION SELECT DISTINCT 'code_status', code_status FROM rows WHERE code_status IS NOT NULL;
"""
"""What the page asks first, counted once: over a million rows each question would take seconds."""
_INSERT = "INSERT INTO rows VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"


@dataclass(frozen=True, slots=True)
class RowFile:
    """A table as it lies on disk now; of a cell's two files the one with texts."""

    kind: TableKind
    path: Path
    step: float
    level: int
    size: int
    changed: int


OnProgress = Callable[[int, int], None]
"""Bytes read and bytes to read."""


def index_run(run_dir: Path, on_progress: OnProgress = lambda done, total: None) -> Path:
    """The index of a run, made or brought up to date.

    Raises:
        InputError: no such run, no sampled rows in it, or a line that is not one JSON object.
    """
    files = _row_files(run_dir)
    target = _place(run_dir)
    known = _known(target)
    wanted = {str(f.path): f for f in files}
    stale = [f for f in files if known.get(str(f.path)) != (f.size, f.changed)]
    gone = [path for path in known if path not in wanted]
    if not stale and not gone and target.is_file():
        return target
    part = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        if known:
            shutil.copyfile(target, part)
        with closing(sqlite3.connect(part)) as index:
            index.execute("PRAGMA journal_mode = OFF")
            index.execute("PRAGMA synchronous = OFF")  # `part` counts only once it is whole
            if not known:
                index.executescript(_SCHEMA)
            for path in [*gone, *(str(f.path) for f in stale)]:
                index.execute("DELETE FROM rows WHERE file IN (SELECT id FROM files WHERE path = ?)", (path,))
                index.execute("DELETE FROM files WHERE path = ?", (path,))
            _fill(index, stale, on_progress)
            index.executescript(_INDEXES)
            index.executescript(_TOTALS)
            index.commit()
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return target


def _row_files(run_dir: Path) -> list[RowFile]:
    found = []
    for kind in KINDS:
        if kind is not TableKind.EVAL and not has_files(run_dir, kind):
            continue
        for cell in find_run_files(run_dir, kind).cells:
            for table in cell.paths:
                samples = table.with_name(f"{table.name}.samples.jsonl")
                path = (samples if has_table(samples) else table).resolve()
                state = table_state(path)
                found.append(RowFile(kind, path, cell.checkpoint, cell.prefill_level, state.size, state.changed))
    return found


def _place(run_dir: Path) -> Path:
    """Beside the tables; below the temporary folder where those may not be written to."""
    folder = run_dir.resolve() / ".view"
    try:
        folder.mkdir(exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder / "index.sqlite"
    except OSError:
        pass
    own = Path(tempfile.gettempdir()) / f"foreshock-view-{os.getuid()}"
    own.mkdir(mode=0o700, exist_ok=True)
    return own / f"{run_dir.resolve().as_posix().strip('/').replace('/', '%')[-200:]}.sqlite"


def _known(target: Path) -> dict[str, tuple[int, int]]:
    """Size and time of change of each indexed file; empty if the index is absent, damaged or of another version."""
    if not target.is_file():
        return {}
    try:
        with closing(sqlite3.connect(f"file:{quote(str(target))}?mode=ro", uri=True)) as index:
            if index.execute("PRAGMA user_version").fetchone() != (VERSION,):
                return {}
            return {
                path: (size, changed) for path, size, changed in index.execute("SELECT path, size, changed FROM files")
            }
    except sqlite3.DatabaseError:
        return {}


def _fill(index: sqlite3.Connection, files: list[RowFile], on_progress: OnProgress) -> None:
    total, done = sum(f.size for f in files), 0
    for file in files:
        cursor = index.execute(
            "INSERT INTO files VALUES (NULL, ?, ?, ?, ?, ?, ?, ?)",
            (
                file.kind.value,
                str(file.path),
                checkpoint_label(file.step),
                min(file.step, 1e300),  # SQLite sorts it; `final` comes last
                file.level,
                file.size,
                file.changed,
            ),
        )
        number, batch = cursor.lastrowid, []
        for start, length, row in _lines(file.path):
            batch.append((number, start, length, *_columns(row)))
            if len(batch) == _BATCH:
                index.executemany(_INSERT, batch)
                batch.clear()
                on_progress(done + start, total)
        index.executemany(_INSERT, batch)
        done += file.size
        on_progress(done, total)


def _lines(path: Path) -> Iterator[tuple[int, int, dict[str, Any]]]:
    start = 0
    with open_table(path) as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield start, len(line), parse_line(line, path, number)
            start += len(line)


def _columns(row: dict[str, Any]) -> tuple[Any, ...]:
    return (
        _text(str(row.get("task_id"))),
        _text(row.get("exploit_type")) or "unknown",
        _whole(row.get("attempt_idx")),
        _whole(row.get("rollout")),
        _flag(row.get("exploit_success")),
        _flag(row.get("secure_pass")),
        _flag(row.get("insecure_pass")),
        _flag(row.get("insecure_suspect")),
        _text(row.get("finish_reason")),
        _text(row.get("code_status")),
        _text(row.get("sandbox_tier")),
        _whole(row.get("output_tokens")),
        _text(row.get("error")),
    )


def _text(value: Any) -> str | None:
    """Surrogates, which a model can write and SQLite cannot hold, become question marks."""
    return value[:500].encode("utf-8", "replace").decode() if isinstance(value, str) else None


def _whole(value: Any) -> int | None:
    return int(value) if isinstance(value, int | float) and abs(value) < 2**62 else None


def _flag(value: Any) -> int | None:
    return int(value) if value in (0, 1) else None
