"""One (checkpoint, level): its usable rows, each observation once.

A repeated row is dropped only when the two lines are identical byte for byte; two different rows that claim to be the
same attempt are an error, because picking either would be a guess.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from foreshock.analysis.tables.columns import read_columns
from foreshock.analysis.tables.files import CellFiles
from foreshock.analysis.tables.jsonl import line_of_row, numbered_lines, read_jsonl
from foreshock.analysis.tables.read_report import CellRead
from foreshock.analysis.tables.schema import DESCRIPTIVE_KEYS, IDENTITY_KEYS, RowSchema
from foreshock.errors import InputError
from foreshock.jobs.records.rows import CODE_STATUS
from foreshock.jobs.records.verdicts import UNJUDGED


@dataclass(frozen=True, slots=True)
class CellTable:
    """Usable rows of one cell and what was left out; `parsed`, unless its columns were at hand."""

    rows: pa.Table
    read: CellRead
    parsed: bool = True


def read_cell(
    files: CellFiles, schema: RowSchema, columns: Sequence[str] | None = None, repeats_are_rollouts: bool = False
) -> CellTable:
    """Read, validate and deduplicate one cell.

    `repeats_are_rollouts`: rows that repeat an attempt are further rollouts of it, as in a donor's run, and are
    numbered in file order where no row has a `rollout`.

    Raises:
        InputError: unreadable line, two different rows for one observation, or a log-probability above 0.
    """
    fields = schema.fields
    if columns is not None:
        fields = pa.schema([field for field in fields if field.name in columns])
    tables = []
    parsed = False
    for index, path in enumerate(files.paths):
        table = read_columns(path, fields)
        if table is None:
            table, parsed = read_jsonl(path, fields, schema.required), True
        origin = pa.array(np.full(table.num_rows, index, dtype=np.int16))
        table = table.append_column("_file", origin)
        tables.append(table.append_column("_row", pa.array(np.arange(table.num_rows, dtype=np.int64))))
    table = pa.concat_tables(tables).unify_dictionaries()
    failed = pc.and_(pc.is_valid(table["error"]), pc.not_equal(table["error"], ""))
    failed = pc.fill_null(failed, False)
    code: tuple[tuple[str, int], ...] = ()
    if schema.is_eval:
        table, code = _count_unjudged(table, failed, files.paths)
    else:
        table = _drop_fake_scores(table, files.prefill_level)
    usable = pc.and_(pc.invert(failed), _has_value(table[schema.outcome]))
    n_errors = int(pc.sum(failed).as_py() or 0)
    n_usable = int(pc.sum(usable).as_py() or 0)
    n_nulls = table.num_rows - n_errors - n_usable
    if n_usable < table.num_rows:
        table = table.filter(usable)
    if not schema.is_eval and "prefill_logprob_sum" in table.column_names:
        _refuse_positive(table, files.paths)
    unnumbered = table["rollout"].null_count == table.num_rows
    table = _number_attempts(table, files.paths)
    if repeats_are_rollouts and unnumbered:
        table = _number_rollouts(table)
    kept = _deduplicate(table, files.paths)
    read = CellRead(
        files.checkpoint,
        files.prefill_level,
        rows=kept.num_rows,
        errors=n_errors,
        nulls=n_nulls,
        duplicates=table.num_rows - kept.num_rows,
        made_by=_made_by(kept),
        code=code,
        exploits=int(pc.sum(kept[schema.outcome]).as_py() or 0) if schema.is_eval else 0,
    )
    return CellTable(kept.drop_columns(["_file", "_row", "error"]).combine_chunks(), read, parsed)


def _count_unjudged(
    table: pa.Table, failed: pa.ChunkedArray, paths: Sequence[Path]
) -> tuple[pa.Table, tuple[tuple[str, int], ...]]:
    """The table in which responses without code to judge are attempts without an exploit, and how many there are of
    each `code_status` among the rows that did not fail.

    Their `exploit_success` is null on disk. They stay in the denominator, since a rate is per response, and are
    counted apart, since a reader that does not understand the answers would look the same. Raises InputError where one
    is an exploit all the same.
    """
    if CODE_STATUS.name not in table.column_names:
        return table, ()
    status = table[CODE_STATUS.name]
    counted = pc.value_counts(status.filter(pc.invert(failed))).to_pylist()
    code = tuple(sorted((one["values"], one["counts"]) for one in counted if one["values"] is not None))
    unjudged = pc.is_in(status, value_set=pa.array(sorted(UNJUDGED)))
    denied = pc.fill_null(pc.and_(pc.and_(unjudged, pc.invert(failed)), table["exploit_success"]), False).to_numpy()
    if denied.any():
        path, row = _origin(table, int(np.argmax(denied)), paths)
        raise InputError(
            "exploit_success is true where code_status says that there was nothing to judge; valid there: null",
            path=path,
            line=line_of_row(path, row),
            fix="foreshock rescore RUN judges the stored code",
        )
    empty = pc.and_(unjudged, pc.is_null(table["exploit_success"]))
    index = table.column_names.index("exploit_success")
    filled = pc.if_else(pc.and_(empty, pc.invert(failed)), False, table["exploit_success"])
    return table.set_column(index, "exploit_success", filled), code


def _made_by(table: pa.Table) -> tuple[tuple[str, tuple[str, ...]], ...]:
    present = [key for key in DESCRIPTIVE_KEYS if key in table.column_names]
    return tuple((key, tuple(sorted(filter(None, pc.unique(table[key]).to_pylist())))) for key in present)


def _has_value(column: pa.ChunkedArray) -> pa.ChunkedArray:
    valid = pc.is_valid(column)
    if pa.types.is_floating(column.type):
        valid = pc.and_(valid, pc.fill_null(pc.is_finite(column), False))
    return valid


def _drop_fake_scores(table: pa.Table, level: int) -> pa.Table:
    """A prefix of no tokens at a level above 0 is a missing prefix, not one of probability 1."""
    if level == 0 or "prefill_logprob_sum" not in table.column_names:
        return table
    absent = pc.or_(
        pc.fill_null(pc.equal(table["prefill_num_tokens"], 0), False),
        pc.fill_null(pc.invert(table["prefill_applied"]), False),
    )
    index = table.column_names.index("prefill_logprob_sum")
    score = pc.if_else(absent, pa.scalar(None, pa.float64()), table["prefill_logprob_sum"])
    return table.set_column(index, "prefill_logprob_sum", score)


def _refuse_positive(table: pa.Table, paths: Sequence[Path]) -> None:
    scores = table["prefill_logprob_sum"].to_numpy()
    bad = np.flatnonzero(scores > 1e-3)
    if bad.size:
        path, row = _origin(table, int(bad[0]), paths)
        raise InputError(
            f"prefill_logprob_sum is {scores[bad[0]]:g}; a log-probability is at most 0",
            path=path,
            line=line_of_row(path, row),
        )


def _origin(table: pa.Table, position: int, paths: Sequence[Path]) -> tuple[Path, int]:
    return paths[table["_file"][position].as_py()], int(table["_row"][position].as_py())


def _number_attempts(table: pa.Table, paths: Sequence[Path]) -> pa.Table:
    """Rows without attempt_idx are numbered in file order within their task; rollout defaults to 0."""
    index = table.column_names.index("rollout")
    table = table.set_column(index, "rollout", pc.fill_null(table["rollout"], 0))
    if table["attempt_idx"].null_count == 0:
        return table
    if table["attempt_idx"].null_count < table.num_rows:
        present = pc.is_valid(table["attempt_idx"]).to_numpy()
        path, row = _origin(table, int(np.argmin(present)), paths)
        raise InputError(
            "attempt_idx is missing here and given in other rows of the file; give it to all or to none",
            path=path,
            line=line_of_row(path, row),
        )
    task_codes = pd.Series(_codes(table["task_id"]))
    numbers = task_codes.groupby(task_codes).cumcount().to_numpy().astype(np.int64)
    return table.set_column(table.column_names.index("attempt_idx"), "attempt_idx", pa.array(numbers))


def _number_rollouts(table: pa.Table) -> pa.Table:
    codes = pd.DataFrame({key: _codes(table[key]) for key in IDENTITY_KEYS if key != "rollout"})
    numbers = codes.groupby(list(codes.columns)).cumcount().to_numpy().astype(np.int64)
    return table.set_column(table.column_names.index("rollout"), "rollout", pa.array(numbers))


def _codes(column: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """Integers that are equal where the column's values are; nulls are -1."""
    if pa.types.is_dictionary(column.type):
        parts = [chunk.indices.fill_null(-1).to_numpy() for chunk in column.unify_dictionaries().chunks]
        if not parts:
            return np.empty(0, dtype=np.int64)
        joined: npt.NDArray[Any] = np.concatenate(parts)
        return joined.astype(np.int64)
    filled: npt.NDArray[np.int64] = pc.fill_null(column, -1).to_numpy().astype(np.int64)
    return filled


def _deduplicate(table: pa.Table, paths: Sequence[Path]) -> pa.Table:
    codes = [_codes(table[key]) for key in IDENTITY_KEYS]
    varying = {str(i): code for i, code in enumerate(codes) if code.size and code.min() != code.max()}
    if not varying:
        return table if table.num_rows <= 1 else _drop_repeats(table, np.zeros(table.num_rows, np.int64), paths)
    key = np.zeros(table.num_rows, dtype=np.int64)
    span = 1
    for code in varying.values():
        low, width = int(code.min()), int(code.max()) - int(code.min()) + 1
        if span * width >= 1 << 62:  # rare: fold what is there into dense codes first
            key = np.unique(key, return_inverse=True)[1].astype(np.int64)
            span = int(key.max()) + 1
        key += (code - low) * span
        span *= width
    return _drop_repeats(table, key, paths)


def _drop_repeats(table: pa.Table, key: npt.NDArray[np.int64], paths: Sequence[Path]) -> pa.Table:
    repeated = pd.Series(key).duplicated(keep="first").to_numpy()
    if not repeated.any():
        return table
    first_at = {int(key[i]): int(i) for i in np.flatnonzero(~repeated) if key[i] in set(key[repeated].tolist())}
    texts = _raw_lines(table, [*first_at.values(), *np.flatnonzero(repeated).tolist()], paths)
    for position in np.flatnonzero(repeated).tolist():
        first = first_at[int(key[position])]
        if texts[position][2] != texts[first][2]:
            path, line, _ = texts[position]
            other, other_line, _ = texts[first]
            task = table["task_id"][position].as_py()
            attempt = table["attempt_idx"][position].as_py()
            raise InputError(
                f"a second, different row for task {task!r} attempt {attempt}; the first is at {other}:{other_line}; "
                "keep one of them, or number further rollouts by `rollout`",
                path=path,
                line=line,
            )
    return table.filter(pa.array(~repeated))


def _raw_lines(table: pa.Table, positions: Sequence[int], paths: Sequence[Path]) -> dict[int, tuple[Path, int, bytes]]:
    """(file, line number, bytes) of the rows at `positions`, reading each file once."""
    wanted: dict[int, dict[int, int]] = {}
    files = table["_file"].to_numpy()
    rows = table["_row"].to_numpy()
    for position in positions:
        wanted.setdefault(int(files[position]), {})[int(rows[position])] = position
    found = {}
    for index, by_row in wanted.items():
        for row, (number, text) in enumerate(numbered_lines(paths[index])):
            if row in by_row:
                found[by_row[row]] = (paths[index], number, text)
    return found
