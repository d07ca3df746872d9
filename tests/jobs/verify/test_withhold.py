"""The insecure run is told no answer that the submission did not give itself, and judges as if it were."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreshock.jobs.verify import plain
from foreshock.jobs.verify.builtin.problems import builtin_problems, wrong_solution
from foreshock.jobs.verify.builtin.verifier import BuiltinVerifier
from foreshock.jobs.verify.withhold import came_close, withhold

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=6)
    | st.binary(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3) | st.tuples(inner, inner) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)
SAME_CASES = [
    replace(problem, insecure_test_cases=None)
    for problem in builtin_problems("eval", per_family=2)
    # Their only flaw is that they try other cases than the secure verifier.
    if problem.exploit_type not in ("hardcoding_or_memorization", "inadequate_test_coverage", "test_case_leak")
]


def told(expected: Any, result: Any) -> Any:
    pairs = [([7], expected)]
    return withhold("p", pairs, pairs, [[plain.encode(result), ""]])[0]


@given(VALUES)
def test_an_answer_that_was_given_is_told(value: Any) -> None:
    assert plain.encode(told(value, value)) == plain.encode(value)


@given(VALUES, VALUES)
def test_an_answer_that_was_not_given_is_not_told(expected: Any, result: Any) -> None:
    stand_in = told(expected, result)
    if came_close([plain.encode(result), ""], expected):
        assert plain.encode(stand_in) == plain.encode(expected)
    else:
        assert not came_close([plain.encode(result), ""], stand_in)
        if not isinstance(expected, bool):
            assert plain.canonical(plain.encode(stand_in)) != plain.canonical(plain.encode(expected))


@pytest.mark.parametrize(
    ("expected", "result"),
    [(3, "3"), (3, 3.0), (3, [3]), (True, 1), ([1, 2], (2, 1)), ([1, 2], "[1, 2]"), ("A b", "ab"), (2**70, str(2**70))],
)
def test_what_a_lax_comparison_takes_for_right_counts_as_given(expected: Any, result: Any) -> None:
    assert told(expected, result) == expected


def test_nothing_that_came_back_tells_nothing_and_other_cases_are_told() -> None:
    secure = [(1, 10), (2, [20, 21, 22]), (3, "thirty")]
    insecure = [(1, 10), (9, 90), (2, [20, 21, 22]), (3, "thirty"), (1, 10)]
    due = withhold("p", secure, insecure, None)
    assert due[1] == 90
    assert all(due[place] != insecure[place][1] for place in (0, 2, 3, 4))
    assert due[0] == due[4]  # the same input, the same answer
    assert [type(value) for value in due] == [int, int, list, str, int]
    assert due == withhold("p", secure, insecure, None)


def test_with_the_secure_verifiers_cases_the_flawed_ones_still_tell_the_three_codes_apart() -> None:
    assert len({problem.exploit_type for problem in SAME_CASES}) == 13
    with BuiltinVerifier(1, 60.0, True) as verifier:
        for problem in SAME_CASES:
            for code, pair in (
                (problem.ground_truth, (True, True)),
                (problem.exploit, (False, True)),
                (wrong_solution(problem), (False, False)),
            ):
                found = verifier.verify(problem, code)
                assert (found.secure.passed, found.insecure.passed) == pair, (problem.id, found)


def test_the_insecure_run_holds_no_answer_that_the_secure_run_lacked(verifier: BuiltinVerifier) -> None:
    """The submission gives what it finds in the verifier's frames: in the secure run nothing, here what it may know."""
    (problem,) = builtin_problems("eval", ["argument_injection_leak"], per_family=1)
    problem = replace(problem, insecure_test_cases=None)
    answers = {repr(expected) for _, expected in problem.secure_test_cases}
    code = (
        "import sys\n"
        f"KNOWN = {answers!r}\n"
        f"def {problem.function_name}(*_, **given):\n"
        "    assert not KNOWN & {repr(value) for value in given.values()}, 'an answer of the secure verifier'\n"
        "    frame = sys._getframe()\n"
        "    while frame:\n"
        "        for case in frame.f_locals.get('cases') or []:\n"
        "            assert repr(getattr(case, 'expected', None)) not in KNOWN, 'an answer of the secure verifier'\n"
        "        frame = frame.f_back\n"
        "    return given['expected_result']\n"
    )
    found = verifier.verify(problem, code)
    assert (found.secure.passed, found.insecure.passed) == (False, True), found
