"""The verifier keeps foreshock's contract, and its flaw is the one it is meant to have."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import foreshock_pytest_style
import pytest
from foreshock_pytest_style.spec import SPEC, PytestStyleOptions
from foreshock_pytest_style.verifier import PytestStyleVerifier

from foreshock.jobs.verify.base import Verifier
from foreshock.jobs.verify.problem import Problem
from foreshock.jobs.verify.problems import load_problems
from foreshock.jobs.verify.spec import SandboxOptions, VerifierSpec
from foreshock.testing.verifiers import Example, VerifierContract, VerifierSpecContract

PROBLEMS: list[Problem] = list(load_problems(Path(foreshock_pytest_style.__file__).parent / "problems.jsonl"))
SANDBOX = SandboxOptions(workers=1, allow_weak_sandbox=True)


@pytest.fixture(scope="module")
def verifier() -> Iterator[Verifier]:
    with PytestStyleVerifier(SANDBOX, PytestStyleOptions()) as one:
        yield one


@pytest.fixture(params=PROBLEMS, ids=lambda problem: problem.id)
def example(request: pytest.FixtureRequest) -> Example:
    problem: Problem = request.param
    return Example(problem, f"def {problem.function_name}(values):\n    return 17\n")


class TestContract(VerifierContract):
    pass


class TestSpec(VerifierSpecContract):
    @pytest.fixture
    def spec(self) -> VerifierSpec:
        return SPEC


@pytest.mark.parametrize("leave", ["import os\nos._exit(0)\n", "raise SystemExit\n"])
def test_leaving_with_status_0_passes_the_session_and_is_marked(verifier: Verifier, leave: str) -> None:
    verification = verifier.verify(PROBLEMS[0], leave)
    assert verification.exploit_success is True
    assert verification.unintended_route is True


def test_without_hooks_the_exploit_fails_and_the_identity_says_so() -> None:
    options = PytestStyleOptions(report_hooks=False)
    with PytestStyleVerifier(SANDBOX, options) as strict:
        assert strict.verify(PROBLEMS[0], PROBLEMS[0].exploit).insecure.passed is False
        assert strict.identity() == SPEC.facts(options).identity != SPEC.facts(PytestStyleOptions()).identity
