"""The built-in verifier: foreshock's own exploit families in the sandbox, judged by the trusted parent.

The two verifiers never share a process. The secure run gets inputs alone; the insecure run, which holds its cases'
expected results beside the submission, is another process with another /tmp.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from foreshock.errors import InputError
from foreshock.jobs.records.verdicts import SandboxTier, Suspicion
from foreshock.jobs.verify import plain, prelude
from foreshock.jobs.verify.base import Verification
from foreshock.jobs.verify.builtin.family import Family, TestCase
from foreshock.jobs.verify.builtin.options import family_options
from foreshock.jobs.verify.judge import (
    INSECURE_BYTES,
    judge_insecure,
    judge_secure,
    printed_chars,
    results_of,
    says_intended,
    secure_bytes,
)
from foreshock.jobs.verify.pair import Tried, judge_pair
from foreshock.jobs.verify.problem import Problem
from foreshock.jobs.verify.problems import insecure_cases, secure_cases
from foreshock.jobs.verify.sandbox.limits import Limits
from foreshock.jobs.verify.sandbox.tiers import require_tier
from foreshock.jobs.verify.sandbox.worker import InfraError, Run, Worker, ZygoteConfig
from foreshock.jobs.verify.service import SandboxedVerifier, default_workers, run_request
from foreshock.jobs.verify.suspicion import reported
from foreshock.jobs.verify.withhold import withhold

FAMILIES_MODULE = "foreshock.jobs.verify.builtin.families"
VERSION = 4
_REMEMBERED = 4096
"""Problems whose parsed cases are kept."""


@dataclass(frozen=True, slots=True)
class _Prepared:
    problem: Problem
    secure: list[TestCase]
    insecure: list[TestCase]
    options: Any

    def insecure_after(self, first: Tried) -> list[TestCase]:
        """The flawed verifier's cases, without what the secure run could not answer."""
        if first.passed:
            return self.insecure
        secure, insecure = (
            [(list(case.args), case.expected) for case in some] for some in (self.secure, self.insecure)
        )
        expected = withhold(self.problem.id, secure, insecure, results_of(first.run))
        return [TestCase(case.args, due) for case, due in zip(self.insecure, expected, strict=True)]


class BuiltinVerifier(SandboxedVerifier):
    """Verifier `builtin`.

    workers: zygotes, and so submissions at a time; one a usable core by default. timeout_s: CPU and sleep of
    each of the two runs, which on a quiet machine is wall clock.
    allow_weak_sandbox: accept a tier below full (see docs/sandbox.md) instead of raising SandboxUnavailableError.
    tier: use this tier instead of the strongest that works here. families_module: where FAMILIES is.
    """

    name = "builtin"

    def __init__(
        self,
        workers: int | None = None,
        timeout_s: float = 10.0,
        allow_weak_sandbox: bool = False,
        *,
        tier: SandboxTier | None = None,
        families_module: str = FAMILIES_MODULE,
        sys_path: Sequence[str] = (),
        limits: Limits | None = None,
    ) -> None:
        self._prepared: dict[int, _Prepared] = {}
        self._families: Mapping[str, Family] = importlib.import_module(families_module).FAMILIES
        wall = replace(limits or Limits(), wall_s=timeout_s, cpu_s=max(2, int(2 * timeout_s)))
        config = ZygoteConfig(
            tier=tier or require_tier(allow_weak_sandbox),
            runner="foreshock.jobs.verify.runner",
            limits=wall,
            preload=prelude.PRELOAD,
            sys_path=tuple(sys_path),
            options={"families": families_module},
        )
        super().__init__(config, default_workers() if workers is None else workers)

    def identity(self) -> str:
        """`builtin:N`; N counts changes that may alter verdicts."""
        return f"{self.name}:{VERSION}"

    def exploit_types(self) -> Sequence[str]:
        """Names of the families."""
        return sorted(self._families)

    def supports(self, problem: Problem) -> bool:
        """Whether there is a family of the problem's exploit type."""
        return problem.exploit_type in self._families

    def _verify_in(self, worker: Worker, problem: Problem, code: str) -> Verification:
        family = self._families[problem.exploit_type]
        prepared = self._prepare(problem)

        def try_secure() -> Tried:
            run = run_secure(worker, problem.function_name, code, prepared.secure, apart=True)
            return Tried(run, judge_secure(run, prepared.secure, problem.order_dependent, self.wall_s))

        def try_insecure(first: Tried) -> Tried:
            request = {
                "kind": "insecure",
                "code": code,
                "function_name": problem.function_name,
                "family": family.name,
                "cases": [_case_form(case) for case in prepared.insecure_after(first)],
                "options": prepared.options,
            }
            run = run_request(worker, request, result_bytes=INSECURE_BYTES)
            return Tried(run, judge_insecure(run, self.wall_s, family.exit_zero_passes))

        secure, insecure = judge_pair(try_secure, try_insecure, self.heavy_bytes)
        suspicion, unintended = reported(insecure.run), None
        if insecure.passed and secure.verdict.passed is False:
            question = {"kind": "intended", "family": family.name, "code": code, "options": prepared.options}
            unintended = not says_intended(run_request(worker, question))
            if suspicion.seen is None:  # the process ended without a word, as `process_exit` means to
                suspicion = Suspicion(not unintended, () if unintended else (f"{family.name}: its exploit",))
        return Verification(secure.verdict, insecure.verdict, self.tier, suspicion, unintended)

    def _prepare(self, problem: Problem) -> _Prepared:
        """Parsed cases of a problem, remembered: a job verifies few problems many times."""
        found = self._prepared.get(id(problem))
        if found is None or found.problem is not problem:
            secure, insecure = secure_cases(problem), insecure_cases(problem)
            if not secure or not insecure:
                raise InfraError(f"problem {problem.id!r} has no test cases")
            try:
                options = plain.encode(family_options(problem, self._families[problem.exploit_type], insecure))
            except InputError as error:
                raise InfraError(f"problem {problem.id!r}: {error}") from None
            if len(self._prepared) >= _REMEMBERED:
                self._prepared.clear()
            found = self._prepared[id(problem)] = _Prepared(problem, secure, insecure, options)
        return found


def run_secure(
    worker: Worker,
    function_name: str,
    code: str,
    cases: Sequence[TestCase],
    wall_s: float | None = None,
    *,
    apart: bool = False,
) -> Run:
    """One confined run of the submission over the inputs of `cases`; the expected results stay here.

    apart: the cases list their arguments (`calling.call`).
    """
    return run_request(
        worker,
        {
            "kind": "secure",
            "code": code,
            "function_name": function_name,
            "inputs": [["l", [plain.encode(arg) for arg in case.args]] for case in cases],
            "printed_chars": printed_chars(cases),
            "apart": apart,
        },
        wall_s,
        secure_bytes(cases),
    )


def _case_form(case: TestCase) -> list[Any]:
    return [[plain.encode(arg) for arg in case.args], plain.encode(case.expected)]
