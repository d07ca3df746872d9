"""Shared by the verifier tests: the contract suite as the module `verifier_contract`, tiers that work here."""

from __future__ import annotations

import functools
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from foreshock.jobs.verify.base import SandboxTier
from foreshock.jobs.verify.builtin.verifier import BuiltinVerifier
from foreshock.jobs.verify.sandbox.tiers import probe_tier

NAME = "verifier_contract"
if NAME not in sys.modules:
    pytest.register_assert_rewrite(NAME)
    found = importlib.util.spec_from_file_location(NAME, Path(__file__).with_name("contract.py"))
    assert found is not None
    assert found.loader is not None
    sys.modules[NAME] = importlib.util.module_from_spec(found)
    found.loader.exec_module(sys.modules[NAME])


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
