"""What a verifier is to everything around it: a name, its own options, how it is built, and facts for planning.

This is what a package of yours offers under the entry-point group `foreshock.verifiers`; CONTRIBUTING.md says how.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from foreshock.errors import InputError
from foreshock.jobs.verify.base import Verifier
from foreshock.jobs.verify.problem import Problem


@dataclass(frozen=True, slots=True)
class VerifierFacts:
    """`identity` goes into spec keys: where it changes, verdicts may differ."""

    identity: str
    exploit_types: frozenset[str]


@dataclass(frozen=True, slots=True)
class SandboxOptions:
    """What every verifier is built with.

    workers: submissions at a time; None for one a usable core. timeout_s: CPU and sleep of each of the two verdicts.
    allow_weak_sandbox: accept a sandbox tier below full instead of raising SandboxUnavailableError.
    """

    workers: int | None = None
    timeout_s: float = 10.0
    allow_weak_sandbox: bool = False


class VerifierOptions(BaseModel):
    """Base of a verifier's own options; this one has none. Fields become keys of `verifier.options`."""

    model_config = ConfigDict(extra="forbid", frozen=True)


COMMON_OPTIONS = tuple(field.name for field in fields(SandboxOptions))


@dataclass(frozen=True)
class VerifierSpec:
    """One verifier.

    name: as configurations call it. summary: a line for help and `foreshock doctor`. options: model of its own options.
    build: makes it, from the common options and its own. facts: tells what planning needs without starting anything,
    since plans are made on login nodes; raises InputError, with a fix, where what it needs is not installed.
    weakness: what a problem's weak verifier passes, in a sentence for messages; None where it cannot tell. Raises
    InputError for a problem that asks for a weakness which there is not.
    """

    name: str
    summary: str
    build: Callable[[SandboxOptions, Any], Verifier]
    facts: Callable[[Any], VerifierFacts]
    options: type[VerifierOptions] = VerifierOptions
    weakness: Callable[[Problem], str | None] = lambda problem: None

    def __post_init__(self) -> None:
        taken = sorted(set(COMMON_OPTIONS) & set(self.options.model_fields))
        if taken:
            raise ValueError(f"verifier {self.name!r}: {taken[0]!r} is an option that every verifier has")

    def own_options(self, given: Mapping[str, Any]) -> VerifierOptions:
        """The verifier's own options. Raises InputError naming every wrong one and the valid ones."""
        try:
            return self.options.model_validate(dict(given))
        except ValidationError as error:
            raise InputError("; ".join(self._complaint(problem) for problem in error.errors())) from None

    def _complaint(self, problem: Any) -> str:
        key = ".".join(map(str, problem["loc"]))
        if problem["type"] == "extra_forbidden":
            valid = ", ".join(sorted(self.options.model_fields))
            return f"verifier {self.name!r} has no option {key!r} of its own" + (f"; valid: {valid}" if valid else "")
        return f"verifier {self.name!r}, option {key!r}: {problem['msg'].removeprefix('Value error, ')}"
