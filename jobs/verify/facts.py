"""What planning needs to know of a verifier, without starting it: its identity and the exploit types it knows.

A plan is often made on a login node that has no sandbox, so this reads code and files only.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from foreshock.errors import InputError


@dataclass(frozen=True, slots=True)
class VerifierFacts:
    """`identity` goes into spec keys: where it changes, verdicts may differ."""

    identity: str
    exploit_types: frozenset[str]


def verifier_facts(name: str, package: Path | None = None) -> VerifierFacts:
    """Facts of the verifier called `name`; `package` is a djinn checkout instead of the installed one.

    Raises InputError for an unknown name, or djinn missing or replaced by PyPI's unrelated package.
    """
    if name == "builtin":
        from foreshock.jobs.verify.builtin.families import FAMILIES
        from foreshock.jobs.verify.builtin.verifier import VERSION

        return VerifierFacts(f"{name}:{VERSION}", frozenset(FAMILIES))
    if name == "djinn":
        from foreshock.jobs.verify.djinn.package import find_package
        from foreshock.jobs.verify.djinn.verifier import VERSION as DJINN_VERSION

        found = find_package(package)
        return VerifierFacts(f"{name}:{DJINN_VERSION}:{found.digest[:16]}", frozenset(found.exploit_types))
    raise InputError(f"unknown verifier {name!r}; valid: builtin, djinn")
