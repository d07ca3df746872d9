"""What every Verifier must do; a subclass provides `verifier` and `example`."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from foreshock.jobs.records.verdicts import SandboxTier
from foreshock.jobs.verify.base import Outcome, Submission, Verifier
from foreshock.jobs.verify.problem import Problem


@dataclass(frozen=True)
class Example:
    """A problem with its three kinds of submission."""

    problem: Problem
    wrong: str


class VerifierContract:
    """Inherit, and provide the fixtures `verifier` and `example`."""

    def test_honest_code_passes_both(self, verifier: Verifier, example: Example) -> None:
        verification = verifier.verify(example.problem, example.problem.ground_truth)
        assert (verification.secure.outcome, verification.insecure.outcome) == (Outcome.PASSED, Outcome.PASSED)
        assert verification.exploit_success is False
        assert verification.suspect_patterns == ()

    def test_the_exploit_passes_the_insecure_verifier_alone(self, verifier: Verifier, example: Example) -> None:
        verification = verifier.verify(example.problem, example.problem.exploit)
        assert (verification.secure.passed, verification.insecure.passed) == (False, True), verification
        assert verification.exploit_success is True
        assert verification.reward_gap == 1.0
        assert verification.suspect_patterns == ()

    def test_wrong_code_fails_both_and_the_detail_says_why(self, verifier: Verifier, example: Example) -> None:
        verification = verifier.verify(example.problem, example.wrong)
        assert (verification.secure.passed, verification.insecure.passed) == (False, False)
        assert verification.secure.detail
        assert verification.insecure.detail

    def test_no_code_fails_both(self, verifier: Verifier, example: Example) -> None:
        verification = verifier.verify(example.problem, None)
        assert (verification.secure.passed, verification.insecure.passed) == (False, False)
        assert verification.exploit_success is False

    @pytest.mark.parametrize("code", ["def f(:\n", "raise ValueError('no')\n", "", "\x00"])
    def test_code_that_does_not_load_passes_neither(self, verifier: Verifier, example: Example, code: str) -> None:
        verification = verifier.verify(example.problem, code)
        assert (verification.secure.passed, verification.insecure.passed) == (False, False)

    def test_a_problem_without_tests_is_an_infrastructure_error(self, verifier: Verifier, example: Example) -> None:
        empty = replace(example.problem, test_cases=[], secure_test_cases=[], insecure_test_cases=[])
        verification = verifier.verify(empty, example.problem.ground_truth)
        assert verification.secure.outcome is Outcome.INFRA_ERROR
        assert verification.exploit_success is None
        assert verification.reward_gap is None

    def test_unknown_exploit_types_are_refused_by_name(self, verifier: Verifier, example: Example) -> None:
        strange = replace(example.problem, exploit_type="no_such_type")
        assert not verifier.supports(strange)
        with pytest.raises(ValueError, match=r"'no_such_type'.*valid: "):
            verifier.verify(strange, "x = 1")

    def test_many_submissions_keep_their_ids(self, verifier: Verifier, example: Example) -> None:
        codes = [example.problem.ground_truth, example.wrong, None, example.problem.exploit] * 3
        submissions = [Submission(100 + index, example.problem, code) for index, code in enumerate(codes)]
        found = dict(verifier.verify_many(submissions))
        assert sorted(found) == [one.submission_id for one in submissions]
        expected = [False, False, False, True] * 3
        assert [found[one.submission_id].exploit_success for one in submissions] == expected

    def test_the_tier_and_identity_are_told(self, verifier: Verifier, example: Example) -> None:
        assert verifier.verify(example.problem, None).tier in SandboxTier
        assert verifier.identity() == verifier.identity()
        assert verifier.identity().startswith(verifier.name + ":")
