"""Equality of results: djinn's rules, where they do not make an exploit of a right answer."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreshock.jobs.verify import plain
from foreshock.jobs.verify.equality import equal_forms, equal_values


class AlwaysEqual:
    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None


class AlwaysEqualInt(int):
    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None


@pytest.mark.parametrize(
    ("actual", "expected", "equal"),
    [
        (1, 1, True),
        (1.0, 1, True),
        (True, 1, False),
        (1, True, False),
        ([True], [1], True),
        ([1, 2], (1, 2), True),
        ([[1, 2]], [(1, 2)], True),
        ({"a": (1,)}, {"a": [1]}, True),
        (float("nan"), math.nan, True),
        (Fraction(1, 2), 0.5, True),
        (Fraction(3), 3, True),
        (Fraction(1, 3), 1 / 3, False),
        ([Fraction(1, 2)], [0.5], True),
        (Decimal("0.5"), 0.5, True),
        (Decimal("0.1"), 0.1, False),
        (Decimal("2"), 2, True),
        (Decimal("Infinity"), math.inf, True),
        (Decimal("1e999999"), 5, False),
        (Fraction(10**400, 3), Fraction(10**400, 3), True),
        (None, "", True),
        ("", None, False),
        (None, None, True),
        ("1", 1, False),
        ({"a": True}, {"a": 1}, True),
        (AlwaysEqual(), 1, False),
        ([AlwaysEqual()], [1], False),
        (AlwaysEqualInt(3), 4, False),
        (AlwaysEqualInt(3), 3, True),
        (..., ..., False),
        ([...], [...], False),
        (ValueError("x"), ValueError("x"), False),
        (frozenset({1}), {1}, True),
        ([1], {1}, False),
        (b"x", bytearray(b"x"), True),
    ],
)
def test_values(actual: Any, expected: Any, equal: bool) -> None:
    assert equal_values(actual, expected) is equal


@pytest.mark.parametrize(
    ("actual", "expected", "equal"),
    [
        ([2, 1], [1, 2], True),
        ([1, 1, 2], [1, 2], True),  # djinn makes sets of them
        ([1, 3], [1, 2], False),
        ([[2], [1]], [[1], [2]], True),
        ([[1], [1], [2]], [[1], [2]], False),
        ([(2, 1)], [(1, 2)], False),
        ((2, 1), [1, 2], True),
        ({1}, [1], False),
        ([None, 1], [1, None], True),
        ([...], [...], False),
    ],
)
def test_without_order(actual: Any, expected: Any, equal: bool) -> None:
    assert equal_forms(plain.encode(actual), plain.encode(expected), order_dependent=False) is equal


@given(st.fractions())
def test_a_fraction_equals_the_number_of_its_value(value: Fraction) -> None:
    assert equal_values(value, value)
    as_float = float(value)
    assert equal_values(value, as_float) is (Fraction(as_float) == value)
    assert equal_values(Fraction(as_float), as_float)
