"""Which tier this node offers, found out by trying, and what to ask the site's administrator for.

The tier is fixed once, before the first verdict. A zygote that later fails to enter its tier is an infrastructure
error; nothing ever falls back to a weaker one.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import platform
import socket
import tempfile
from dataclasses import dataclass
from pathlib import Path

from foreshock.errors import ForeshockError
from foreshock.jobs.records.verdicts import SandboxTier
from foreshock.jobs.verify.sandbox import landlock, seccomp
from foreshock.jobs.verify.sandbox.limits import Limits
from foreshock.jobs.verify.sandbox.probe_runner import ATTEMPTS
from foreshock.jobs.verify.sandbox.watch import Ending
from foreshock.jobs.verify.sandbox.worker import InfraError, InfraTimeoutError, Worker, ZygoteConfig

_MUST_FAIL = {
    SandboxTier.FULL: frozenset(ATTEMPTS) - {"write to /tmp"},
    SandboxTier.NO_USERNS: frozenset(ATTEMPTS) - {"use a capability"},
    SandboxTier.RLIMITS_ONLY: frozenset({"allocate past the memory limit"}),
}
"""Attempts that a tier promises to stop. In the full tier a write to /tmp succeeds, in a /tmp of its own."""


_TRIES = 3
_BANNER = """
=================================== WEAK SANDBOX ===================================
Submissions run in sandbox tier %r: %s.
Why not the full tier: %s
Every row records its tier. Details: foreshock doctor, docs/sandbox.md
===================================================================================="""
_RISKS = {
    SandboxTier.NO_USERNS: "no private /tmp, a submission can fill the disk and see which files exist",
    SandboxTier.RLIMITS_ONLY: "a submission can read and change your files, use the network and forge its verdict",
}
_log = logging.getLogger(__name__)


class SandboxUnavailableError(ForeshockError):
    """No tier, or none strong enough, can be entered here."""


@dataclass(frozen=True, slots=True)
class LayerProbe:
    """One attempt and what became of it: `stopped` is good, except for the private /tmp."""

    attempt: str
    stopped: bool
    detail: str


@dataclass(frozen=True, slots=True)
class TierProbe:
    """One tier: whether it can be entered and keeps its promises, and why not.

    slow: the machine was too slow to tell, so it is not known whether the tier works.
    """

    tier: SandboxTier
    available: bool
    reason: str | None
    layers: tuple[LayerProbe, ...]
    slow: bool = False


@dataclass(frozen=True, slots=True)
class SandboxReport:
    """What `foreshock doctor` shows: the tier, every probe, what to ask for."""

    tier: SandboxTier | None
    probes: tuple[TierProbe, ...]
    landlock_abi: int
    seccomp_supported: bool
    advice: tuple[str, ...]

    @property
    def is_full(self) -> bool:
        """Whether submissions get the full tier here."""
        return self.tier is SandboxTier.FULL


def sandbox_report() -> SandboxReport:
    """Probe every tier on this machine, strongest first; about 0.2 s a tier."""
    probes = tuple(probe_tier(tier) for tier in SandboxTier)
    tier = next((probe.tier for probe in probes if probe.available), None)
    return SandboxReport(tier, probes, landlock.abi(), seccomp.supported(), _advice(tier, probes))


@functools.lru_cache(maxsize=1)
def best_tier() -> TierProbe:
    """The strongest tier that can be entered here, probed once a process.

    Raises SandboxUnavailableError when there is none, or when a stronger one could not be told in time.
    """
    reasons = []
    for tier in SandboxTier:
        probe = next((one for _ in range(_TRIES) if not (one := probe_tier(tier)).slow), None)
        if probe is None:
            raise SandboxUnavailableError(
                f"this machine was too busy to find out whether sandbox tier {tier.value!r} works ({_TRIES} tries), "
                "and no weaker one is taken for that reason. Run the same command again"
            )
        if probe.available:
            return probe
        reasons.append(f"{tier.value}: {probe.reason}")
    raise SandboxUnavailableError("no sandbox tier works here: " + "; ".join(reasons))


def require_tier(allow_weak_sandbox: bool) -> SandboxTier:
    """The tier to use; logs a banner below full.

    Raises SandboxUnavailableError below full, unless weak tiers are allowed.
    """
    probe = best_tier()
    if probe.tier is SandboxTier.FULL:
        return probe.tier
    full = probe_tier(SandboxTier.FULL)
    if allow_weak_sandbox:
        _log.warning(_BANNER, probe.tier.value, _RISKS[probe.tier], full.reason)
        return probe.tier
    raise SandboxUnavailableError(
        f"this node offers sandbox tier {probe.tier.value!r} only, and submissions are hostile code: {full.reason}. "
        f"{' '.join(_advice(probe.tier, (full,)))} To run anyway: --allow-weak-sandbox. Details: foreshock doctor"
    )


def probe_tier(tier: SandboxTier) -> TierProbe:
    """Enter a tier and try what it promises to stop, against a real file, port and process."""
    worker = Worker(ZygoteConfig(tier, "foreshock.jobs.verify.sandbox.probe_runner", Limits(wall_s=60.0)))
    with tempfile.TemporaryDirectory(prefix="foreshock-probe-") as folder, socket.socket() as server:
        secret = Path(folder, "secret")
        secret.write_text("secret")
        server.bind(("127.0.0.1", 0))
        server.listen()
        marker = f"foreshock-probe-{os.getpid()}-{tier.value}"
        request = {
            "attempts": list(ATTEMPTS),
            "secret": str(secret),
            "target": str(Path(folder, "written")),
            "port": server.getsockname()[1],
            "judge": os.getpid(),
            "marker": marker,
        }
        try:
            # Not the judge itself: in a container that is process 1, as a confined process is to itself.
            request["other"] = worker.start()
            run = worker.run(json.dumps(request).encode())
        except InfraTimeoutError as error:
            return TierProbe(tier, False, str(error), (), slow=True)
        except InfraError as error:
            return TierProbe(tier, False, str(error), ())
        finally:
            worker.close()
        seen_outside = Path("/tmp", marker)
        leaked = seen_outside.exists()
        if leaked:
            seen_outside.unlink()
        if run.ending is not Ending.RESULT:
            slow = run.ending is Ending.TIMED_OUT
            return TierProbe(tier, False, f"the probe ended with {run.ending.value}", (), slow)
    return _judge(tier, json.loads(run.payload), leaked)


def _judge(tier: SandboxTier, answers: dict[str, str], leaked: bool) -> TierProbe:
    layers = [LayerProbe(name, answers[name] != "done", answers[name]) for name in ATTEMPTS]
    broken = [layer.attempt for layer in layers if not layer.stopped and layer.attempt in _MUST_FAIL[tier]]
    if tier is SandboxTier.FULL and (leaked or answers["write to /tmp"] != "done"):
        broken.append("have a private /tmp")
    reason = None if not broken else "a confined process could still: " + ", ".join(broken)
    return TierProbe(tier, not broken, reason, tuple(layers))


def _advice(tier: SandboxTier | None, probes: tuple[TierProbe, ...]) -> tuple[str, ...]:
    """Settings to ask the site's administrator for; empty at the full tier."""
    if tier is SandboxTier.FULL:
        return ()
    advice = []
    if _read("/proc/sys/user/max_user_namespaces") == "0":
        advice.append("Ask for user.max_user_namespaces > 0 (sysctl).")
    if _read("/proc/sys/kernel/unprivileged_userns_clone") == "0":
        advice.append("Ask for kernel.unprivileged_userns_clone = 1 (sysctl, Debian).")
    if _read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1":
        advice.append(
            "Ask for kernel.apparmor_restrict_unprivileged_userns = 0, or an AppArmor profile with `userns,` for "
            "this Python (Ubuntu 23.10 and later)."
        )
    if not advice:
        advice.append(
            "Ask for unprivileged user namespaces. In a container: start Docker or Podman with --security-opt "
            "seccomp=unconfined --security-opt systempaths=unconfined (and apparmor=unconfined with AppArmor), or "
            "use Apptainer, which permits unshare and mount."
        )
    if tier is not SandboxTier.NO_USERNS and landlock.abi() == 0:
        advice.append(f"Ask for Landlock: kernel 5.13 or later with lsm=...,landlock (here: {platform.release()}).")
    return tuple(advice)


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return None
