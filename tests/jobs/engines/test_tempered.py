"""Log-probabilities at a temperature from the likeliest tokens: exact on whole distributions, bounded on parts."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreshock.jobs.engines.tempered import tempered_logprob


def log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max()
    found: np.ndarray = shifted - np.log(np.exp(shifted).sum())
    return found


@given(
    logits=st.lists(st.floats(-12, 12), min_size=3, max_size=40),
    k=st.integers(1, 40),
    temperature=st.sampled_from([0.2, 0.5, 0.7, 1.0, 1.3, 2.5]),
    data=st.data(),
)
def test_the_true_value_lies_within_the_bound(
    logits: list[float], k: int, temperature: float, data: st.DataObject
) -> None:
    raw = np.array(logits)
    at_1, at_tau = log_softmax(raw), log_softmax(raw / temperature)
    token = data.draw(st.integers(0, len(raw) - 1))
    order = list(np.argsort(-at_1, kind="stable"))[:k]
    others = [] if token in order else [float(at_1[token])]
    found = tempered_logprob(float(at_1[token]), [float(at_1[i]) for i in order], others, len(raw), temperature)
    assert abs(found.value - at_tau[token]) <= found.uncertainty + 1e-9
    if len(order) + len(others) == len(raw) or temperature == 1:
        assert found.uncertainty < 1e-9


def test_a_peaked_distribution_is_settled_by_few_tokens() -> None:
    at_1 = log_softmax(np.array([12.0, 10.0, 9.0] + [0.0] * 1000))
    found = tempered_logprob(float(at_1[1]), [float(v) for v in at_1[:3]], [], 1003, 0.7)
    assert found.uncertainty < 1e-3


def test_values_that_are_no_log_probabilities_are_refused() -> None:
    for top in ([3.0, 1.0], [-20.0], []):
        with pytest.raises(ValueError, match="no log-probabilities"):
            tempered_logprob(-1.0, top, [], 100, 0.7)
    with pytest.raises(ValueError, match="not above 0"):
        tempered_logprob(-1.0, [-1.0], [], 100, 0.0)
    assert tempered_logprob(-1.0, [-math.log(2)], [-1.0], 100, 1.0).value == -1.0
