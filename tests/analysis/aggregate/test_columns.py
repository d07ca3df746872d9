"""Columns that are kept beside a table are what reading the table gives."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from row_strategies import sample_rows, score_rows

from foreshock.analysis.aggregate.columns import eval_columns, kl_columns, score_columns
from foreshock.analysis.aggregate.lines import read_samples
from foreshock.analysis.aggregate.scores import divergences, kl_lines, read_scores
from foreshock.analysis.tables.columns import ColumnsWriter, read_columns
from foreshock.analysis.tables.jsonl import read_jsonl
from foreshock.analysis.tables.schema import COUNT_COLUMNS, SCHEMAS, TableKind
from foreshock.errors import InputError
from foreshock.jobs.records.jsonl import encode_rows
from foreshock.jobs.records.rows import Row

NewPath = Callable[[], Path]
OUTCOMES = [b"true", b"false", b"null"]


@pytest.fixture(scope="module")
def new_path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NewPath]:
    """A file for each example that a property is tried on; all are worth their columns."""
    folder, numbers = tmp_path_factory.mktemp("tables"), itertools.count()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("foreshock.analysis.tables.columns.WORTH_BYTES", 0)
        yield lambda: folder / f"{next(numbers)}.jsonl"


def _agree(columns: pa.Table | None, lines: bytes, path: Path, kind: TableKind, names: tuple[str, ...]) -> bool:
    """Whether there are columns; if so, they must be what reading the lines gives."""
    path.write_bytes(lines)
    fields = pa.schema([field for field in SCHEMAS[kind].fields if field.name in names])
    try:
        read = read_jsonl(path, fields, SCHEMAS[kind].required)
    except InputError:
        assert columns is None
        return False
    if columns is None:
        return False
    assert columns.schema.equals(read.schema)
    assert columns.to_pylist() == read.to_pylist()
    return True


def _columns_of(rows: list[Row], split: int, path: Path) -> tuple[pa.Table | None, bytes]:
    """What is kept beside a table of `rows`, written in two blocks, and its lines."""
    kept = ColumnsWriter(path)
    blocks = [read_samples(encode_rows(part)) for part in (rows[:split], rows[split:]) if part]
    for read in blocks:
        kept.add(eval_columns(read))
    lines = b"".join(bytes(read.eval_lines) for read in blocks)
    path.write_bytes(lines)
    kept.write()
    return read_columns(path, pa.schema([f for f in SCHEMAS[TableKind.EVAL].fields if f.name in COUNT_COLUMNS])), lines


@given(rows=st.lists(sample_rows(), min_size=1, max_size=5), split=st.integers(0, 4))
def test_of_evals(rows: list[Row], split: int, new_path: NewPath) -> None:
    columns, lines = _columns_of(rows, split, new_path())
    _agree(columns, lines, new_path(), TableKind.EVAL, COUNT_COLUMNS)


@given(rows=st.lists(sample_rows(ours=True), min_size=1, max_size=5), split=st.integers(0, 4))
def test_of_evals_that_foreshock_wrote(rows: list[Row], split: int, new_path: NewPath) -> None:
    columns, lines = _columns_of(rows, split, new_path())
    assert _agree(columns, lines, new_path(), TableKind.EVAL, COUNT_COLUMNS)


@given(data=st.data(), rows=st.lists(score_rows(), min_size=1, max_size=5))
def test_of_scores_and_what_they_differ_by(data: st.DataObject, rows: list[Row], new_path: NewPath) -> None:
    for _, scores in read_scores(encode_rows(rows)):
        told = pa.array([data.draw(st.sampled_from(OUTCOMES)) for _ in range(scores.n_rows)], pa.binary())
        columns = score_columns(scores, told)
        names = tuple(SCHEMAS[TableKind.LOGPROB].fields.names)
        known = _agree(columns, bytes(scores.lines(told)), new_path(), TableKind.LOGPROB, names)
        assert known or any("\ud800" in f"{row['task_id']} {row['exploit_type']} {row.get('error')}" for row in rows)
        there = np.flatnonzero(np.isfinite(scores.sums))
        if not len(there):
            continue
        twice, told = scores.take(there), told.take(pa.array(there))
        ref_sums = np.array([data.draw(st.floats(-1e6, 0.0)) for _ in there])
        differing = divergences(twice, ref_sums, pa.array([repr(float(s)).encode() for s in ref_sums], pa.binary()))
        lines = bytes(kl_lines(twice, told, differing))
        names = tuple(SCHEMAS[TableKind.KL].fields.names)
        columns = kl_columns(score_columns(twice, told), differing)
        assert _agree(columns, lines, new_path(), TableKind.KL, names) or not known


@given(rows=st.lists(score_rows(ours=True), min_size=1, max_size=5))
def test_of_scores_that_foreshock_wrote(rows: list[Row], new_path: NewPath) -> None:
    for _, scores in read_scores(encode_rows(rows)):
        told = pa.array([b"true"] * scores.n_rows, pa.binary())
        names = tuple(SCHEMAS[TableKind.LOGPROB].fields.names)
        assert _agree(score_columns(scores, told), bytes(scores.lines(told)), new_path(), TableKind.LOGPROB, names)
