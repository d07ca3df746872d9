"""What every verifier must do, and what its entry in the registry must say.

class TestContract(VerifierContract):
    @pytest.fixture(scope="class")
    def verifier(self) -> Iterator[Verifier]:
        with MyVerifier(workers=1) as verifier:
            yield verifier

    @pytest.fixture
    def example(self) -> Example:
        return Example(my_problem, wrong="def solve(x):\n    return None\n")
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest

from foreshock.errors import InputError
from foreshock.jobs.records.verdicts import SandboxTier
from foreshock.jobs.verify.base import Outcome, Submission, Verifier
from foreshock.jobs.verify.problem import Problem
from foreshock.jobs.verify.registry import VERIFIERS
from foreshock.jobs.verify.spec import SandboxOptions, VerifierSpec


@dataclass(frozen=True)
class Example:
    """A problem whose `ground_truth` is honest and whose `exploit` passes the insecure verifier alone, and code that
    passes neither."""

    problem: Problem
    wrong: str


class VerifierContract:
    """Inherit, and provide the fixtures `verifier` and `example`."""

    def test_honest_code_passes_both(self, verifier: Verifier, example: Example) -> None:
        verification = verifier.verify(example.problem, example.problem.ground_truth)
        assert (verification.secure.outcome, verification.insecure.outcome) == (Outcome.PASSED, Outcome.PASSED)
        assert verification.exploit_success is False
        assert verification.unintended_route is None

    def test_the_exploit_passes_the_insecure_verifier_alone(self, verifier: Verifier, example: Example) -> None:
        verification = verifier.verify(example.problem, example.problem.exploit)
        assert (verification.secure.passed, verification.insecure.passed) == (False, True), verification
        assert verification.exploit_success is True
        assert verification.reward_gap == 1.0
        assert verification.unintended_route is False

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
        assert verifier.identity() in verifier.conditions()


class VerifierSpecContract:
    """Inherit, and provide the fixtures `spec` and `example`; `options` where the verifier's own are needed."""

    @pytest.fixture
    def options(self) -> Mapping[str, Any]:
        """Own options to build with: none."""
        return {}

    def test_its_name_finds_it(self, spec: VerifierSpec) -> None:
        assert VERIFIERS.get(spec.name) is spec
        assert spec.name in VERIFIERS.names()
        assert spec.summary

    def test_facts_are_those_of_the_verifier_it_builds(
        self, spec: VerifierSpec, example: Example, options: Mapping[str, Any]
    ) -> None:
        own = spec.own_options(options)
        facts = spec.facts(own)
        with spec.build(SandboxOptions(workers=1, timeout_s=10.0, allow_weak_sandbox=True), own) as verifier:
            assert verifier.name == spec.name
            assert verifier.identity() == facts.identity
            for exploit_type in facts.exploit_types:
                assert verifier.supports(replace(example.problem, exploit_type=exploit_type))
        assert example.problem.exploit_type in facts.exploit_types

    def test_an_option_that_it_does_not_have_is_refused_by_name(self, spec: VerifierSpec) -> None:
        with pytest.raises(InputError, match=r"has no option 'no_such_option'"):
            spec.own_options({"no_such_option": 1})
