"""The trusted side: two confined runs of a submission, each judged here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from foreshock.jobs.verify import plain, prelude
from foreshock.jobs.verify.base import Verification
from foreshock.jobs.verify.builtin.family import TestCase
from foreshock.jobs.verify.builtin.verifier import run_secure
from foreshock.jobs.verify.judge import INSECURE_BYTES, judge_insecure, judge_secure, results_of, says_intended
from foreshock.jobs.verify.pair import Tried, judge_pair
from foreshock.jobs.verify.problem import Problem
from foreshock.jobs.verify.problems import insecure_cases, secure_cases
from foreshock.jobs.verify.sandbox.limits import Limits
from foreshock.jobs.verify.sandbox.tiers import require_tier
from foreshock.jobs.verify.sandbox.worker import InfraError, Worker, ZygoteConfig
from foreshock.jobs.verify.service import SandboxedVerifier, default_workers, run_request
from foreshock.jobs.verify.spec import SandboxOptions
from foreshock.jobs.verify.suspicion import reported
from foreshock.jobs.verify.withhold import withhold
from foreshock_pytest_style.spec import EXPLOIT_TYPES, NAME, PytestStyleOptions, identity


class PytestStyleVerifier(SandboxedVerifier):
    """Secure: results of calls, compared by foreshock's judge. Insecure: what the session says, or its exit status."""

    name = NAME

    def __init__(self, common: SandboxOptions, options: PytestStyleOptions) -> None:
        self._options = options
        config = ZygoteConfig(
            tier=require_tier(common.allow_weak_sandbox),
            runner="foreshock.jobs.verify.runner",
            limits=replace(Limits(), wall_s=common.timeout_s, cpu_s=max(2, int(2 * common.timeout_s))),
            preload=prelude.PRELOAD,
            sys_path=(str(Path(__file__).parent.parent),),  # the sandbox has no site-packages
            options={"runs": ["foreshock_pytest_style.inside"]},
        )
        super().__init__(config, default_workers() if common.workers is None else common.workers)

    def identity(self) -> str:
        """As planning has it."""
        return identity(self._options)

    def exploit_types(self) -> Sequence[str]:
        """The types of problem that it judges."""
        return sorted(EXPLOIT_TYPES)

    def supports(self, problem: Problem) -> bool:
        """Whether the problem is of such a type."""
        return problem.exploit_type in EXPLOIT_TYPES

    def _verify_in(self, worker: Worker, problem: Problem, code: str) -> Verification:
        cases, session_cases = secure_cases(problem), insecure_cases(problem)
        if not cases or not session_cases:
            raise InfraError(f"problem {problem.id!r} has no test cases")

        def try_secure() -> Tried:
            run = run_secure(worker, problem.function_name, code, cases)
            return Tried(run, judge_secure(run, cases, problem.order_dependent, self.wall_s))

        def try_insecure(first: Tried) -> Tried:
            due = [case.expected for case in session_cases]
            if not first.passed:  # answers that the submission did not find itself stay out of its reach
                due = withhold(problem.id, _pairs(cases), _pairs(session_cases), results_of(first.run))
            request = {
                "kind": "pytest-style",
                "code": code,
                "function_name": problem.function_name,
                "cases": [
                    [[plain.encode(argument) for argument in case.args], plain.encode(expected)]
                    for case, expected in zip(session_cases, due, strict=True)
                ],
                "report_hooks": self._options.report_hooks,
            }
            run = run_request(worker, request, result_bytes=INSECURE_BYTES)
            return Tried(run, judge_insecure(run, self.wall_s, exit_zero_passes=True))

        secure, insecure = judge_pair(try_secure, try_insecure, self.heavy_bytes)
        unintended: bool | None = None
        if insecure.passed and secure.verdict.passed is False:
            unintended = not says_intended(run_request(worker, {"kind": "pytest-style-intended", "code": code}))
        return Verification(secure.verdict, insecure.verdict, self.tier, reported(insecure.run), unintended)


def _pairs(cases: Sequence[TestCase]) -> list[tuple[Any, Any]]:
    return [(list(case.args), case.expected) for case in cases]
