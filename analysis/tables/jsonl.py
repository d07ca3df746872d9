"""Reading one JSONL file into an Arrow table: fast where the file is sound, exact where it is not.

Every block is parsed by Arrow first and its row count is compared with its line count; whatever Arrow refuses (or
silently merges, such as two objects on one line) is parsed again line by line in Python, which either accepts it
(blank lines, 1 for true, 10.0 for 10, NaN) or names the line. So speed never costs strictness.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.json as pajson

from foreshock.errors import InputError
from foreshock.jobs.records.jsonl import parse_line
from foreshock.jobs.records.table_files import open_raw, open_table

_BLOCK_BYTES = 32 << 20
_PARSE_BYTES = 4 << 20
_INT64 = 1 << 63
_NEWLINE, _BRACE = ord("\n"), ord("{")


def read_jsonl(path: Path, fields: pa.Schema, required: Sequence[str]) -> pa.Table:
    """All rows of `path`, restricted to `fields`; absent keys are null, strings are dictionary-encoded.

    Raises:
        InputError: a line is not one JSON object, lacks a required key, or holds a value of the wrong type.
    """
    tables = []
    first_line = 1
    for block in _blocks(path):
        starts = _line_starts(block)
        table = _parse_block(block, starts, fields, required)
        if table is None:
            table = _parse_lines(path, bytes(block), first_line, fields, required)
        tables.append(_encode_strings(table))
        first_line += len(starts)
    if not tables:
        return _encode_strings(fields.empty_table())
    return pa.concat_tables(tables).unify_dictionaries()


def parse_block(lines: bytes, fields: pa.Schema, required: Sequence[str]) -> pa.Table | None:
    """Whole lines as `read_jsonl` has them, or None when it would have to look at them one by one."""
    block = memoryview(lines)
    table = _parse_block(block, _line_starts(block), fields, required) if lines else fields.empty_table()
    return None if table is None else _encode_strings(table)


def numbered_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """(line number, bytes without the newline) of every line that holds a row, in row order."""
    with open_table(path) as stream:
        for number, line in enumerate(stream, start=1):
            if line.strip():
                yield number, line.strip()


def line_of_row(path: Path, row: int) -> int:
    """Line number of the file's `row`-th row (from 0)."""
    for index, (number, _) in enumerate(numbered_lines(path)):
        if index == row:
            return number
    raise IndexError(f"{path} has no row {row}")


def _blocks(path: Path) -> Iterator[memoryview]:
    """The file in pieces that end at a line's end, so that memory does not grow with the file.

    A piece is valid until the next one is asked for.
    """
    with open_raw(path) as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(0)
        buffer, held = bytearray(min(_BLOCK_BYTES, size + 1)), 0
        while True:
            if held == len(buffer):  # a line longer than a piece
                buffer = buffer + bytes(len(buffer))
            n_read = stream.readinto(memoryview(buffer)[held:])
            if not n_read:
                break
            cut = buffer.rfind(b"\n", held, held + n_read) + 1
            held += n_read
            if cut == 0:
                continue
            yield memoryview(buffer)[:cut]
            rest = buffer[cut:held]
            buffer[: len(rest)] = rest
            held = len(rest)
    if buffer[:held].strip():
        yield memoryview(buffer)[:held]


def _line_starts(block: memoryview) -> npt.NDArray[np.int64]:
    starts = np.flatnonzero(np.frombuffer(block, dtype=np.uint8) == _NEWLINE) + 1
    return np.concatenate([[0], starts[starts < len(block)]])


def _parse_block(
    block: memoryview, starts: npt.NDArray[np.int64], fields: pa.Schema, required: Sequence[str]
) -> pa.Table | None:
    """The block by Arrow's parser, or None when a line-by-line look is needed."""
    if (np.frombuffer(block, dtype=np.uint8)[starts] != _BRACE).any():  # a blank line could hide two objects on another
        return None
    try:
        table = pajson.read_json(
            pa.BufferReader(block),
            read_options=pajson.ReadOptions(block_size=_PARSE_BYTES),
            parse_options=pajson.ParseOptions(explicit_schema=fields, unexpected_field_behavior="ignore"),
        )
        table.validate(full=True)  # Arrow's parser does not look whether texts are UTF-8
    except pa.ArrowInvalid:
        return None
    if table.num_rows != len(starts) or any(table[key].null_count for key in required[:1]):
        return None
    # An all-null required column is a foreign file; a single null is a missing value, judged later.
    if any(table[key].null_count == table.num_rows for key in required):
        return None
    return table


def _parse_lines(path: Path, block: bytes, first_line: int, fields: pa.Schema, required: Sequence[str]) -> pa.Table:
    rows = []
    for number, line in enumerate(block.split(b"\n"), start=first_line):
        if line.strip():
            rows.append(_parse_line(path, number, line, fields, required))
    return pa.Table.from_pylist(rows, schema=fields)


def _parse_line(path: Path, number: int, line: bytes, fields: pa.Schema, required: Sequence[str]) -> dict[str, Any]:
    row = parse_line(line, path, number)
    failed = bool(row.get("error"))
    missing = [key for key in required if key not in row and not (failed and key != required[0])]
    if "exploit_success" in missing and {"insecure_pass", "secure_pass"} <= row.keys():
        # Only where the key is absent: a null that was written down means that no verdict was reached.
        missing.remove("exploit_success")
        verdicts = (row["insecure_pass"], row["secure_pass"])
        row["exploit_success"] = None if None in verdicts else bool(verdicts[0] and not verdicts[1])
    if missing:
        present = ", ".join(map(repr, list(row)[:8])) or "no keys"
        raise InputError(
            f"the row lacks {', '.join(map(repr, missing))}; it has {present}; required keys: {', '.join(required)}",
            path=path,
            line=number,
            fix="add the keys where the file was written, or, in a run of foreshock's own, `foreshock aggregate RUN`",
        )
    if not isinstance(row[required[0]], str):
        problem = f"{required[0]} is {_short(row[required[0]])}; it must be a string or a whole number"
        raise InputError(problem, path=path, line=number)
    return {field.name: _coerce(path, number, field, row.get(field.name)) for field in fields}


def _coerce(path: Path, number: int, field: pa.Field, value: Any) -> Any:
    """`value` as the field's type where nothing is lost; InputError otherwise. NaN becomes null."""
    if value is None:
        return None
    kind = field.type
    if field.name == "error":
        text = value if isinstance(value, str) else json.dumps(value) if value else None
        return None if text is None else text.encode(errors="backslashreplace").decode()
    if pa.types.is_boolean(kind) and (isinstance(value, bool) or value in (0, 1)):
        return bool(value)
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if is_number and isinstance(value, float) and not math.isfinite(value):
        return None
    if pa.types.is_integer(kind) and is_number and value == int(value) and abs(value) < _INT64:
        return int(value)
    if pa.types.is_floating(kind) and is_number:
        return float(value)
    if pa.types.is_string(kind) and isinstance(value, str):
        _refuse_half_characters(path, number, field.name, value)
        return value
    if field.name == "prefill_model_id" or field.name == "model_id":
        return str(value)
    wanted = "true, false or null" if pa.types.is_boolean(kind) else f"{kind} or null"
    raise InputError(f"{field.name} is {_short(value)}; valid: {wanted}", path=path, line=number)


def _refuse_half_characters(path: Path, number: int, key: str, value: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError:
        problem = f"{key} is {_short(value)}, with half of a surrogate pair, which is no character"
        raise InputError(problem, path=path, line=number) from None


def _encode_strings(table: pa.Table) -> pa.Table:
    """Task ids and the like repeat: codes take a tenth of the memory."""
    for index, field in enumerate(table.schema):
        if pa.types.is_string(field.type) and field.name != "error":
            table = table.set_column(index, field.name, table[field.name].dictionary_encode())
    return table


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
