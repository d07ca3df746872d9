"""Cutting lines gives what decoding and encoding them gives, whatever texts a model writes."""

from __future__ import annotations

import json

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st
from row_strategies import sample_rows

from foreshock.analysis.aggregate.lines import SampleLines, read_samples
from foreshock.jobs.records.jsonl import encode_rows
from foreshock.jobs.records.rows import EVAL_KEYS, SAMPLE_KEYS, Row, select_keys


def _rows(lines: bytes | memoryview | pa.Buffer) -> list[Row]:
    return [json.loads(line) for line in bytes(lines).split(b"\n")[:-1]]


def _outcomes(read: SampleLines) -> list[tuple[object, ...]]:
    columns = (column.to_pylist() for column in read.outcomes)
    return [tuple(map(json.loads, outcome)) for outcome in zip(*columns, strict=True)]


@given(st.lists(sample_rows(), max_size=5))
def test_both_tables_hold_what_the_rows_say(rows: list[Row]) -> None:
    read = read_samples(encode_rows(rows))
    assert _rows(read.eval_lines) == [select_keys(row, EVAL_KEYS) for row in rows]
    assert _rows(read.sample_lines) == [select_keys(row, SAMPLE_KEYS) for row in rows]
    assert _outcomes(read) == [(row["task_id"], row["attempt_idx"], row["exploit_success"]) for row in rows]
    assert (read.n_rows, read.n_errors) == (len(rows), sum(row.get("error") is not None for row in rows))


@given(sample_rows(), sample_rows())
def test_a_rows_lines_do_not_depend_on_the_rows_around_it(row: Row, other: Row) -> None:
    alone, beside = read_samples(encode_rows([row])), read_samples(encode_rows([row, other]))
    assert _rows(beside.eval_lines)[0] == _rows(alone.eval_lines)[0]
    assert [column[0] for column in beside.outcomes] == [column[0] for column in alone.outcomes]


@given(st.lists(sample_rows(), min_size=1, max_size=4))
def test_further_attempts_are_rollouts(rows: list[Row]) -> None:
    read = read_samples(encode_rows(rows), 3)
    for row, written in zip(rows, _rows(read.eval_lines), strict=True):
        assert (written["rollout"], written["attempt_idx"]) == divmod(row["attempt_idx"], 3)
    assert [attempt for _, attempt, _ in _outcomes(read)] == [row["attempt_idx"] for row in rows]


@given(sample_rows())
def test_lines_of_another_writer_are_put_in_order(row: Row) -> None:
    shuffled = dict(reversed(row.items()))
    read = read_samples(encode_rows([shuffled]))
    assert bytes(read.eval_lines) == encode_rows([select_keys(row, EVAL_KEYS)])
    assert bytes(read.sample_lines) == encode_rows([select_keys(row, SAMPLE_KEYS)])


@given(st.lists(sample_rows(), min_size=2, max_size=4), st.data())
def test_lines_that_lack_columns_swallow_none_of_their_neighbours(rows: list[Row], data: st.DataObject) -> None:
    """An earlier version's lines, say, between our own."""
    for row in rows:
        for key in data.draw(st.sets(st.sampled_from(["system", "checkpoint", "schema_version"]))):
            del row[key]
    read = read_samples(encode_rows(rows))
    assert read.n_rows == len(rows)
    assert [list(row) for row in _rows(read.eval_lines)] == [list(select_keys(row, EVAL_KEYS)) for row in rows]
    assert _rows(read.eval_lines) == [select_keys(row, EVAL_KEYS) for row in rows]


@given(st.lists(sample_rows(ours=True), min_size=1, max_size=5))
def test_lines_that_foreshock_wrote_are_cut(rows: list[Row]) -> None:
    read = read_samples(encode_rows(rows))
    assert read.texts is not None
    assert bytes(read.eval_lines) == encode_rows(select_keys(row, EVAL_KEYS) for row in rows)
    assert bytes(read.sample_lines) == encode_rows(rows)
