"""The call follows the data: one argument, or several, whichever the function takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from foreshock.jobs.verify.calling import call


def one(x: Any) -> Any:
    return ("one", x)


def two(a: Any, b: Any) -> Any:
    return ("two", a, b)


def default(nums: Any, start: int = 0) -> Any:
    return sum(nums, start)


def pairwise(a: int, b: int = 5) -> Any:
    return a * 10 + b


def plus(x: int) -> int:
    return x + 1


def anything(*args: Any) -> Any:
    return args


def nothing() -> str:
    return "called"


def keyword_only(a: Any, *, scale: int = 2) -> Any:
    return (a, scale)


@pytest.mark.parametrize(
    ("function", "given", "result"),
    [
        (one, 5, ("one", 5)),
        (one, (1, 2), ("one", (1, 2))),
        (one, [1, 2], ("one", [1, 2])),
        (two, (1, 2), ("two", 1, 2)),
        (two, [1, 2], ("two", 1, 2)),
        (plus, (1,), 2),
        (plus, [1], 2),
        (default, [1, 2], 3),
        (default, [4, 5, 6], 15),
        (default, ([1, 2], 10), 13),
        (default, [[1, 2], 10], 13),
        (pairwise, (1, 2), 12),
        (pairwise, 3, 35),
        (anything, (1, 2), ((1, 2),)),
        (anything, [1, 2], ([1, 2],)),
        (nothing, None, "called"),
        (nothing, (), "called"),
        (keyword_only, [1], ([1], 2)),
        (keyword_only, (1,), (1, 2)),
        (max, (1, 7), 7),
        (sum, [1, 2], 3),
        (len, "abc", 3),
        (one, {"x": 1}, ("one", {"x": 1})),
        (two, {"a": 1, "b": 2}, ("two", 1, 2)),
    ],
)
def test_a_call(function: Callable[..., Any], given: Any, result: Any) -> None:
    assert call(function, given) == result


def test_arguments_that_a_problem_lists_are_never_guessed() -> None:
    assert call(anything, (1, 2), apart=True) == (1, 2)
    assert call(pairwise, [1, 2]) == 12
    assert call(lambda xs, extra=None: (xs, extra), [1, 2], apart=True) == ([1, 2], None)


def test_an_error_of_the_function_is_its_result() -> None:
    def picky(x: Any) -> None:
        raise ValueError(x)

    with pytest.raises(ValueError, match="5"):
        call(picky, 5)


def test_of_several_type_errors_the_first_is_told() -> None:
    with pytest.raises(TypeError, match=r"missing 1 required positional argument|takes 2 positional"):
        call(two, (1, 2, 3))
