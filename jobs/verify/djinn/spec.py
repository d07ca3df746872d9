"""The djinn verifier's entry in the registry."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, field_validator

from foreshock.jobs.verify.base import Verifier
from foreshock.jobs.verify.djinn.package import find_package
from foreshock.jobs.verify.spec import SandboxOptions, VerifierFacts, VerifierOptions, VerifierSpec


class DjinnOptions(VerifierOptions):
    """Options of the djinn verifier."""

    package: Path | None = Field(None, description="A djinn checkout, instead of the installed package")

    @field_validator("package")
    @classmethod
    def _absolute(cls, path: Path | None) -> Path | None:
        return None if path is None else path.expanduser().absolute()


def _build(common: SandboxOptions, own: DjinnOptions) -> Verifier:
    from foreshock.jobs.verify.djinn.verifier import DjinnVerifier

    return DjinnVerifier(common.workers, common.timeout_s, common.allow_weak_sandbox, package=own.package)


def _facts(own: DjinnOptions) -> VerifierFacts:
    from foreshock.jobs.verify.djinn.verifier import VERSION

    found = find_package(own.package)
    return VerifierFacts(f"djinn:{VERSION}:{found.digest[:16]}", frozenset(found.exploit_types))


SPEC = VerifierSpec("djinn", "EleutherAI's djinn, its own flawed verifiers", _build, _facts, DjinnOptions)
