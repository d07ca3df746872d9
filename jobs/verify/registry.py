"""Verifiers by name: foreshock's own, and those of installed packages. Nothing heavy is imported before one is used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from foreshock.plugins import Registry

if TYPE_CHECKING:
    from foreshock.jobs.verify.base import Verifier
    from foreshock.jobs.verify.spec import VerifierFacts, VerifierSpec

VERIFIERS: Registry[VerifierSpec] = Registry(
    "verifier",
    "foreshock.verifiers",
    "foreshock.jobs.verify.spec:VerifierSpec",
    {
        "builtin": "foreshock.jobs.verify.builtin.spec:SPEC",
        "djinn": "foreshock.jobs.verify.djinn.spec:SPEC",
    },
)


def verifier_facts(name: str, own_options: Mapping[str, Any] | None = None) -> VerifierFacts:
    """What planning needs to know of the verifier called `name`; `own_options` are those of `verifier.options`.

    Raises InputError for an unknown name or option, and where what the verifier needs is not installed.
    """
    spec = VERIFIERS.get(name)
    return spec.facts(spec.own_options(own_options or {}))


def create_verifier(name: str, options: Mapping[str, Any] | None = None) -> Verifier:
    """A verifier by name; `options` are the common ones and its own. Raises InputError naming the valid ones."""
    from foreshock.jobs.verify.spec import COMMON_OPTIONS, SandboxOptions

    spec = VERIFIERS.get(name)
    given = dict(options or {})
    common = SandboxOptions(**{key: given.pop(key) for key in COMMON_OPTIONS if key in given})
    return spec.build(common, spec.own_options(given))
