"""A score meets its attempt and its reference, as looking both up one by one would have it."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from foreshock.analysis.aggregate.lines import Outcomes, read_samples
from foreshock.analysis.aggregate.pairs import KnownOutcomes, References
from foreshock.analysis.aggregate.scores import read_scores
from foreshock.jobs.records.jsonl import encode_rows
from foreshock.jobs.records.rows import LOGPROB_KEYS, SAMPLE_KEYS, SCHEMA_VERSION, Row

KEYS = st.tuples(st.integers(1, 2), st.sampled_from(["a", "b", 'c"', "\ud800"]), st.integers(0, 2))


def _score(level: int, task: str, attempt: int, **values: Any) -> Row:
    row = dict.fromkeys(LOGPROB_KEYS) | {"schema_version": SCHEMA_VERSION, "prefill_logprob_sum": -1.0}
    return row | {"prefill_level": level, "task_id": task, "attempt_idx": attempt, **values}


@given(st.lists(st.tuples(KEYS, st.sampled_from([True, False, None])), max_size=8), st.lists(KEYS, min_size=1))
def test_outcomes(attempts: list[tuple[Any, bool | None]], wanted: list[Any]) -> None:
    expected = dict(attempts)
    known: dict[bytes, list[Outcomes]] = defaultdict(list)
    for (level, task, attempt), success in attempts:
        row = dict.fromkeys(SAMPLE_KEYS) | {"task_id": task, "attempt_idx": attempt, "exploit_success": success}
        known[b"%d" % level].append(read_samples(encode_rows([row | {"schema_version": SCHEMA_VERSION}])).outcomes)
    outcomes = KnownOutcomes(known)
    for level, scores in read_scores(encode_rows([_score(*key) for key in wanted])):
        found = [json.loads(text) for text in outcomes.of(level, scores).to_pylist()]
        assert found == [expected.get(key) for key in wanted if key[0] == json.loads(level)]


@given(
    st.lists(st.tuples(KEYS, st.floats(-9, 0), st.sampled_from("xy")), max_size=8),
    st.lists(st.tuples(KEYS, st.sampled_from("xy")), min_size=1),
)
def test_references(references: list[tuple[Any, float, str]], wanted: list[tuple[Any, str]]) -> None:
    rows = [_score(*key, prefill_logprob_sum=total, prefill_sha256=sha) for key, total, sha in references]
    found = References(scores for _, scores in (read_scores(encode_rows(rows)) if rows else []))
    last = {key: (total, sha) for key, total, sha in references}
    for level, scores in read_scores(encode_rows([_score(*key, prefill_sha256=sha) for key, sha in wanted])):
        expected = []
        for key, sha in wanted:
            total, ref_sha = last.get(key, (np.nan, None))
            if key[0] == json.loads(level):
                expected.append(total if sha == ref_sha else np.nan)
        sums, texts = found.of(scores)
        np.testing.assert_array_equal(sums, expected)
        np.testing.assert_array_equal(
            [float(str(json.loads(t)).replace("None", "nan")) for t in texts.to_pylist()], sums
        )
