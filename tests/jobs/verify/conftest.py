"""Shared by the verifier tests: the tiers that work here."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import pytest

from foreshock.jobs.records.verdicts import SandboxTier
from foreshock.jobs.verify.builtin.verifier import BuiltinVerifier
from foreshock.jobs.verify.sandbox.tiers import probe_tier


@functools.lru_cache
def _unavailable(tier: SandboxTier) -> str | None:
    return probe_tier(tier).reason


@pytest.fixture(scope="session", params=list(SandboxTier), ids=lambda tier: tier.value)
def tier(request: pytest.FixtureRequest) -> SandboxTier:
    """Each tier that can be entered on this machine."""
    reason = _unavailable(request.param)
    if reason is not None:
        pytest.skip(f"tier {request.param.value} does not work on this machine: {reason}")
    assert isinstance(request.param, SandboxTier)
    return request.param


@pytest.fixture(scope="session")
def verifier(tier: SandboxTier) -> Iterator[BuiltinVerifier]:
    """The built-in verifier with one worker, in each tier."""
    with BuiltinVerifier(1, 10.0, True, tier=tier) as one:
        yield one
