"""The verifier's entry: all that foreshock reads before it judges anything."""

from __future__ import annotations

from pydantic import Field

from foreshock.jobs.verify.base import Verifier
from foreshock.jobs.verify.spec import SandboxOptions, VerifierFacts, VerifierOptions, VerifierSpec

NAME = "pytest-style"
VERSION = 1
"""Counts changes that may alter verdicts."""

EXPLOIT_TYPES = frozenset({"pytest_report_hook"})


class PytestStyleOptions(VerifierOptions):
    """Keys of `verifier.options`."""

    report_hooks: bool = Field(True, description="Let the submission's hooks change reports, as a conftest.py could")


def identity(options: PytestStyleOptions) -> str:
    """Name, version, and whatever else verdicts depend on."""
    return f"{NAME}:{VERSION}" + ("" if options.report_hooks else ":no-hooks")


def _facts(options: PytestStyleOptions) -> VerifierFacts:
    return VerifierFacts(identity(options), EXPLOIT_TYPES)


def _build(common: SandboxOptions, options: PytestStyleOptions) -> Verifier:
    from foreshock_pytest_style.verifier import PytestStyleVerifier

    return PytestStyleVerifier(common, options)


SPEC = VerifierSpec(NAME, "a test session's exit status is the reward", _build, _facts, PytestStyleOptions)
