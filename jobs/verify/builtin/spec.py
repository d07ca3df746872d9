"""The built-in verifier's entry in the registry."""

from __future__ import annotations

from foreshock.jobs.verify.base import Verifier
from foreshock.jobs.verify.problem import Problem
from foreshock.jobs.verify.problems import insecure_cases
from foreshock.jobs.verify.spec import SandboxOptions, VerifierFacts, VerifierOptions, VerifierSpec


def _build(common: SandboxOptions, _: VerifierOptions) -> Verifier:
    from foreshock.jobs.verify.builtin.verifier import BuiltinVerifier

    return BuiltinVerifier(common.workers, common.timeout_s, common.allow_weak_sandbox)


def _facts(_: VerifierOptions) -> VerifierFacts:
    from foreshock.jobs.verify.builtin.families import FAMILIES
    from foreshock.jobs.verify.builtin.verifier import VERSION

    return VerifierFacts(f"builtin:{VERSION}", frozenset(FAMILIES))


def _weakness(problem: Problem) -> str | None:
    from foreshock.jobs.verify.builtin.families import FAMILIES
    from foreshock.jobs.verify.builtin.options import weakness

    return weakness(problem, FAMILIES[problem.exploit_type], insecure_cases(problem))


SPEC = VerifierSpec("builtin", "foreshock's own exploit families", _build, _facts, weakness=_weakness)
