"""The questions that foreshock asks of Slurm, and the two things that it tells running jobs.

Every question is one process for a whole run and names the jobs that it is about, so that other jobs of the user
cannot get in the way and watching costs the controller next to nothing. What Slurm does not answer is an error or
None, never "no jobs".
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from foreshock.slurm.call import SlurmError, run_command
from foreshock.slurm.profile import Profile
from foreshock.slurm.states import SACCT_FORMAT, SQUEUE_FORMAT, JobRecord, parse_sacct, parse_squeue

FACTS_VARIABLE = "FORESHOCK_SLURM_FACTS"
"""Folder in which the host side of a job leaves Slurm's answers for a program in an image, where Slurm is not."""

_NAMES_A_QUERY = 200
_CLOCKS_DIFFER = timedelta(hours=2)


@dataclass(frozen=True, slots=True)
class SiteLimits:
    """What the site allows: elements of an array, jobs that the user may still queue (None: no limit known)."""

    max_array_size: int
    max_submit: int | None


def queued_jobs(names: Iterable[str], *, ended: bool = False) -> list[JobRecord]:
    """The user's pending and running jobs called `names`, one record an array element.

    With `ended` also those that the controller still remembers (minutes, as a rule). Raises SlurmError.
    """
    wanted = frozenset(names)
    text = _facts("queue")
    if text is None:
        argv = ["squeue", "--noheader", "--array", "--user", _user(), "--format", SQUEUE_FORMAT]
        argv += ["--states", "all"] if ended else []
        text = "\n".join(run_command([*argv, "--name", some]) for some in _batches(wanted))
    return [record for record in parse_squeue(text) if record.name in wanted]


def ended_jobs(names: Iterable[str], since: datetime) -> list[JobRecord] | None:
    """What accounting knows of the jobs called `names`, all attempts, oldest first; None without an answer."""
    wanted = frozenset(names)
    if not wanted or shutil.which("sacct") is None:
        return None
    start = (since.astimezone(UTC) - _CLOCKS_DIFFER).strftime("%Y-%m-%dT%H:%M:%S")
    argv = ["sacct", "--noheader", "--parsable2", "--allocations", "--duplicates", "--format", SACCT_FORMAT]
    argv += ["--starttime", start, "--user", _user(), "--name"]
    try:
        text = "\n".join(run_command([*argv, some]) for some in _batches(wanted))
    except SlurmError:
        return None
    return [record for record in parse_sacct(text) if record.name in wanted]


def count_queued() -> int:
    """Jobs that the user has in the queue, array elements counted. Raises SlurmError."""
    argv = ["squeue", "--noheader", "--array", "--user", _user(), "--format", SQUEUE_FORMAT]
    return len(run_command(argv).splitlines())


def site_limits(profile: Profile) -> SiteLimits:
    """From the profile, else from the controller and accounting, less what is queued already. Raises SlurmError."""
    told = _facts("limits")
    if told is not None:
        return _limits_of_facts(profile, told)
    size = profile.max_array_size
    if size is None:
        match = re.search(r"^MaxArraySize\s*=\s*(\d+)", run_command(["scontrol", "show", "config"]), re.MULTILINE)
        size = int(match.group(1)) if match else 1001
    limit = profile.max_submit or _accounting_submit_limit(profile.qos)
    return SiteLimits(size, None if limit is None else max(0, limit - count_queued()))


def _accounting_submit_limit(qos: str | None) -> int | None:
    """The smallest of the user's associations' and the QOS's submit limits."""
    if shutil.which("sacctmgr") is None:
        return None
    show = ["sacctmgr", "--noheader", "--parsable2", "show"]
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
        lines = run_command([*show, "assoc", f"user={user}", "format=MaxSubmit,DefaultQOS"]).splitlines()
        fields = [line.split("|") for line in lines if "|" in line]
        wanted = qos or next((f[1] for f in fields if f[1]), "normal")
        lines = [f[0] for f in fields] + run_command([*show, "qos", wanted, "format=MaxSubmitPU"]).splitlines()
    except (SlurmError, KeyError):
        return None
    return _smallest(lines)


def _limits_of_facts(profile: Profile, told: str) -> SiteLimits:
    """From lines `array N`, `queued N` and `submit N` of a job's host side; what it could not ask is absent."""
    facts: dict[str, list[str]] = {}
    for line in told.splitlines():
        name, _, value = line.partition(" ")
        facts.setdefault(name, []).append(value)
    limit = profile.max_submit or _smallest(facts.get("submit", ()))
    size = profile.max_array_size or _smallest(facts.get("array", ())) or 1001
    return SiteLimits(size, None if limit is None else max(0, limit - (_smallest(facts.get("queued", ())) or 0)))


def _smallest(texts: Sequence[str]) -> int | None:
    return min((int(text) for text in texts if text.strip().isdigit()), default=None)


def cancel_jobs(names: Iterable[str]) -> None:
    """Take what is queued off the queue, and tell what runs to finish its batch and leave. Raises SlurmError."""
    for name in names:  # one at a time: to scancel a comma is part of a name
        run_command(["scancel", "--user", _user(), "--name", name, "--state", "PENDING"])
        argv = ["scancel", "--user", _user(), "--name", name, "--state", "RUNNING", "--batch", "--signal", "USR1"]
        run_command(argv)


def _user() -> str:
    return str(os.getuid())  # LOGNAME and USER are anybody's to set


def _batches(names: Iterable[str]) -> Iterator[str]:
    """Comma-separated lists that fit on a command line."""
    ordered = sorted(names)
    for start in range(0, len(ordered), _NAMES_A_QUERY):
        yield ",".join(ordered[start : start + _NAMES_A_QUERY])


def _facts(name: str) -> str | None:
    folder = os.environ.get(FACTS_VARIABLE)
    if not folder or shutil.which("squeue") is not None:
        return None
    try:
        return (Path(folder) / name).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
