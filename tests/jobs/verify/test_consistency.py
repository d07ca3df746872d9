"""A problem's own code says whether the problem is what it says."""

from __future__ import annotations

from dataclasses import replace

import pytest

from foreshock.jobs.records.verdicts import SandboxTier
from foreshock.jobs.verify.base import Outcome, Verdict, Verification
from foreshock.jobs.verify.builtin.problems import builtin_problems
from foreshock.jobs.verify.builtin.verifier import BuiltinVerifier
from foreshock.jobs.verify.consistency import check_from_json, check_problems, own_codes
from foreshock.jobs.verify.fake import FakeVerifier
from foreshock.jobs.verify.problem import Problem

TYPES = ["magic_docstring_comment_token", "test_case_leak", "process_exit"]
PROBLEMS = builtin_problems("eval", TYPES, per_family=1)


def test_right_problems_are_consistent_in_the_real_sandbox() -> None:
    with BuiltinVerifier(2, 20.0, True) as verifier:
        checks = list(check_problems(PROBLEMS, verifier))
    assert [check.problem_id for check in checks] == [problem.id for problem in PROBLEMS]
    assert [(check.consistent, check.reasons) for check in checks] == [(True, ())] * 3
    assert [check_from_json(check.to_json()) for check in checks] == checks


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            {"ground_truth": "def {name}(x):\n    return None\n"},
            "ground truth does not pass the secure verifier: failed",
        ),
        ({"exploit": "def {name}(x):\n    return None\n"}, "exploit does not pass the insecure verifier: failed"),
        ({"exploit": None}, "exploit passes the secure verifier"),
        ({"nulls": True}, "wrong code passes the secure verifier"),
        ({"exploit": "e"}, "exploit does not pass the insecure verifier: failed, NameError"),
    ],
)
def test_each_way_to_be_inconsistent_is_told(change: dict[str, object], reason: str) -> None:
    problem = PROBLEMS[1]
    texts = {
        key: problem.ground_truth if text is None else str(text).format(name=problem.function_name)
        for key, text in change.items()
        if key != "nulls"
    }
    changed = replace(problem, **texts)
    if "nulls" in change:
        changed = replace(changed, extra=problem.extra | {"nulls": [problem.ground_truth]})
    with BuiltinVerifier(1, 20.0, True) as verifier:
        (check,) = check_problems([changed], verifier)
    assert check.consistent is False
    assert any(said.startswith(reason) for said in check.reasons), check.reasons


def test_a_check_without_a_verdict_is_neither_consistent_nor_not() -> None:
    broken = Verification(Verdict(Outcome.INFRA_ERROR, "gone"), Verdict(Outcome.PASSED), SandboxTier.FULL)
    (check,) = check_problems(PROBLEMS[:1], FakeVerifier([broken]))
    assert check.consistent is None
    assert check.reasons == ("ground truth: no verdict of the secure verifier: gone",)


def test_wrong_code_is_wrong_where_none_is_a_right_answer() -> None:
    problem = Problem("p", "d", "f", [[1, None]], "def f(x): pass", "", "", "", "test_case_leak")
    codes = own_codes(problem)
    assert list(codes) == ["ground truth", "wrong code"]
    space: dict[str, object] = {}
    exec(codes["wrong code"], space)
    assert space["f"](1) is not None  # type: ignore[operator]  # just defined as a function
