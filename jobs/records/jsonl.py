"""JSONL in and out, and the atomic write under every file of a run.

Nothing is appended, ever. A file appears whole (temporary file beside it, fsync, rename, fsync of the directory) or
not at all, which holds on NFS and Lustre without locks, at the price of rewriting. A kill can leave a temporary file;
the next writer of that directory sweeps it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from foreshock.durable import atomic_write_bytes
from foreshock.errors import InputError
from foreshock.jobs.records.rows import Row


def dump_line(row: Mapping[str, Any]) -> str:
    """One row as strict JSON (no NaN or Infinity) with its newline."""
    return json.dumps(row, ensure_ascii=False, allow_nan=False, separators=(", ", ": ")) + "\n"


def encode_rows(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """Rows as JSONL bytes. Lone surrogates, which a model can emit, are kept as escapes."""
    try:
        return "".join(map(dump_line, rows := list(rows))).encode()
    except UnicodeEncodeError:
        return b"".join(map(_encode_row, rows))  # a row's bytes are the same whatever rows it is written with


def _encode_row(row: Mapping[str, Any]) -> bytes:
    try:
        return dump_line(row).encode()
    except UnicodeEncodeError:
        return f"{json.dumps(row, allow_nan=False)}\n".encode()


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a whole JSONL file atomically."""
    atomic_write_bytes(path, encode_rows(rows))


def write_json(path: Path, value: Any) -> None:
    """Write one indented JSON document atomically."""
    atomic_write_bytes(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """Read one JSON document. Raises InputError naming the file and line."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise InputError("no such file", path=path) from None
    except json.JSONDecodeError as error:
        raise InputError(f"not valid JSON: {error.msg}", path=path, line=error.lineno) from None
    except RecursionError:
        raise InputError("not valid JSON: nested too deeply", path=path) from None
    except UnicodeDecodeError as error:
        raise InputError(f"not UTF-8 text at byte {error.start}", path=path) from None


def read_jsonl(path: Path) -> Iterator[tuple[int, Row]]:
    """(line number from 1, row) of each line; blank lines are passed over.

    Raises InputError naming file and line for anything that is not one JSON object.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError:
        raise InputError("no such file", path=path) from None
    except IsADirectoryError:
        raise InputError("is a directory; a JSONL file is needed", path=path) from None
    with file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line.decode("utf-8-sig"))
            except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
                cut = "" if line.endswith(b"\n") else "; the line has no end, so the file looks truncated"
                raise InputError(f"not valid JSON ({error}){cut}", path=path, line=number) from None
            if not isinstance(row, dict):
                raise InputError(
                    f"expected a JSON object, found {type(row).__name__}; each line is one row in braces",
                    path=path,
                    line=number,
                )
            yield number, row


def read_rows(path: Path, required: Iterable[str] = ()) -> list[Row]:
    """All rows of a file that must have the keys `required`. Raises InputError naming the line that lacks one."""
    needed = tuple(required)
    rows = []
    for number, row in read_jsonl(path):
        missing = [key for key in needed if key not in row]
        if missing:
            raise InputError(
                f"row lacks {', '.join(missing)}; needed: {', '.join(needed)}; found: {', '.join(row)}",
                path=path,
                line=number,
            )
        rows.append(row)
    return rows
