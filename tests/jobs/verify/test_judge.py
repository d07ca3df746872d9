"""The judge on what a hostile process may send."""

from __future__ import annotations

import json
import random
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreshock.jobs.verify.base import Outcome
from foreshock.jobs.verify.builtin.family import TestCase
from foreshock.jobs.verify.judge import judge_insecure, judge_secure, says_intended
from foreshock.jobs.verify.sandbox.watch import Ending
from foreshock.jobs.verify.sandbox.worker import Run
from foreshock.jobs.verify.withhold import came_close

CASES = [TestCase((1,), 2), TestCase((2,), [3])]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.sampled_from("01f"),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.builds(lambda tag, rest: [tag, *rest], st.sampled_from("ifqcbBltszdox"), st.lists(inner, max_size=3))
        | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=10,
)
"""What a hostile process may send, with forms of values that are nearly or quite as the runner writes them."""


def result(message: Any) -> Run:
    return Run(Ending.RESULT, json.dumps(message).encode())


def test_the_right_values_pass() -> None:
    assert judge_secure(result({"results": [[2, ""], [["l", [3]], ""]]}), CASES, True, 1.0).outcome is Outcome.PASSED


@pytest.mark.parametrize("results", [[], [[2, ""]], [[2, ""], [["l", [3]], ""], [2, ""]]])
def test_as_many_results_as_tests_are_due(results: list[Any]) -> None:
    verdict = judge_secure(result({"results": results}), CASES, True, 1.0)
    assert verdict.outcome is Outcome.CRASHED
    assert verdict.detail == "2 results were due, something else came"


def test_no_tests_is_an_infrastructure_error() -> None:
    assert judge_secure(result({"results": []}), [], True, 1.0).outcome is Outcome.INFRA_ERROR


@given(st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
def test_no_bytes_make_a_pass_or_break_the_judge(payload: bytes) -> None:
    assert judge_secure(Run(Ending.RESULT, payload), CASES, True, 1.0).passed is False


@given(JSON, JSON)
def test_no_forged_values_make_a_pass_or_break_the_judge(first: Any, second: Any) -> None:
    cases = [TestCase((1,), "a value nobody sends 9f2c"), TestCase((1,), 4)]
    assert judge_secure(result({"results": [[first, second], [second, first]]}), cases, True, 1.0).passed is False


@given(JSON, JSON)
def test_no_forged_value_breaks_what_the_insecure_run_is_told(value: Any, text: Any) -> None:
    assert came_close([value, text, text], "a value nobody sends 9f2c") is False


@pytest.mark.parametrize(
    "form",
    [
        ["q", random.Random(1).randbytes(1 << 19).hex(), random.Random(2).randbytes(1 << 19).hex()],
        ["s", [["i", format(i * ((1 << 61) - 1), "x")] for i in range(1, 20_000)]],
        ["d", [[["i", format(i * ((1 << 61) - 1), "x")], 1] for i in range(1, 20_000)]],
    ],
    ids=["a fraction of a million digits", "a set of keys that collide", "a dict of keys that collide"],
)
def test_no_forged_value_holds_the_judge_up(form: Any) -> None:
    """Reducing that fraction takes a minute, making that set tens of seconds; judging takes a few hundredths."""
    cases = [TestCase((1,), list(range(20_000)))]
    started = time.process_time()
    assert judge_secure(result({"results": [[form, ""]]}), cases, True, 1.0).outcome is Outcome.FAILED
    assert time.process_time() - started < 3.0


@given(JSON)
def test_an_insecure_answer_passes_only_by_saying_so(message: Any) -> None:
    verdict = judge_insecure(result(message), 1.0, exit_zero_passes=False)
    says_so = (
        isinstance(message, dict)
        and message.get("fatal") is None
        and (message.get("outcome", "passed" if message.get("passed") is True else "failed") == "passed")
    )
    assert verdict.passed is says_so


@pytest.mark.parametrize(
    ("run", "outcome", "detail"),
    [
        (Run(Ending.TIMED_OUT), Outcome.TIMED_OUT, "no result within 1.5 s"),
        (
            Run(Ending.NO_RESULT, exit_code=3),
            Outcome.CRASHED,
            "the process ended with status 3 before it gave a result",
        ),
        (
            Run(Ending.NO_RESULT),
            Outcome.CRASHED,
            "the process closed its channel before it gave a result, and lived on",
        ),
        (Run(Ending.NO_RESULT, exit_code=-11), Outcome.CRASHED, "the process was killed by signal 11 before it gave"),
    ],
)
def test_every_ending_has_its_verdict(run: Run, outcome: Outcome, detail: str) -> None:
    for verdict in (judge_secure(run, CASES, True, 1.5), judge_insecure(run, 1.5, exit_zero_passes=True)):
        assert verdict.outcome is outcome
        assert verdict.detail is not None
        assert verdict.detail.startswith(detail)


def test_an_answer_longer_than_any_that_could_be_right_is_not_read() -> None:
    assert judge_secure(Run(Ending.OVERSIZED), CASES, True, 1.5).outcome is Outcome.FAILED
    assert judge_insecure(Run(Ending.OVERSIZED), 1.5, exit_zero_passes=True).outcome is Outcome.CRASHED


def test_far_too_large_results_fail_without_being_read() -> None:
    verdict = judge_secure(result({"results": [["l", [1] * 200_000]] * 2}), CASES, True, 1.0)
    assert verdict.outcome is Outcome.FAILED
    assert verdict.detail == "the results are far larger than any that could be right"


@pytest.mark.parametrize(
    ("run", "intended"),
    [
        (result({"intended": True}), True),
        (result({"intended": False}), False),
        (result({"intended": "yes"}), False),
        (result({"fatal": "x", "intended": True}), False),
        (Run(Ending.TIMED_OUT), False),
        (Run(Ending.NO_RESULT, exit_code=-11), False),
    ],
)
def test_only_a_clear_yes_is_an_intended_route(run: Run, intended: bool) -> None:
    assert says_intended(run) is intended
