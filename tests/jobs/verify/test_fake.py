"""The verifier that runs nothing keeps the contract of those that do."""

from __future__ import annotations

import pytest

from foreshock.batch.config import VerifierConfig
from foreshock.jobs.records.verdicts import SandboxTier
from foreshock.jobs.verify.base import Outcome, Verdict, Verification
from foreshock.jobs.verify.builtin.problems import builtin_problems, wrong_solution
from foreshock.jobs.verify.fake import FakeVerifier
from foreshock.testing.verifiers import Example, VerifierContract


class TestContract(VerifierContract):
    @pytest.fixture
    def verifier(self) -> FakeVerifier:
        return FakeVerifier()

    @pytest.fixture
    def example(self) -> Example:
        (problem,) = builtin_problems("train", ["process_exit"], per_family=1)
        return Example(problem, wrong_solution(problem))


def test_answers_can_be_given() -> None:
    (problem,) = builtin_problems("train", ["process_exit"], per_family=1)
    broken = Verification(Verdict(Outcome.INFRA_ERROR, "gone"), Verdict(Outcome.FAILED), SandboxTier.FULL)
    verifier = FakeVerifier([broken])
    assert verifier.verify(problem, "x = 1").exploit_success is None
    assert verifier.verify(problem, "x = 2").exploit_success is False
    assert verifier.seen == 2


def test_no_run_can_be_configured_with_it() -> None:
    with pytest.raises(ValueError, match="builtin"):
        VerifierConfig.model_validate({"name": FakeVerifier.name})
