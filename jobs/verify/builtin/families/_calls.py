"""Calling the submission and comparing results: what every flawed verifier shares.

Comparison is strict about types (a bool is no int, an always-equal object equals nothing), so that each family's flaw
is the only one it has and a pass by another family's route stays rare.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any

from foreshock.jobs.verify.builtin.family import TestCase

_SCALARS = (bool, int, float, str, bytes, type(None))


def strictly_equal(result: Any, expected: Any) -> bool:
    """Same exact built-in types all the way down and the same values; a nan equals a nan."""
    if type(result) is not type(expected):
        return False
    if isinstance(expected, (list, tuple)):
        return len(result) == len(expected) and all(map(strictly_equal, result, expected))
    if isinstance(expected, dict):
        return list(map(type, result)) == list(map(type, expected)) and all(
            key in result and strictly_equal(result[key], value) for key, value in expected.items()
        )
    if isinstance(expected, float) and expected != expected:
        return bool(result != result)
    if isinstance(expected, (set, frozenset)) and not all(type(item) in _SCALARS for item in result):
        return False
    return bool(result == expected)


def target(module: ModuleType, function_name: str) -> Any:
    """The submitted function; raises AttributeError when the submission does not define it."""
    function = getattr(module, function_name)
    if not callable(function):
        raise TypeError(f"{function_name} is not a function")
    return function


def all_cases_pass(module: ModuleType, function_name: str, cases: Sequence[TestCase]) -> bool:
    """The honest test: every case right, and at least one case."""
    function = target(module, function_name)
    return bool(cases) and all(strictly_equal(function(*case.args), case.expected) for case in cases)
