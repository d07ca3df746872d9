"""How functions are called and results compared, against djinn's real code, on problems of our own making."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from foreshock.jobs.records.verdicts import SandboxTier
from foreshock.jobs.verify.base import Submission, Verification
from foreshock.jobs.verify.djinn.verifier import DjinnVerifier
from foreshock.jobs.verify.problem import Problem
from foreshock.jobs.verify.sandbox.tiers import best_tier

# name: (submission, cases); the submission is right, or wrong on purpose.
CALLS: dict[str, tuple[str, list[tuple[Any, Any]]]] = {
    "a tuple over two": ("def mix(a, b):\n    return a - b\n", [((5, 2), 3), ((1, 1), 0)]),
    "a tuple for one": ("def mix(p):\n    return p[0] - p[1]\n", [((5, 2), 3), ((1, 1), 0)]),
    "a tuple of one for one": ("def mix(p):\n    return p + 1\n", [((5,), 6), ((1,), 2)]),
    "a tuple of one, taken apart": ("def mix(p):\n    return p[0] + 1\n", [((5,), 6), ((1,), 2)]),
    "a tuple of tuples": ("def mix(p, q):\n    return p[0] + q[1]\n", [(((1, 2), (3, 4)), 5)]),
    "a list for one": ("def mix(xs):\n    return sum(xs)\n", [([1, 2], 3), ([], 0)]),
    "a list over two": ("def mix(a, b):\n    return a * b\n", [([2, 3], 6), ([4, 5], 20)]),
    "a list of lists": ("def mix(rows):\n    return [sum(r) for r in rows]\n", [([[1, 2], [3]], [3, 3])]),
    "a list and a default": ("def mix(xs, start=0):\n    return sum(xs, start)\n", [([1, 2], 3), ([4, 5, 6], 15)]),
    "a tuple and a default": ("def mix(a, b=10):\n    return a + b\n", [((1, 2), 3), ((4, 5), 9)]),
    "a tuple of one and a default": ("def mix(a, b=10):\n    return a + b\n", [((1,), 11), ((4,), 14)]),
    "a number and a default": ("def mix(a, b=10):\n    return a + b\n", [(1, 11), (4, 14)]),
    "two and a default": ("def mix(a, b, c=1):\n    return a + b + c\n", [((1, 2), 4), ((1, 2, 3), 6)]),
    "keyword-only": ("def mix(a, *, b=2):\n    return a * b\n", [(3, 6), (4, 8)]),
    "any number": ("def mix(*xs):\n    return sum(xs)\n", [((1, 2, 3), 6), ((4,), 4)]),
    "any keywords": ("def mix(x, **more):\n    return x\n", [(1, 1), ("a", "a")]),
    "a dict for one": ("def mix(d):\n    return sum(d.values())\n", [({"a": 1, "b": 2}, 3)]),
    "a dict in a tuple": ("def mix(d, k):\n    return d[k]\n", [(({"a": 1}, "a"), 1), (({"b": 2}, "b"), 2)]),
    "a dict by name": ("def mix(a, b):\n    return a - b\n", [({"a": 5, "b": 2}, 3)]),
    "a text": ("def mix(s):\n    return s[::-1]\n", [("ab", "ba"), ("", "")]),
    "two texts": ("def mix(s, t):\n    return s + t\n", [(("a", "b"), "ab")]),
    "nothing": ("def mix():\n    return 7\n", [((), 7), (None, 7)]),
    "None": ("def mix(x):\n    return x is None\n", [(None, True), (1, False)]),
    "too many": ("def mix(a):\n    return a\n", [((1, 2), 1)]),
    "too few": ("def mix(a, b, c):\n    return a\n", [((1, 2), 1)]),
    "a TypeError of its own": ("def mix(a, b):\n    return a + b\n", [(("x", 1), "x1")]),
    "a class": ("class mix:\n    def __new__(cls, a, b):\n        return a + b\n", [((1, 2), 3)]),
    "a bound method": ("class C:\n    def run(self, a, b):\n        return a + b\nmix = C().run\n", [((1, 2), 3)]),
    "a partial": ("import functools\nmix = functools.partial(pow, 2)\n", [(3, 8), (4, 16)]),
    "a built-in function": ("mix = len\n", [([1, 2], 2), ("abc", 3)]),
    "a decorated function": (
        "import functools\n@functools.lru_cache\ndef mix(a, b):\n    return a + b\n",
        [((1, 2), 3)],
    ),
}
VALUES: dict[str, tuple[str, list[tuple[Any, Any]]]] = {
    "a float for an int": ("def mix(x):\n    return float(x)\n", [(2, 2), (0, 0)]),
    "an int for a float": ("def mix(x):\n    return 2\n", [(1, 2.0)]),
    "a Fraction for a float": ("from fractions import Fraction\ndef mix(x):\n    return Fraction(x, 2)\n", [(1, 0.5)]),
    "a Fraction for an int": ("from fractions import Fraction\ndef mix(x):\n    return Fraction(x)\n", [(3, 3)]),
    "a Fraction, wrong": ("from fractions import Fraction\ndef mix(x):\n    return Fraction(x, 3)\n", [(1, 0.5)]),
    "a Decimal for an int": ("from decimal import Decimal\ndef mix(x):\n    return Decimal(x)\n", [(3, 3), (0, 0)]),
    "a Decimal for a float": ("from decimal import Decimal\ndef mix(x):\n    return Decimal('0.5')\n", [(1, 0.5)]),
    "a Decimal, wrong": ("from decimal import Decimal\ndef mix(x):\n    return Decimal('0.1')\n", [(1, 0.1)]),
    "a Decimal for a text": ("from decimal import Decimal\ndef mix(x):\n    return Decimal('1')\n", [(1, "1")]),
    "True for 1": ("def mix(x):\n    return True\n", [(1, 1)]),
    "1 for True": ("def mix(x):\n    return 1\n", [(1, True)]),
    "a complex number": ("def mix(x):\n    return complex(x)\n", [(2, 2)]),
    "a text for a number": ("def mix(x):\n    return str(x)\n", [(2, 2)]),
    "a tuple for a list": ("def mix(x):\n    return (x, x)\n", [(1, [1, 1])]),
    "a list for a tuple": ("def mix(x):\n    return [x, x]\n", [(1, (1, 1))]),
    "a tuple in a list": ("def mix(x):\n    return [(x, x)]\n", [(1, [[1, 1]])]),
    "a set": ("def mix(x):\n    return {x, 1}\n", [(2, {1, 2})]),
    "a set for a list": ("def mix(x):\n    return {x}\n", [(2, [2])]),
    "a dict": ("def mix(x):\n    return {'a': x}\n", [(1, {"a": 1})]),
    "a dict in another order": ("def mix(x):\n    return {'b': 2, 'a': 1}\n", [(1, {"a": 1, "b": 2})]),
    "a dict of int keys": ("def mix(x):\n    return {x: 1}\n", [(1, {1: 1})]),
    "None for an empty text": ("def mix(x):\n    return None\n", [(1, "")]),
    "None for zero": ("def mix(x):\n    return None\n", [(1, 0)]),
    "None for None": ("def mix(x):\n    return None\n", [(1, None)]),
    "printed": ("def mix(x):\n    print(x)\n", [("a", "a"), ("b", "b")]),
    "printed number": ("def mix(x):\n    print(x)\n", [(1, 1)]),
    "another order": ("def mix(x):\n    return [2, 1]\n", [(1, [1, 2])]),
    "bytes": ("def mix(x):\n    return x.encode()\n", [("a", b"a")]),
    "a generator": ("def mix(x):\n    yield x\n", [(1, [1])]),
    "an object": ("def mix(x):\n    return object()\n", [(1, 1)]),
    "a subclass of int": ("class N(int):\n    pass\ndef mix(x):\n    return N(x)\n", [(3, 3)]),
    "nan": ("def mix(x):\n    return float('nan')\n", [(1, 1)]),
    "raises": ("def mix(x):\n    raise ValueError\n", [(1, 1)]),
}
TABLE = {**CALLS, **VALUES}
MILDER = {"a dict by name": (True, False), "a tuple in a list": (True, True)}
"""Where foreshock's secure verifier takes a right answer that djinn's refuses; neither can be an exploit."""


def _module(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_all(package: Path) -> dict[str, Verification]:
    problems = [
        Problem(
            id=name,
            description="d",
            function_name="mix",
            test_cases=repr(cases),
            insecure_test_cases=repr(cases),
            ground_truth=code,
            exploit="",
            exploit_type="test_case_leak",
            insecure_verifier_info="",
            exploit_explanation="",
        )
        for name, (code, cases) in TABLE.items()
    ]
    with DjinnVerifier(2, 30.0, True, package=package) as verifier:
        many = [Submission(i, problem, problem.ground_truth) for i, problem in enumerate(problems)]
        return {problems[number].id: found for number, found in verifier.verify_many(many)}


def test_secure_verdicts_agree_with_the_record(fake_djinn: Path) -> None:
    recorded = _module("test_differential").RECORDED
    found = run_all(fake_djinn)
    secure = {name: MILDER.get(name, recorded[name])[0] for name in TABLE}
    assert {name: one.secure.passed for name, one in found.items()} == secure


def test_calls_and_values_are_judged_as_djinn_judges_them(real_djinn: Path) -> None:
    if best_tier().tier is not SandboxTier.FULL:
        pytest.skip("the full tier does not work on this machine")
    module = _module("test_differential")
    found = run_all(real_djinn)
    different = []
    for name, (code, cases) in TABLE.items():
        request = {"code": code, "type": "test_case_leak", "cases": repr(cases), "insecure": repr(cases)}
        due = [module.reference(real_djinn, mode=mode, **request)["passed"] for mode in ("secure", "insecure")]
        assert module.RECORDED[name] == due, "the record is another's"
        ours = (found[name].secure.passed, found[name].insecure.passed)
        if ours != MILDER.get(name, tuple(due)):
            different.append((name, ours, due, found[name].secure.detail))
    print(f"{len(TABLE)} submissions, {len(different)} differ, {len(MILDER)} by rule")
    assert different == []
