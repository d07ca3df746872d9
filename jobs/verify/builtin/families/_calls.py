"""Calling the submission and comparing results: what every flawed verifier shares.

Both are the secure verifier's own, so that each family's flaw is the only thing that tells its two verdicts apart: an
always-equal object equals nothing, and a bool is not a number.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from types import ModuleType
from typing import Any

from foreshock.jobs.verify.builtin.family import TestCase
from foreshock.jobs.verify.calling import call, given_of
from foreshock.jobs.verify.equality import equal_values


def target(module: ModuleType, function_name: str) -> Any:
    """The submitted function; raises AttributeError when the submission does not define it."""
    function = getattr(module, function_name)
    if not callable(function):
        raise TypeError(f"{function_name} is not a function")
    return function


def call_case(function: Any, case: TestCase, **extra: Any) -> Any:
    """The function's result for a case; `extra` keywords are added to every way of calling it."""
    return call(partial(function, **extra) if extra else function, given_of(case.args), apart=True)


def all_cases_pass(module: ModuleType, function_name: str, cases: Sequence[TestCase]) -> bool:
    """The honest test: every case right, and at least one case."""
    function = target(module, function_name)
    return bool(cases) and all(equal_values(call_case(function, case), case.expected) for case in cases)
