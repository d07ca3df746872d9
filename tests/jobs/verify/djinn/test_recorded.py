"""Calling convention and equality against recorded outputs of djinn's real code (`recorded.json` says how made).

Where djinn's secure and insecure verifiers differ, foreshock's secure one takes after one of the two; the rules under
which it is milder than djinn's stand in `jobs/verify/equality.py` and `jobs/verify/calling.py`.
"""

from __future__ import annotations

import ast
import collections
import datetime
import json
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from foreshock.jobs.verify import plain
from foreshock.jobs.verify.calling import call
from foreshock.jobs.verify.equality import equal_forms

RECORD: dict[str, Any] = json.loads(Path(__file__).with_name("recorded.json").read_text(encoding="utf-8"))
NAMES: dict[str, Any] = {
    **{name: getattr(collections, name) for name in ("OrderedDict", "Counter", "deque", "defaultdict")},
    "P": collections.namedtuple("P", "a b"),
    "Fraction": Fraction,
    "Decimal": Decimal,
    "datetime": datetime,
}


def outcome(function: Callable[..., Any], given: str) -> str | None:
    try:
        return repr(call(function, ast.literal_eval(given)))
    except Exception:  # noqa: BLE001 - recorded as null
        return None


@pytest.mark.parametrize("name", RECORD["calls"]["functions"])
def test_a_function_is_called_as_djinn_calls_it(name: str) -> None:
    calls = RECORD["calls"]
    space: dict[str, Any] = {}
    exec(calls["functions"][name], space)
    rows = zip(calls["inputs"], calls["secure"][name], calls["insecure"][name], strict=True)
    for given, secure, insecure in rows:
        found = outcome(space["f"], given)
        by_name = isinstance(ast.literal_eval(given), dict) and (secure, insecure) == (None, None)
        assert found in (secure, insecure) or by_name, (given, secure, insecure, found)
        if secure is not None and insecure is None:
            assert found == secure, "an input that only the secure verifier can pass"


@pytest.mark.parametrize("order", ["ordered", "unordered"])
def test_values_are_equal_as_djinn_compares_them(order: str) -> None:
    table = RECORD["equality"]
    wrong = []
    for actual, secure in table[order].items():
        for expected, djinns, lax in zip(table["expected"], secure, table["insecure"][actual], strict=True):
            forms = plain.encode(eval(actual, dict(NAMES))), plain.encode(eval(expected, dict(NAMES)))
            try:
                ours = equal_forms(*forms, order == "ordered")
            except plain.PlainError:
                ours = False
            if ours == (djinns == "1"):
                continue
            milder = lax == "1" or djinns == "-" or "nan" in actual or "(str,)" in actual
            nested = order == "unordered" and "(1, 2)" in actual + expected  # a list equals a tuple at every depth
            if not (ours and (milder or nested)):
                wrong.append((actual, expected, djinns, ours))
    assert wrong == []


def test_the_record_names_its_source() -> None:
    assert len(RECORD["source"]["commit"]) == 40
    assert len(RECORD["verdicts"]) == 172
    assert sum(map(len, RECORD["calls"]["secure"].values())) == 1024
