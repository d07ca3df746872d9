"""Scores get their outcomes, and are set against each other, without being decoded."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st
from row_strategies import sample_rows, score_rows

from foreshock.analysis.aggregate.lines import read_samples
from foreshock.analysis.aggregate.scores import KL_METHOD, SCORE_COLUMNS, divergence, kl_line, read_score
from foreshock.jobs.records.jsonl import encode_rows
from foreshock.jobs.records.rows import KL_KEYS, LOGPROB_KEYS, Row, select_keys


@given(score_rows(), st.sampled_from([True, False, None]))
def test_a_score_gets_its_outcome_and_nothing_else_changes(row: Row, outcome: bool | None) -> None:
    score = read_score(encode_rows([row]))
    line = score.with_outcome(json.dumps(outcome).encode())
    assert line.endswith(b"}\n")
    assert json.loads(line) == select_keys(row | {"exploit_success": outcome}, LOGPROB_KEYS)
    failed = row.get("error") is not None
    assert score.sum == (None if failed else row["prefill_logprob_sum"])
    assert json.loads(score.level) == row["prefill_level"]
    for name, text in zip(SCORE_COLUMNS, score.texts, strict=True):
        assert json.loads(text) == row.get(name)


@given(sample_rows(), score_rows())
def test_a_score_finds_its_attempt(sample: Row, score: Row) -> None:
    """The same identifier, also where only one of both rows holds a lone surrogate, which changes its escapes."""
    score["task_id"] = sample["task_id"]
    assert read_samples(encode_rows([sample])).outcomes.task_id[0] == read_score(encode_rows([score])).texts.task_id


@given(score_rows(), st.floats(-1e6, 0.0), st.sampled_from([True, False, None]))
def test_a_kl_row_says_what_two_scores_differ_by(row: Row, ref_sum: float, outcome: bool | None) -> None:
    score = read_score(encode_rows([row]))
    if score.sum is None:
        return
    written = json.loads(kl_line(score, json.dumps(outcome).encode(), divergence(score, ref_sum)))
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
