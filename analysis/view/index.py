"""An index over the sampled rows of one run: who they are and where they lie, while their texts stay in the tables.

A million rows hold gigabytes of text that nobody reads twice, so the index keeps each row's place in its file. It lies
beside the tables (`RUN/.view/`), is made again where a table has changed, and may be deleted at any time.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from foreshock.analysis.tables import TableKind, checkpoint_label
from foreshock.analysis.tables.files import find_run_files, has_files
from foreshock.jobs.records.rows import error_of
from foreshock.jobs.records.sampled_rows import SampledTable, samples_beside
from foreshock.jobs.records.table_files import has_table, table_state
from foreshock.jobs.records.verdicts import UNJUDGED

VERSION = 4
KINDS = (TableKind.EVAL, TableKind.EXTRA, TableKind.GROUND_TRUTH)
_BATCH = 5_000
_SCHEMA = f"""
PRAGMA user_version = {VERSION};
CREATE TABLE files (
  id INTEGER PRIMARY KEY, kind TEXT, tbl TEXT UNIQUE, path TEXT, samples TEXT, checkpoint TEXT, step REAL,
  level INTEGER, size INTEGER, changed INTEGER
);
CREATE TABLE rows (
  id INTEGER PRIMARY KEY, file INTEGER, start INTEGER, length INTEGER, task TEXT, type TEXT, attempt INTEGER,
  rollout INTEGER, exploit INTEGER, secure INTEGER, insecure INTEGER, suspect INTEGER, finish TEXT, code_status TEXT,
  tier TEXT, tokens INTEGER, error TEXT, added_start INTEGER, added_length INTEGER
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
_INSERT = f"INSERT INTO rows VALUES (NULL{', ?' * 18})"


@dataclass(frozen=True, slots=True)
class RowFile:
    """A table as it lies on disk now. size, changed: of it and its samples file, added up: both tell a change."""

    kind: TableKind
    table: Path
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
    wanted = {str(f.table) for f in files}
    stale = [f for f in files if known.get(str(f.table)) != (f.size, f.changed)]
    gone = [table for table in known if table not in wanted]
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
            for table in [*gone, *(str(f.table) for f in stale)]:
                index.execute("DELETE FROM rows WHERE file IN (SELECT id FROM files WHERE tbl = ?)", (table,))
                index.execute("DELETE FROM files WHERE tbl = ?", (table,))
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
            for table in (path.parent.resolve() / path.name for path in cell.paths):
                states = [table_state(path) for path in (table, samples_beside(table)) if has_table(path)]
                size, changed = (sum(one) for one in ((s.size for s in states), (s.changed for s in states)))
                found.append(RowFile(kind, table, cell.checkpoint, cell.prefill_level, size, changed))
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
            files = index.execute("SELECT tbl, size, changed FROM files")
            return {table: (size, changed) for table, size, changed in files}
    except sqlite3.DatabaseError:
        return {}


def _fill(index: sqlite3.Connection, files: list[RowFile], on_progress: OnProgress) -> None:
    total, done = sum(f.size for f in files), 0
    for file in files:
        source = SampledTable.of(file.table)
        cursor = index.execute(
            "INSERT INTO files VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                file.kind.value,
                str(file.table),
                str(source.path),
                None if source.samples is None else str(source.samples),
                checkpoint_label(file.step),
                min(file.step, 1e300),  # SQLite sorts it; `final` comes last
                file.level,
                file.size,
                file.changed,
            ),
        )
        number, batch = cursor.lastrowid, []
        for row, place, added in source.lines():
            batch.append((number, *place, *_columns(row), *(added or (None, None))))
            if len(batch) == _BATCH:
                index.executemany(_INSERT, batch)
                batch.clear()
                on_progress(done + place.start, total)
        index.executemany(_INSERT, batch)
        done += file.size
        on_progress(done, total)


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
        _text(error_of(row)),
    )


def _text(value: Any) -> str | None:
    """Surrogates, which a model can write and SQLite cannot hold, become question marks."""
    return value[:500].encode("utf-8", "replace").decode() if isinstance(value, str) else None


def _whole(value: Any) -> int | None:
    return int(value) if isinstance(value, int | float) and abs(value) < 2**62 else None


def _flag(value: Any) -> int | None:
    return int(value) if value in (0, 1) else None
