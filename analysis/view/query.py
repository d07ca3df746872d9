"""Questions to an index: cells, pages of rows, one sample whole, text search."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any
from urllib.parse import quote

from foreshock.errors import InputError
from foreshock.jobs.records.sampled_rows import LinePlace, read_line, row_of
from foreshock.jobs.records.table_files import open_table

MOST = 500
"""Rows of one page at the most."""
TEXTS = ("prompt", "prefill_reasoning", "response", "reasoning", "code")
"""Fields that a text search looks into."""
_VERDICTS = {
    "exploit": "r.exploit = 1",
    "solved": "r.secure = 1",
    "failed": "r.secure = 0 AND r.insecure = 0",
    "none": "r.exploit IS NULL",
}
_EQUAL = {
    "kind": "f.kind",
    "checkpoint": "f.checkpoint",
    "type": "r.type",
    "finish": "r.finish",
    "code_status": "r.code_status",
    "task": "r.task",
}
_NUMBERS = {"level": "f.level", "attempt": "r.attempt", "rollout": "r.rollout", "suspect": "r.suspect"}
_SELECT = (
    "SELECT r.id, f.kind, f.checkpoint, f.level, r.task, r.type, r.attempt, r.rollout, r.exploit, r.secure, "
    "r.insecure, r.suspect, r.finish, r.code_status, r.tier, r.tokens, r.error FROM rows r "
    "JOIN files f ON f.id = r.file"
)
_PLACES = "f.path, f.samples, r.start, r.length, r.added_start, r.added_length"
_ORDER = " ORDER BY f.kind = 'evals' DESC, f.kind, f.step, f.level, r.task, r.attempt, r.rollout, r.id"


@dataclass(frozen=True, slots=True)
class Page:
    """Rows of one page. `total` is None where rows were searched for text, which stops once a page is full."""

    rows: list[dict[str, Any]]
    total: int | None
    more: bool


@dataclass(frozen=True)
class RunIndex:
    """One run's index, opened anew for each question, so that any thread may ask."""

    name: str
    path: Path
    filters: frozenset[str] = field(default=frozenset((*_EQUAL, *_NUMBERS, "verdict", "text")))

    def summary(self) -> dict[str, Any]:
        """Checkpoints, levels, exploit types and other values that rows have, and how many rows there are."""
        with self._open() as index:

            def seen(field: str) -> list[Any]:
                return [v for (v,) in index.execute("SELECT value FROM seen WHERE field = ? ORDER BY 1", (field,))]

            return {
                "run": self.name,
                "rows": index.execute("SELECT coalesce(sum(attempts), 0) FROM counts").fetchone()[0],
                "kinds": [kind for (kind,) in index.execute("SELECT DISTINCT kind FROM files ORDER BY kind")],
                "checkpoints": [c for (c,) in index.execute("SELECT DISTINCT checkpoint FROM files ORDER BY step")],
                "levels": [level for (level,) in index.execute("SELECT DISTINCT level FROM files ORDER BY level")],
                "types": [kind for (kind,) in index.execute("SELECT DISTINCT type FROM counts ORDER BY 1")],
                "finish": seen("finish"),
                "code_status": seen("code_status"),
            }

    def cells(self, kind: str = "evals", exploit_type: str | None = None) -> list[dict[str, Any]]:
        """Counts of each checkpoint and level: attempts, those that rates count, exploits."""
        where, values = "WHERE f.kind = ?", [kind]
        if exploit_type is not None:
            where, values = f"{where} AND c.type = ?", [kind, exploit_type]
        query = (
            "SELECT f.checkpoint, f.level, sum(c.attempts), sum(c.counted), sum(c.exploits) "
            f"FROM counts c JOIN files f ON f.id = c.file {where} GROUP BY f.step, f.level ORDER BY f.step, f.level"
        )
        names = ("checkpoint", "level", "attempts", "counted", "exploits")
        with self._open() as index:
            return [dict(zip(names, row, strict=True)) for row in index.execute(query, values)]

    def rows(self, filters: Mapping[str, str], offset: int = 0, limit: int = 50) -> Page:
        """One page of rows. Raises InputError for an unknown filter or value."""
        where, values = self._where(filters)
        limit = max(1, min(limit, MOST))
        text = filters.get("text", "").strip()
        with self._open() as index:
            if text:
                found = self._search(index, where, values, text)
                picked = [row for i, row in zip(range(offset + limit + 1), found, strict=False) if i >= offset]
                return Page(picked[:limit], None, len(picked) > limit)
            query = f"SELECT count(*) FROM rows r JOIN files f ON f.id = r.file{where}"
            total = index.execute(query, values).fetchone()[0]
            page = index.execute(f"{_SELECT}{where}{_ORDER} LIMIT ? OFFSET ?", (*values, limit, offset))
            rows = [_as_dict(row) for row in page]
        return Page(rows, total, offset + len(rows) < total)

    def sample(self, row_id: int) -> dict[str, Any]:
        """A row whole, as its table holds it, with its place. Raises InputError if it is gone."""
        with self._open() as index:
            place = index.execute(
                f"SELECT {_PLACES}, f.kind, f.checkpoint, f.level FROM rows r "
                "JOIN files f ON f.id = r.file WHERE r.id = ?",
                (row_id,),
            ).fetchone()
        if place is None:
            raise InputError(f"no row {row_id} in the index of {self.name}", fix="start `foreshock view` again")
        (path, samples, start, length, added_start, added_length), (kind, checkpoint, level) = place[:6], place[6:]
        row = _read(Path(path), LinePlace(start, length))
        if added_start is not None:
            row = _read(Path(samples), LinePlace(added_start, added_length)) | row
        return {"row": row, "file": path, "kind": kind, "checkpoint": checkpoint, "level": level}

    def _open(self) -> closing[sqlite3.Connection]:
        return closing(sqlite3.connect(f"file:{quote(str(self.path))}?mode=ro", uri=True))

    def _where(self, filters: Mapping[str, str]) -> tuple[str, list[Any]]:
        terms: list[str] = []
        values: list[Any] = []
        for name, value in filters.items():
            if name in _EQUAL:
                terms.append(f"{_EQUAL[name]} = ?")
                values.append(value)
            elif name in _NUMBERS:
                if not re.fullmatch(r"-?\d{1,15}", value):
                    raise InputError(f"{name}: {value!r} is not a whole number")
                terms.append(f"{_NUMBERS[name]} = ?")
                values.append(int(value))
            elif name == "verdict":
                if value not in _VERDICTS:
                    raise InputError(f"verdict: {value!r}; valid: {', '.join(_VERDICTS)}")
                terms.append(_VERDICTS[value])
            elif name != "text":
                raise InputError(f"unknown filter {name!r}; valid: {', '.join(sorted(self.filters))}")
        return (" WHERE " + " AND ".join(terms) if terms else ""), values

    def _search(self, index: sqlite3.Connection, where: str, values: list[Any], text: str) -> Iterator[dict[str, Any]]:
        """Rows that hold `text` in any case, in order. Lines are first looked through as they lie in the file, in both
        ways that JSON may write the text, and only those that may hold it are parsed."""
        forms = {
            json.dumps(text, ensure_ascii=ascii)[1:-1].lower().encode("utf-8", "surrogatepass")
            for ascii in (True, False)
        }
        needle = text.casefold()
        query = _SELECT.replace("SELECT ", f"SELECT {_PLACES}, ", 1)
        rows = index.execute(f"{query}{where}{_ORDER}", values)
        for (path, samples), group in groupby(rows, key=itemgetter(0, 1)):
            with ExitStack() as stack:
                files = [stack.enter_context(open_table(Path(one))) for one in (path, samples) if one is not None]
                for _, _, start, length, added_start, added_length, *row in group:
                    lines = [read_line(files[0], LinePlace(start, length))]
                    if added_start is not None:
                        lines.append(read_line(files[1], LinePlace(added_start, added_length)))
                    lowered = b"".join(lines).lower() if text.isascii() else b""  # bytes know no case beyond ASCII
                    if lowered and not any(form in lowered for form in forms):
                        continue
                    sample = {key: value for line in reversed(lines) for key, value in json.loads(line).items()}
                    if any(needle in str(sample.get(name) or "").casefold() for name in TEXTS):
                        yield _as_dict(row)


def _as_dict(row: Any) -> dict[str, Any]:
    names = (
        "id", "kind", "checkpoint", "level", "task", "type", "attempt", "rollout", "exploit", "secure", "insecure",
        "suspect", "finish", "code_status", "tier", "tokens", "error",
    )  # fmt: skip
    return dict(zip(names, row, strict=True))


def _read(path: Path, place: LinePlace) -> dict[str, Any]:
    try:
        with open_table(path) as file:
            return row_of(read_line(file, place))
    except InputError:
        raise  # an archive that is damaged
    except (OSError, ValueError):
        raise InputError("has changed since it was indexed", path=path, fix="start `foreshock view` again") from None
