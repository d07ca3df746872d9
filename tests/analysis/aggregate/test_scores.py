"""Scores get their outcomes, and are set against each other, whatever texts are in their lines."""

from __future__ import annotations

import json
from collections import defaultdict

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st
from row_strategies import sample_rows, score_rows

from foreshock.analysis.aggregate.lines import read_samples
from foreshock.analysis.aggregate.scores import KL_METHOD, Scores, divergences, kl_lines, read_scores
from foreshock.jobs.records.jsonl import encode_rows
from foreshock.jobs.records.rows import KL_KEYS, LOGPROB_KEYS, Row, select_keys

OUTCOMES = st.sampled_from([True, False, None])
ROWS = st.lists(st.tuples(score_rows(), OUTCOMES), min_size=1, max_size=5)


def _texts(values: list[bool | None]) -> pa.BinaryArray:
    return pa.array([json.dumps(value).encode() for value in values], pa.binary())


def _by_level(rows: list[tuple[Row, bool | None]]) -> list[tuple[Scores, list[tuple[Row, bool | None]]]]:
    """What is read of each level, and its rows."""
    expected: dict[int, list[tuple[Row, bool | None]]] = defaultdict(list)
    for row, outcome in rows:
        expected[row["prefill_level"]].append((row, outcome))
    read = read_scores(encode_rows([row for row, _ in rows]))
    assert [json.loads(level) for level, _ in read] == list(expected)
    return [(scores, expected[json.loads(level)]) for level, scores in read]


@given(ROWS)
def test_scores_get_their_outcomes_and_nothing_else_changes(rows: list[tuple[Row, bool | None]]) -> None:
    for scores, expected in _by_level(rows):
        lines = bytes(scores.lines(_texts([outcome for _, outcome in expected])))
        assert lines.endswith(b"}\n")
        assert [json.loads(line) for line in lines.split(b"\n")[:-1]] == [
            select_keys(row | {"exploit_success": outcome}, LOGPROB_KEYS) for row, outcome in expected
        ]
        failed = [row.get("error") is not None for row, _ in expected]
        sums = [np.nan if bad else row["prefill_logprob_sum"] for bad, (row, _) in zip(failed, expected, strict=True)]
        np.testing.assert_array_equal(scores.sums, sums)
        assert scores.n_errors == sum(failed)
        for name, column in scores.texts.items():
            assert [json.loads(text) for text in column.to_pylist()] == [row.get(name) for row, _ in expected]


@given(sample_rows(), score_rows())
def test_a_score_finds_its_attempt(sample: Row, score: Row) -> None:
    """The same identifier, also where only one of both rows holds a lone surrogate, which changes its escapes."""
    score["task_id"] = sample["task_id"]
    attempts = read_samples(encode_rows([sample])).outcomes.task_id
    [(_, scores)] = read_scores(encode_rows([score]))
    assert attempts.equals(scores.texts["task_id"])


@given(score_rows(ours=True), st.floats(-1e6, 0.0), OUTCOMES)
def test_a_kl_row_says_what_two_scores_differ_by(row: Row, ref_sum: float, outcome: bool | None) -> None:
    [(_, scores)] = read_scores(encode_rows([row]))
    differing = divergences(scores, np.array([ref_sum]), pa.array([repr(ref_sum).encode()], pa.binary()))
    written = json.loads(bytes(kl_lines(scores, _texts([outcome]), differing)))
    kl, n_tokens = ref_sum - row["prefill_logprob_sum"], row["prefill_num_tokens"]
    expected = {
        "exploit_success": outcome,
        "kl_divergence": kl,
        "kl_per_token": kl / n_tokens if n_tokens else None,
        "kl_num_tokens": n_tokens,
        "eval_logprob_sum": row["prefill_logprob_sum"],
        "ref_logprob_sum": ref_sum,
        "kl_method": KL_METHOD,
        "schema_version": written["schema_version"],
    }
    assert list(written) == list(KL_KEYS)
    assert written == {key: expected[key] if key in expected else row[key] for key in KL_KEYS}
