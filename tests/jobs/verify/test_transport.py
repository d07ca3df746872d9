"""Values keep their meaning across the sandbox's border: no correct function is judged wrong by transport."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from foreshock.jobs.verify import plain
from foreshock.jobs.verify.builtin.family import TestCase
from foreshock.jobs.verify.builtin.verifier import BuiltinVerifier, run_secure
from foreshock.jobs.verify.judge import judge_secure

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=-(1 << 200), max_value=1 << 200)
    | st.floats()
    | st.complex_numbers(allow_nan=False)
    | st.binary(max_size=20)
    | st.text(st.characters(), max_size=20)
    | st.text(st.characters(categories=["Cs"]), max_size=3)
)
KEYS = (
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.binary(max_size=5) | st.floats(allow_nan=False)
)
HASHABLE = st.recursive(KEYS, lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3), max_leaves=5)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.sets(HASHABLE, max_size=4)
        | st.frozensets(HASHABLE, max_size=4)
        | st.dictionaries(HASHABLE, inner, max_size=4)
    ),
    max_leaves=12,
)


def same(left: Any, right: Any) -> bool:
    """Equality of values and exact types, nan equal to nan; written apart from the code under test."""
    if type(left) is not type(right):
        return False
    if isinstance(left, float):
        return left == right or (math.isnan(left) and math.isnan(right))
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict):
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    return bool(left == right)


@given(VALUES)
def test_encoding_is_undone_by_decoding(value: Any) -> None:
    assert same(plain.decode(plain.encode(value)), value)


@given(VALUES)
def test_a_value_is_equal_to_itself_whatever_its_form(value: Any) -> None:
    assert plain.canonical(plain.encode(value)) == plain.canonical(plain.encode(plain.decode(plain.encode(value))))


@given(VALUES, VALUES)
def test_canonical_texts_are_equal_only_for_equal_values(left: Any, right: Any) -> None:
    def comparable(value: Any) -> Any:
        if isinstance(value, list | tuple):
            return [comparable(item) for item in value]
        if isinstance(value, dict):
            return {key: comparable(item) for key, item in value.items()}
        return "nan" if isinstance(value, float) and math.isnan(value) else value

    if plain.canonical(plain.encode(left)) == plain.canonical(plain.encode(right)):
        assert comparable(left) == comparable(right)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=VALUES)
def test_a_correct_function_passes_whatever_it_takes_and_returns(verifier: BuiltinVerifier, value: Any) -> None:
    cases = [TestCase((value,), value), TestCase(([value, {"k": value}],), [value, {"k": value}])]
    worker = verifier._pool._all[0]
    run = run_secure(worker, "f", "def f(x):\n    return x\n", cases)
    verdict = judge_secure(run, cases, True, 10.0)
    assert verdict.passed, verdict.detail


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=st.lists(st.integers() | st.text(max_size=4), max_size=6).filter(lambda items: len(items) > 1))
def test_order_is_free_only_where_the_problem_says_so(verifier: BuiltinVerifier, value: list[Any]) -> None:
    cases = [TestCase((value,), value)]
    worker = verifier._pool._all[0]
    run = run_secure(worker, "f", "def f(x):\n    return x[::-1]\n", cases)
    assert judge_secure(run, cases, False, 10.0).passed
    assert judge_secure(run, cases, True, 10.0).passed is (value == value[::-1])


@pytest.mark.parametrize(
    ("returned", "expected", "equal"),
    [
        ("(1, 2)", [1, 2], True),
        ("[(1, 2), (3,)]", [[1, 2], [3]], True),
        ("{1: (2, 3)}", {1: [2, 3]}, True),
        ("{1}", frozenset({1}), True),
        ("1.0", 1, True),
        ("10**400", 10**400, True),
        ("float('nan')", math.nan, True),
        ("[float('inf')]", [math.inf], True),
        ("__import__('collections').Counter('ab')", {"a": 1, "b": 1}, True),
        ("__import__('collections').namedtuple('P', 'x y')(1, 2)", (1, 2), True),
        ("__import__('enum').IntEnum('E', 'A').A", 1, True),
        ("bytearray(b'x')", b"x", True),
        ("True", 1, False),
        ("1", True, False),
        ("'1'", 1, False),
        ("[1]", {1}, False),
        ("{'1': 2}", {1: 2}, False),
        ("None", "", True),
        ("''", None, False),
        ("b'a'", "a", False),
        ("range(2)", [0, 1], False),
        ("object()", None, False),
        ("ValueError('x')", None, False),
    ],
)
def test_equality_is_by_value_as_the_problems_mean_it(
    verifier: BuiltinVerifier, returned: str, expected: Any, equal: bool
) -> None:
    cases = [TestCase((0,), expected)]
    run = run_secure(verifier._pool._all[0], "f", f"def f(x):\n    return {returned}\n", cases)
    assert judge_secure(run, cases, True, 10.0).passed is equal


def test_an_exception_is_told_apart_from_a_value(verifier: BuiltinVerifier) -> None:
    cases = [TestCase((0,), 1)]
    run = run_secure(verifier._pool._all[0], "f", "def f(x):\n    return 1 // x\n", cases)
    verdict = judge_secure(run, cases, True, 10.0)
    assert verdict.detail == "test 1 of 1: expected 1, raised ZeroDivisionError(integer division or modulo by zero)"


def test_printing_never_breaks_a_verdict_and_counts_when_nothing_is_returned(verifier: BuiltinVerifier) -> None:
    worker = verifier._pool._all[0]
    for code, passed in (
        ("def f(x):\n    print('noise')\n    return 5\n", True),
        ("def f(x):\n    print(5)\n", True),
        ("def f(x):\n    print(6)\n", False),
        ("print('x' * 10**6)\ndef f(x):\n    return 5\n", True),
    ):
        cases = [TestCase((0,), 5)]
        assert judge_secure(run_secure(worker, "f", code, cases), cases, True, 10.0).passed is passed


@pytest.mark.parametrize(
    "code",
    [
        "def f(a, b):\n    return a + b\n",
        "def f(pair):\n    return pair[0] + pair[1]\n",
        "def f(*args):\n    return sum(args)\n",
        "def f(a, b=0, *, c=1):\n    return a + b\n",
        "f = lambda a, b: a + b\n",
        "class F:\n    def __call__(self, a, b):\n        return a + b\nf = F()\n",
        "def f(a: int, b: Optional[int]) -> List[int]:\n    return a + b\n",
    ],
)
def test_a_function_may_take_its_arguments_in_any_usual_way(verifier: BuiltinVerifier, code: str) -> None:
    cases = [TestCase((1, 2), 3)]
    assert judge_secure(run_secure(verifier._pool._all[0], "f", code, cases), cases, True, 10.0).passed


def test_what_a_function_does_to_its_arguments_does_not_reach_the_judge(verifier: BuiltinVerifier) -> None:
    cases = [TestCase(([1, 2],), 3), TestCase(([1, 2],), 3)]
    code = "def f(x):\n    total = sum(x)\n    x.clear()\n    return total\n"
    assert judge_secure(run_secure(verifier._pool._all[0], "f", code, cases), cases, True, 10.0).passed
    assert cases[0].args == ([1, 2],)


def test_random_numbers_and_set_order_are_the_same_in_every_run(verifier: BuiltinVerifier) -> None:
    code = "import random\ndef f(x):\n    return [random.random(), list({'a', 'b', 'c', 'd', 'e', 'f'})]\n"
    cases = [TestCase((0,), None)]
    details = {
        judge_secure(run_secure(verifier._pool._all[0], "f", code, cases), cases, True, 10.0).detail for _ in range(3)
    }
    assert len(details) == 1
