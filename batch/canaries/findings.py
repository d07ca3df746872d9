"""What the canaries told, judged: what works, what does not, and what belongs into the profile because of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from foreshock.batch.canaries.scripts import NOTICE_S
from foreshock.slurm.profile import Profile


@dataclass(frozen=True)
class Finding:
    """One thing tried. `state`: ok, weak, missing (runs need it) or unknown (not seen); `profile`: what to write."""

    state: str
    what: str
    found: str
    profile: str = ""


@dataclass
class Told:
    """What one canary left: `refused` is sbatch's answer, `facts` its shell's notes, `probe` what Python found."""

    refused: str | None = None
    state: str = "unknown"
    """waiting, running, ended or requeued; `reason` is why it waits."""
    reason: str | None = None
    facts: dict[str, str] = field(default_factory=dict)
    notices: list[float] = field(default_factory=list)
    probe: dict[str, Any] | None = None
    said: str = ""
    log: str = ""
    alive: float | None = None

    @property
    def started(self) -> bool:
        """Whether it was seen to run, through the shared folder."""
        return "started" in self.facts


@dataclass(frozen=True)
class Evidence:
    """All that was seen. `configuration` and `partition` are the controller's words, by key."""

    profile: Profile
    final: Profile
    told: Mapping[str, Told]
    whole: Mapping[str, str | None]
    """Answers to asking for all that a profile asks for, by role; None: accepted."""
    configuration: Mapping[str, str]
    partition: Mapping[str, str]
    accounts: tuple[str, ...]
    partitions: tuple[str, ...]
    shared_here: Mapping[str, Any]
    folder: str


def judge(seen: Evidence) -> list[Finding]:
    """Findings in the order in which a person would put them right."""
    looks: tuple[Callable[[Evidence], list[Finding]], ...] = (
        _submitting, _waiting, _environment, _gpus, _sandbox, _scratch, _internet, _shared, _stopping, _preemption,
        _requeueing, _last_job,
    )  # fmt: skip
    return [finding for look in looks for finding in look(seen)]


def _submitting(seen: Evidence) -> list[Finding]:
    found = []
    for role, profile, what in (("node", seen.profile, "workers"), ("final", seen.final, "last job")):
        asked = f"partition {profile.partition or '(default)'}, account {profile.account or '(default)'}"
        refused = seen.told[role].refused or seen.whole.get(role)
        if refused is None:
            found.append(Finding("ok", f"submitting {what}", f"accepted: {asked}, {profile.time} minutes"))
            continue
        advice = f"yours: account {', '.join(seen.accounts) or '(unknown)'}; partition {', '.join(seen.partitions)}"
        if re.search("time limit", refused, re.IGNORECASE):
            advice = f"time: at most {seen.partition.get('MaxTime', 'what the partition allows')}"
        found.append(Finding("missing", f"submitting {what}", f"refused ({asked}): {refused}", advice))
    return found


def _waiting(seen: Evidence) -> list[Finding]:
    found = []
    for role, told in seen.told.items():
        if told.refused is not None or told.started:
            continue
        what = f"canary {role}"
        if told.state == "waiting":
            reason = told.reason or "no reason given"
            found.append(Finding("unknown", what, f"did not start in time: {reason}", "try again with a longer --wait"))
        else:
            text = f"Slurm says {told.state}, but it left nothing in {seen.folder}"
            fix = "name a folder that login node and compute nodes share: --shared DIR"
            found.append(Finding("missing", what, text, fix))
    return found


def _environment(seen: Evidence) -> list[Finding]:
    found = []
    for role, what in (("node", "worker starts"), ("final", "last job starts")):
        told = seen.told[role]
        if not told.started:
            continue
        where = f"on {told.facts.get('node', '?')}"
        if told.probe is None:
            last = (told.said or told.log).strip().splitlines()[-1:] or ["it said nothing"]
            code = told.facts.get("probe-exit") or told.facts.get("ended", "?")
            text = f"{where}: exit code {code}: {last[0]}"
            fix = "python, setup or container: what a node needs to start it"
            found.append(Finding("missing", what, text, fix))
            continue
        version = told.probe.get("foreshock")
        if isinstance(version, dict):
            found.append(Finding("missing", what, f"{where}: no foreshock there", "python, setup or container"))
        else:
            image = f", in {told.probe['image']}" if told.probe.get("image") else ""
            text = f"{where}: Python {told.probe.get('python')}, foreshock {version}{image}"
            found.append(Finding("ok", what, text))
    return found


def _gpus(seen: Evidence) -> list[Finding]:
    told, asked = seen.told["node"], seen.profile.gpus
    if not told.started or not asked or told.probe is None:
        return []
    gpu = told.probe.get("gpu", {})
    host, visible = told.facts.get("gpus-of-host", "0"), told.facts.get("cuda-visible", "unset")
    if gpu.get("count", 0) >= asked and gpu.get("computes"):
        memory = gpu["memory_gib"]
        note = "" if seen.profile.gpu_memory_gib else f"gpu_memory_gib: {int(memory)}"
        return [Finding("ok", "GPUs", f"{gpu['count']} of {asked} compute: {gpu['name']}, {memory} GiB", note)]
    seen_by = f"torch: {gpu.get('error') or gpu.get('count')}; nvidia-smi on the node: {host}; "
    text = f"{asked} asked for, not usable ({seen_by}CUDA_VISIBLE_DEVICES={visible})"
    fix = "gres or gpus_per_node as your site writes them; a driver that torch's CUDA accepts"
    if seen.profile.container is not None and not seen.profile.container.nv:
        fix = "container: {nv: true}"
    return [Finding("missing", "GPUs", text, fix)]


def all_that_runs_need(findings: Iterable[Finding], *, allow_weak_sandbox: bool) -> bool:
    """Whether nothing was missing or unseen; runs refuse a sandbox below the full tier unless they consent."""
    return not any(
        finding.state in ("missing", "unknown")
        or (finding.what == "sandbox" and finding.state == "weak" and not allow_weak_sandbox)
        for finding in findings
    )


def _sandbox(seen: Evidence) -> list[Finding]:
    told = seen.told["node"]
    if told.probe is None:
        return []
    report = told.probe.get("sandbox", {})
    if report.get("tier") is None:
        text = report.get("error") or "no tier works there, so no sampled code can be verified"
        return [Finding("missing", "sandbox", text, " ".join(report.get("advice", ())))]
    advice = " ".join(report.get("advice", ()))
    if report.get("full"):
        return [Finding("ok", "sandbox", f"tier {report['tier']}", advice)]
    consent = "a run is refused there unless its configuration says verifier: {allow_weak_sandbox: true}"
    return [Finding("weak", "sandbox", f"tier {report['tier']}; {consent}", advice)]


def _scratch(seen: Evidence) -> list[Finding]:
    facts = seen.told["node"].facts
    if "scratch-base" not in facts:
        return []
    base = facts["scratch-base"]
    if "scratch-refused" in facts:
        return [Finding("missing", "scratch", f"{base}: {facts['scratch-refused']}", "scratch: a folder of the node")]
    free, kind = int(facts.get("scratch-free-kb") or 0) / 2**20, facts.get("scratch-type", "?")
    text = f"{base}: {free:.0f} GiB free, {kind}"
    if facts.get("scratch-executes") == "no":
        return [
            Finding("missing", "scratch", f"{text}, runs no programs (noexec)", "scratch: where compiled code may run")
        ]
    if re.match(r"nfs|lustre|gpfs|beegfs", kind):
        return [
            Finding("weak", "scratch", f"{text}: a network file system", "scratch: a folder on the node's own disk")
        ]
    if free < 10:
        return [Finding("weak", "scratch", text, "scratch: a folder with 10 GiB or more, for compiled kernels")]
    return [Finding("ok", "scratch", text)]


def _internet(seen: Evidence) -> list[Finding]:
    told = seen.told["node"]
    if told.probe is None:
        return []
    reached = told.probe.get("internet") is True
    text = "the Hugging Face hub is reached" if reached else "the Hugging Face hub is not reached"
    if reached or seen.profile.offline:
        return [Finding("ok", "internet", text)]
    return [Finding("weak", "internet", text, "offline: true, and `foreshock prefetch CONFIG.yaml` on the login node")]


def _shared(seen: Evidence) -> list[Finding]:
    told = seen.told["node"]
    if told.probe is None:
        return []
    there, here = told.probe.get("shared", {}), seen.shared_here
    if "error" in there:
        return [Finding("missing", "shared files", str(there["error"]), "--shared DIR, writable on the nodes")]
    found = []
    for name, words, state, without in _BEHAVIOUR:
        answer = next((side[name] for side in (there, here) if side.get(name) is not True), True)
        if answer is True:
            found.append(Finding("ok", f"shared files: {words}", "works"))
        else:
            found.append(Finding(state, f"shared files: {words}", f"{answer}: {without}"))
    skew = round(float(there["mtime_ahead_s"]) - float(here["mtime_ahead_s"]), 1)
    coarse = ", whole seconds only" if there.get("mtime_whole_seconds") else ""
    text = f"clocks of node and login node are {abs(skew)} s apart{coarse}"
    found.append(Finding("ok" if abs(skew) < 5 else "weak", "shared files: times", text))
    answered = told.probe.get("answer_s")
    if isinstance(answered, int | float):
        text = f"a file and the answer to it took {answered} s both ways"
        found.append(Finding("ok" if answered < 10 else "weak", "shared files: delay", text))
    else:
        text = "what the login node wrote was not seen on the node in time"
        found.append(Finding("weak", "shared files: delay", text, "status lags behind; runs do not depend on it"))
    return found


_BEHAVIOUR = (
    ("rename", "rename over a file", "missing", "rows could be lost: use another file system for results"),
    (
        "exclusive_create",
        "exclusive creation",
        "missing",
        "two launchers could submit the same: run one at a time",
    ),
    (
        "directory_fsync",
        "fsync of a folder",
        "ok",
        "tolerated; a power cut may cost the last batches",
    ),
    ("hard_link", "hard links", "ok", "tolerated; locks are made by exclusive creation"),
    ("direct_io", "O_DIRECT", "ok", "tolerated; tables pass through the page cache"),
)
"""What a file system may lack: key, words, how bad, and what is done without."""


def _stopping(seen: Evidence) -> list[Finding]:
    told = seen.told["limit"]
    if not told.started:
        return []
    if not told.notices:
        if told.state == "running":
            return [
                Finding("unknown", "time limit", "the notice had not come when the wait was over", "a longer --wait")
            ]
        advice = "time: short enough that every task ends by itself; what is cut off is submitted again"
        return [
            Finding("weak", "time limit", f"no notice before the end, although {NOTICE_S} s were asked for", advice)
        ]
    ended = float(told.facts["term"]) if "term" in told.facts else told.alive
    text = f"the notice came {told.notices[0] - float(told.facts['started']):.0f} s after the start of a 60 s job"
    if told.state in ("running", "waiting") or ended is None:
        return [Finding("ok", "time limit", f"{text}; the end was not waited for")]
    lead = ended - told.notices[0]
    text += f", {lead:.0f} s before the end ({NOTICE_S} s were asked for)"
    if lead < NOTICE_S - 1:
        need = seen.profile.signal_lead_s + round(NOTICE_S - lead)
        return [Finding("weak", "time limit", text, f"signal_lead_s: {need}")]
    return [Finding("ok", "time limit", text)]


def _preemption(seen: Evidence) -> list[Finding]:
    told = seen.told["node"]
    if not told.started:
        return []
    mode = seen.partition.get("PreemptMode") or seen.configuration.get("PreemptMode", "?")
    grace = seen.partition.get("GraceTime", "?")
    told_by_slurm = "preempt_send_user_signal" in seen.configuration.get("SlurmctldParameters", "")
    text = f"PreemptMode {mode}, GraceTime {grace} (as configured; not tried)"
    if told_by_slurm:
        text += "; Slurm tells the batch shell itself"
    step = told.facts.get("step")
    if step == "heard":
        return [Finding("ok", "preemption", f"{text}; the canary step hears SIGTERM")]
    if step is None or told_by_slurm:
        return [Finding("ok" if told_by_slurm or mode in ("OFF", "?") else "unknown", "preemption", text)]
    text += f"; the canary step heard nothing ({step or 'it ran'})"
    return [
        Finding(
            "weak", "preemption", text, "canary: false; preempted work is requeued by Slurm, without its last batch"
        )
    ]


def _requeueing(seen: Evidence) -> list[Finding]:
    told = seen.told["node"]
    if "requeue-refused" in told.facts:
        text = f"refused: {told.facts['requeue-refused']}"
        fix = "nothing: what is stopped is submitted again by the last job; `heal: 2` or more in the run's execution"
        return [Finding("weak", "requeue", text, fix)]
    if told.state == "requeued":
        return [Finding("ok", "requeue", "a job may requeue itself")]
    if "asks-requeue" in told.facts:
        return [Finding("unknown", "requeue", "asked for, but the job was not seen in the queue again")]
    return []


def _last_job(seen: Evidence) -> list[Finding]:
    facts = seen.told["final"].facts
    if "nested" in facts:
        return [Finding("ok", "sbatch from nodes", "accepted: the last job submits what is missing")]
    if "nested-refused" in facts:
        fix = "nothing; but work that fails is submitted again by `foreshock resume` alone"
        return [Finding("weak", "sbatch from nodes", f"refused: {facts['nested-refused']}", fix)]
    return []
