"""Cutting lines gives what decoding and encoding them gives, whatever texts a model writes."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from foreshock.analysis.aggregate.lines import read_samples, read_score
from foreshock.jobs.records.jsonl import encode_rows
from foreshock.jobs.records.rows import EVAL_KEYS, LOGPROB_KEYS, SAMPLE_KEYS, SCHEMA_VERSION, Row, select_keys

TRICKS = [
    ', "system": ',
    '", "system": null, "error": "x"}\n',
    "}\n",
    '\\", "exploit_success": true, ',
    f', "schema_version": {SCHEMA_VERSION}, "checkpoint": ',
    "\ud800",
    "é",
    "\\u0000",
]
TEXT = st.one_of(st.text(), st.sampled_from(TRICKS), st.lists(st.sampled_from(TRICKS)).map("".join))
FLAG = st.sampled_from([True, False, None])


@st.composite
def sample_rows(draw: st.DrawFn) -> Row:
    special: dict[str, Any] = {
        "attempt_idx": draw(st.integers(0, 40)),
        "secure_pass": draw(FLAG),
        "insecure_pass": draw(FLAG),
        "exploit_success": draw(FLAG),
        "reward_gap": draw(st.floats(allow_nan=False, allow_infinity=False)),
        "insecure_suspect_patterns": draw(st.lists(TEXT, max_size=3)),
        "schema_version": draw(st.sampled_from([SCHEMA_VERSION, SCHEMA_VERSION, SCHEMA_VERSION, 0])),
        "task_id": draw(TEXT),
        "model_id": draw(st.one_of(st.none(), TEXT)),
    }
    row: Row = {key: special[key] if key in special else draw(st.one_of(TEXT, st.none())) for key in SAMPLE_KEYS}
    if draw(st.integers(0, 9)) == 0:
        row["error"] = draw(TEXT)
    return row


def _rows(lines: bytes) -> list[Row]:
    return [json.loads(line) for line in lines.split(b"\n")[:-1]]


@given(st.lists(sample_rows(), max_size=5))
def test_both_tables_hold_what_the_rows_say(rows: list[Row]) -> None:
    read = read_samples(encode_rows(rows))
    assert _rows(read.eval_lines) == [select_keys(row, EVAL_KEYS) for row in rows]
    assert _rows(read.sample_lines) == [select_keys(row, SAMPLE_KEYS) for row in rows]
    assert [tuple(map(json.loads, outcome)) for outcome in read.outcomes] == [
        (row["task_id"], row["attempt_idx"], row["exploit_success"]) for row in rows
    ]
    assert (read.n_rows, read.n_errors) == (len(rows), sum(row.get("error") is not None for row in rows))


@given(sample_rows(), sample_rows())
def test_a_rows_lines_do_not_depend_on_the_rows_around_it(row: Row, other: Row) -> None:
    alone, beside = read_samples(encode_rows([row])), read_samples(encode_rows([row, other]))
    assert _rows(beside.eval_lines)[0] == _rows(alone.eval_lines)[0]
    assert beside.outcomes[0] == alone.outcomes[0]


@given(st.lists(sample_rows(), min_size=1, max_size=4))
def test_further_attempts_are_rollouts(rows: list[Row]) -> None:
    read = read_samples(encode_rows(rows), 3)
    for row, written in zip(rows, _rows(read.eval_lines), strict=True):
        assert (written["rollout"], written["attempt_idx"]) == divmod(row["attempt_idx"], 3)
    assert [int(outcome.attempt_idx) for outcome in read.outcomes] == [row["attempt_idx"] for row in rows]


@given(sample_rows())
def test_lines_of_another_writer_are_put_in_order(row: Row) -> None:
    shuffled = dict(reversed(row.items()))
    read = read_samples(encode_rows([shuffled]))
    assert read.eval_lines == encode_rows([select_keys(row, EVAL_KEYS)])
    assert read.sample_lines == encode_rows([select_keys(row, SAMPLE_KEYS)])


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


@st.composite
def score_rows(draw: st.DrawFn) -> Row:
    number = st.floats(-1e6, 0.0)
    row: Row = {
        "task_id": draw(TEXT),
        "exploit_type": draw(st.one_of(st.none(), TEXT)),
        "attempt_idx": draw(st.integers(0, 9)),
        "prefill_tokens": draw(st.integers(1, 100)),
        "prefill_applied": True,
        "exploit_success": None,
        "prefill_logprob_sum": draw(number),
        "prefill_logprob_mean": draw(number),
        "prefill_num_tokens": draw(st.integers(0, 200)),
        "token_logprobs": draw(st.one_of(st.none(), st.lists(number, max_size=4))),
        "schema_version": draw(st.sampled_from([SCHEMA_VERSION, SCHEMA_VERSION, 0])),
        "checkpoint": draw(TEXT),
        "prefill_level": draw(st.integers(1, 100)),
        "prefill_sha256": draw(st.text("0123456789abcdef", min_size=64, max_size=64)),
        "template_sha256": draw(TEXT),
        "logprob_temperature": draw(st.sampled_from([1.0, 0.7])),
        "logprob_method": "full",
    }
    if draw(st.integers(0, 9)) == 0:
        missing = dict.fromkeys(("prefill_logprob_sum", "prefill_logprob_mean", "prefill_num_tokens"))
        row |= missing | {"error": draw(TEXT)}
    return row


@given(score_rows(), st.sampled_from([True, False, None]))
def test_a_score_gets_its_outcome_and_nothing_else_changes(row: Row, outcome: bool | None) -> None:
    score = read_score(encode_rows([row]))
    line = score.with_outcome(json.dumps(outcome).encode())
    assert line.endswith(b"}\n")
    assert json.loads(line) == select_keys(row | {"exploit_success": outcome}, LOGPROB_KEYS)
    assert score.is_error == (row.get("error") is not None)
    assert score.logprob_sum == (None if score.is_error else row["prefill_logprob_sum"])
    names = {"n_tokens": "prefill_num_tokens", "level": "prefill_level"}
    for name in ("task_id", "exploit_type", "attempt_idx", "prefill_tokens", "n_tokens", "level", "prefill_sha256"):
        assert json.loads(getattr(score, name)) == row[names.get(name, name)]


@given(sample_rows(), score_rows())
def test_a_score_finds_its_attempt(sample: Row, score: Row) -> None:
    """The same identifier, also where only one of both rows holds a lone surrogate, which changes its escapes."""
    score["task_id"] = sample["task_id"]
    assert read_samples(encode_rows([sample])).outcomes[0].task_id == read_score(encode_rows([score])).task_id
