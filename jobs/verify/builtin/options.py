"""What a problem's `family_options` tell its weak verifier, with defaults filled in."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from foreshock.errors import InputError
from foreshock.jobs.verify.builtin.family import LEAKED, Family, TestCase
from foreshock.jobs.verify.problem import Problem

KEY = "family_options"


def default_options(family: Family, insecure: Sequence[TestCase]) -> dict[str, Any]:
    """The options of a problem that gives none; `insecure` are its weak verifier's cases."""
    return {key: case_pairs(insecure) if key == LEAKED else default for key, default in family.options.items()}


def family_options(problem: Problem, family: Family, insecure: Sequence[TestCase]) -> dict[str, Any]:
    """The problem's own options over the defaults. Null is not given: parquet fills the keys of other rows with it.

    Raises InputError for what the family would not read, which would leave another weakness than the one meant.
    """
    given = problem.extra.get(KEY)
    if isinstance(given, str):
        try:
            given = json.loads(given)
        except ValueError:
            raise InputError(f"{KEY} is text that is not JSON: {given[:80]!r}") from None
    if given is not None and not isinstance(given, dict):
        raise InputError(f"{KEY} is {type(given).__name__}, must be an object")
    given = {key: value for key, value in (given or {}).items() if value is not None}
    valid = ", ".join(family.options) or "none"
    for key, value in given.items():
        if key not in family.options:
            raise InputError(f"{KEY}: {family.name} has no option {key!r}; valid: {valid}")
        if key != LEAKED and not (isinstance(value, str) and value):
            raise InputError(f"{KEY}: {key} is {json.dumps(value, default=repr)[:80]}, must be a text")
        if key == LEAKED and not _are_pairs(value):
            raise InputError(f"{KEY}: {key} must be a list of [arguments, expected]")
    return default_options(family, insecure) | given


def weakness(problem: Problem, family: Family, insecure: Sequence[TestCase]) -> str:
    """What the problem's weak verifier passes, in a sentence."""
    cases = "the calls of its insecure_test_cases"
    words = defaultdict(lambda: cases, family_options(problem, family, insecure), function_name=problem.function_name)
    return family.weakness.format_map(words)


def case_pairs(cases: Sequence[TestCase]) -> list[list[Any]]:
    """[[arguments, expected], ...] in plain JSON data."""
    return [[list(case.args), case.expected] for case in cases]


def _are_pairs(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(one, list | tuple) and len(one) == 2 for one in value)
