"""JSONL in and out, and the atomic write under every file of a run.

Nothing is appended, ever. A file appears whole (temporary file beside it, fsync, rename, fsync of the directory) or
not at all, which holds on NFS and Lustre without locks, at the price of rewriting. A kill can leave a temporary file;
the next writer of that directory sweeps it.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from foreshock.durable import atomic_write_bytes
from foreshock.errors import InputError
from foreshock.jobs.records.rows import Row
from foreshock.jobs.records.table_files import open_table

_GZIP = b"\x1f\x8b"


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


def read_maybe_gzip(path: Path) -> bytes:
    """A file's content, unpacked if it is gzip's, whatever its name. Raises OSError, also for a damaged archive."""
    with open_table(path) as file:
        raw = file.read()
    if not raw.startswith(_GZIP):
        return raw
    try:
        return gzip.decompress(raw)
    except (EOFError, zlib.error) as error:
        raise OSError(f"a damaged gzip archive: {error}") from None


def parse_line(line: bytes, path: Path, number: int, error: type[InputError] = InputError) -> Row:
    """The row of one line, `number` of `path`; every reader of JSONL, whoever wrote it, ends here.

    A `task_id` that is a whole number becomes its digits, since other tools number their tasks. Raises `error` naming
    file and line for anything that is not one JSON object.
    """
    try:
        row = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as cause:
        problem = f"not UTF-8 text at byte {cause.start}; each line must be one JSON object"
        raise error(problem, path=path, line=number) from None
    except RecursionError:
        raise error("not valid JSON: nested too deeply to be a row", path=path, line=number) from None
    except json.JSONDecodeError as cause:
        raise error(_broken_line(line, cause), path=path, line=number) from None
    if not isinstance(row, dict):
        raise error(
            f"expected a JSON object, found {type(row).__name__}: {_short(row)}; each line is one row in braces",
            path=path,
            line=number,
        )
    task = row.get("task_id")
    if isinstance(task, int) and not isinstance(task, bool):
        row["task_id"] = str(task)
    return row


def _broken_line(line: bytes, error: json.JSONDecodeError) -> str:
    if error.msg == "Extra data":
        return "more than one JSON object on the line; one writer per file, one object a line"
    if line.lstrip()[:1] == b"[":
        return f"not valid JSON ({error.msg} at column {error.colno}); a JSONL file has one object a line"
    tail = _short(line[-40:].decode(errors="replace"))
    return (
        f"not valid JSON: not a complete JSON object ({error.msg} at column {error.colno}), ending in {tail}; "
        "the line is truncated or damaged; write the file again or remove the line"
    )


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def read_jsonl(path: Path) -> Iterator[tuple[int, Row]]:
    """(line number from 1, row) of each line of a file, be it a gzip archive, or of a table that lies in an archive of
    tables; blank lines are passed over.

    Raises InputError naming file and line for anything that is not one JSON object, and for a damaged archive.
    """
    try:
        file = open_table(path)
    except FileNotFoundError:
        raise InputError("no such file", path=path) from None
    except IsADirectoryError:
        raise InputError("is a directory; a JSONL file is needed", path=path) from None
    except PermissionError:
        raise InputError("may not be read by this user", path=path) from None
    with file:
        lines: Iterable[bytes] = gzip.GzipFile(fileobj=file) if file.peek(2).startswith(_GZIP) else file
        try:
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    continue
                yield number, parse_line(line, path, number)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise InputError(f"a damaged gzip archive: {error}", path=path) from None


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
