"""Tiers: found by trying, never left silently, explained to whoever must ask for more."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from foreshock.jobs.records.verdicts import SandboxTier
from foreshock.jobs.verify.sandbox import tiers
from foreshock.jobs.verify.sandbox.tiers import SandboxUnavailableError, TierProbe, probe_tier, sandbox_report

# A node that refuses system calls, made with a filter of its own: number -> errno, everything else allowed.
_NODE = """
import json, struct, sys
from foreshock.jobs.verify.sandbox import kernel
refused = {{ {refused} }}
ops = [struct.pack("HBBI", 0x20, 0, 0, 0)]
for number, error in refused.items():
    ops += [struct.pack("HBBI", 0x15, 0, 1, number), struct.pack("HBBI", 0x06, 0, 0, 0x00050000 | error)]
ops.append(struct.pack("HBBI", 0x06, 0, 0, 0x7FFF0000))
kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
kernel.install_filter(b"".join(ops))
{then}
"""
_UNSHARE = "__import__('foreshock.jobs.verify.sandbox.syscall_numbers', fromlist=['x']).number('unshare'): 1"
_LANDLOCK = "444: 38"
_REPORT = """
from foreshock.jobs.verify.sandbox.tiers import require_tier, sandbox_report
report = sandbox_report()
refusal = None
try:
    require_tier(False)
except Exception as error:
    refusal = f"{type(error).__name__}: {error}"
print(json.dumps({"tier": report.tier, "advice": report.advice, "refusal": refusal,
    "allowed": require_tier(True), "reasons": {p.tier: p.reason for p in report.probes}}))
"""
_VERIFY = """
from foreshock.jobs.verify.base import SandboxTier
from foreshock.jobs.verify.builtin.problems import builtin_problems
from foreshock.jobs.verify.builtin.verifier import BuiltinVerifier
(problem,) = builtin_problems("train", ["type_confusion"], per_family=1)
with BuiltinVerifier(1, 10.0, True, tier=SandboxTier.FULL) as verifier:
    found = verifier.verify(problem, problem.ground_truth)
print(json.dumps({"secure": found.secure.outcome, "detail": found.secure.detail, "tier": found.tier}))
"""


def on_a_node_that_refuses(refused: str, then: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", _NODE.format(refused=refused, then=then)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert isinstance(answer, dict)
    return answer


def test_a_tier_that_works_keeps_every_promise(tier: SandboxTier) -> None:
    probe = probe_tier(tier)
    assert probe.available
    stopped = {layer.attempt for layer in probe.layers if layer.stopped}
    assert "allocate past the memory limit" in stopped
    if tier is not SandboxTier.RLIMITS_ONLY:
        assert {"read the user's files", "connect to a local port", "start a process"} <= stopped
    if tier is SandboxTier.FULL:
        assert "write to /tmp" not in stopped


def test_the_report_names_the_strongest_tier_and_all_probes() -> None:
    report = sandbox_report()
    assert [probe.tier for probe in report.probes] == list(SandboxTier)
    assert report.tier is next(probe.tier for probe in report.probes if probe.available)
    assert report.is_full is (report.tier is SandboxTier.FULL)
    assert bool(report.advice) is not report.is_full


@pytest.fixture
def no_userns_works() -> None:
    reason = probe_tier(SandboxTier.NO_USERNS).reason
    if reason is not None:
        pytest.skip(f"tier no-userns does not work on this machine: {reason}")


def test_without_user_namespaces_the_tier_is_no_userns_and_refused_by_default(no_userns_works: None) -> None:
    answer = on_a_node_that_refuses(_UNSHARE, _REPORT)
    assert answer["tier"] == answer["allowed"] == "no-userns"
    assert "new namespaces refused: Operation not permitted" in answer["reasons"]["full"]
    assert answer["refusal"].startswith("SandboxUnavailableError: this node offers sandbox tier 'no-userns' only")
    assert "--allow-weak-sandbox" in answer["refusal"]
    assert any("user namespaces" in line or "userns" in line for line in answer["advice"])


def test_without_landlock_as_well_only_limits_are_left() -> None:
    answer = on_a_node_that_refuses(f"{_UNSHARE}, {_LANDLOCK}", _REPORT)
    assert answer["tier"] == answer["allowed"] == "rlimits-only"
    assert "Landlock is not available" in answer["reasons"]["no-userns"]
    assert any("Landlock" in line for line in answer["advice"])


def test_a_tier_that_cannot_be_entered_is_an_error_and_never_a_weaker_tier() -> None:
    answer = on_a_node_that_refuses(_UNSHARE, _VERIFY)
    assert answer["secure"] == "infra_error"
    assert answer["tier"] == "full"
    assert "new namespaces refused" in answer["detail"]


def test_a_busy_machine_is_not_taken_for_one_without_the_tier(monkeypatch: pytest.MonkeyPatch) -> None:
    tries = []

    def slow_at_first(tier: SandboxTier) -> TierProbe:
        tries.append(tier)
        return TierProbe(tier, len(tries) > 2, "too slow", (), slow=len(tries) <= 2)

    monkeypatch.setattr(tiers, "probe_tier", slow_at_first)
    assert tiers.best_tier.__wrapped__().tier is SandboxTier.FULL
    assert tries == [SandboxTier.FULL] * 3
    monkeypatch.setattr(tiers, "probe_tier", lambda tier: TierProbe(tier, False, "too slow", (), slow=True))
    with pytest.raises(SandboxUnavailableError, match="too busy to find out whether sandbox tier 'full' works"):
        tiers.best_tier.__wrapped__()
