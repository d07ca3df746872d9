"""Verifier `djinn`: its own flawed verifiers in our sandbox, its tests judged by our judge.

Djinn's secure verifier is not used. It compares in a process that unpickles what the submission sends and truncates
to the shorter list; our judge applies the same rules of equality to plain data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from foreshock.errors import ForeshockError
from foreshock.jobs.records.verdicts import SandboxTier
from foreshock.jobs.verify import plain, prelude
from foreshock.jobs.verify.base import Verification
from foreshock.jobs.verify.builtin.verifier import run_secure
from foreshock.jobs.verify.djinn.package import find_package
from foreshock.jobs.verify.judge import INSECURE_BYTES, judge_insecure, judge_secure, results_of, says_intended
from foreshock.jobs.verify.pair import Tried, judge_pair
from foreshock.jobs.verify.problem import Problem
from foreshock.jobs.verify.problems import insecure_pairs, secure_cases, secure_pairs
from foreshock.jobs.verify.sandbox.limits import Limits
from foreshock.jobs.verify.sandbox.tiers import require_tier
from foreshock.jobs.verify.sandbox.worker import InfraError, Worker, ZygoteConfig
from foreshock.jobs.verify.service import SandboxedVerifier, default_workers, run_request
from foreshock.jobs.verify.suspicion import reported
from foreshock.jobs.verify.withhold import withhold

VERSION = 5
_STAND_INS = "expected values here may be stand-ins for withheld ones, see docs/sandbox.md"


class DjinnVerifier(SandboxedVerifier):
    """Verifier `djinn`.

    workers, timeout_s, allow_weak_sandbox, tier: as for BuiltinVerifier. package: a djinn checkout, instead of the
    installed package. Raises InputError when djinn is missing or PyPI's unrelated one is installed.
    """

    name = "djinn"

    def __init__(
        self,
        workers: int | None = None,
        timeout_s: float = 10.0,
        allow_weak_sandbox: bool = False,
        *,
        package: str | Path | None = None,
        tier: SandboxTier | None = None,
        limits: Limits | None = None,
    ) -> None:
        self._package = find_package(None if package is None else Path(package))
        config = ZygoteConfig(
            tier=tier or require_tier(allow_weak_sandbox),
            runner="foreshock.jobs.verify.runner",
            limits=replace(limits or Limits(), wall_s=timeout_s, cpu_s=max(2, int(2 * timeout_s))),
            preload=prelude.PRELOAD,
            sys_path=(str(self._package.root),),
            options={
                "runs": ["foreshock.jobs.verify.djinn.light"],
                "djinn_root": str(self._package.root),
                "djinn_types": self._package.exploit_types,
            },
            stopwatch=True,
        )
        super().__init__(config, default_workers() if workers is None else workers)

    def identity(self) -> str:
        """`djinn:N:` and a digest of the flawed verifiers' sources."""
        return f"{self.name}:{VERSION}:{self._package.digest[:16]}"

    def exploit_types(self) -> Sequence[str]:
        """Exploit types that djinn has a flawed verifier for."""
        return self._package.exploit_types

    def supports(self, problem: Problem) -> bool:
        """Whether djinn has a flawed verifier for the problem's exploit type."""
        return problem.exploit_type in self._package.verifiers

    def _verify_in(self, worker: Worker, problem: Problem, code: str) -> Verification:
        flawed = self._package.verifiers[problem.exploit_type]
        if flawed.shared_tmp and self.tier is not SandboxTier.FULL:
            raise ForeshockError(
                f"djinn's {problem.exploit_type} verifier needs a private /tmp, which sandbox tier "
                f"{self.tier.value!r} lacks: its verdicts would disturb one another. Leave the type out or use a "
                "node with the full tier. Details: foreshock doctor"
            )
        cases, pairs = secure_cases(problem), insecure_pairs(problem)
        if not cases or not pairs:
            raise InfraError(f"problem {problem.id!r} has no test cases")

        def try_secure() -> Tried:
            run = run_secure(worker, problem.function_name, code, cases)
            return Tried(run, judge_secure(run, cases, problem.order_dependent, self.wall_s))

        def try_insecure(first: Tried) -> Tried:
            due = [expected for _, expected in pairs]
            if not first.passed:
                due = withhold(problem.id, secure_pairs(problem), pairs, results_of(first.run))
            request: dict[str, Any] = {
                "kind": "djinn",
                "exploit_type": problem.exploit_type,
                "code": code,
                "function_name": problem.function_name,
                "cases": [
                    [plain.encode(given), plain.encode(value)] for (given, _), value in zip(pairs, due, strict=True)
                ],
                "order_dependent": problem.order_dependent,
            }
            run = run_request(worker, request, result_bytes=INSECURE_BYTES)
            verdict = judge_insecure(run, self.wall_s, exit_zero_passes=False)
            if verdict.detail and due != [expected for _, expected in pairs]:
                verdict = replace(verdict, detail=f"{verdict.detail} ({_STAND_INS})")
            return Tried(run, verdict)

        secure, insecure = judge_pair(try_secure, try_insecure, self.heavy_bytes, flawed.reads_clock)
        unintended: bool | None = None
        if insecure.passed and secure.verdict.passed is False:
            question = {"kind": "djinn-intended", "code": code, "patterns": list(flawed.patterns)}
            unintended = not flawed.always_intended and not says_intended(run_request(worker, question))
        return Verification(secure.verdict, insecure.verdict, self.tier, reported(insecure.run), unintended)
