"""Slurm's command line: run a command, and the few questions that foreshock asks.

Every question is one process for a whole run and is asked for the user's own jobs only, so that watching a run costs
the controller next to nothing. What cannot be answered is None, never a guess.
"""

from __future__ import annotations

import getpass
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from foreshock.errors import ForeshockError
from foreshock.slurm.profile import Profile
from foreshock.slurm.states import SACCT_FORMAT, SQUEUE_FORMAT, JobRecord, parse_sacct, parse_squeue

_TIMEOUT_S = 60


class SlurmError(ForeshockError):
    """A Slurm command failed; the message quotes it."""


@dataclass(frozen=True, slots=True)
class SiteLimits:
    """What the site allows: elements of an array, jobs in the queue (None: no limit known), GPUs at hand."""

    max_array_size: int
    max_submit: int | None


def run_command(argv: Sequence[str]) -> str:
    """Standard output of a Slurm command. Raises SlurmError if it is absent, hangs or fails."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except FileNotFoundError:
        raise SlurmError(
            f"{argv[0]} is not on PATH: this machine does not talk to a Slurm cluster\n"
            "  -> run on a login node, or `foreshock plan --emit-sbatch DIR` and submit the scripts from one"
        ) from None
    except subprocess.TimeoutExpired:
        raise SlurmError(f"`{' '.join(argv)}` gave no answer within {_TIMEOUT_S} s; is the controller up?") from None
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
        raise SlurmError(f"`{' '.join(argv[:6])}` failed with exit code {done.returncode}: {said}")
    return done.stdout


def queued_jobs(prefix: str) -> list[JobRecord]:
    """The user's pending and running jobs whose name starts with `prefix`, one record an array element."""
    text = run_command(["squeue", "--noheader", "--array", "--user", getpass.getuser(), "--format", SQUEUE_FORMAT])
    return [record for record in parse_squeue(text) if record.name.startswith(prefix)]


def ended_jobs(names: Iterable[str], since: datetime) -> list[JobRecord] | None:
    """What accounting knows of the jobs called `names`, all attempts, oldest first; None without accounting."""
    wanted = ",".join(names)
    if not wanted or shutil.which("sacct") is None:
        return None
    argv = ["sacct", "--noheader", "--parsable2", "--allocations", "--duplicates", "--format", SACCT_FORMAT]
    argv += ["--name", wanted, "--starttime", since.strftime("%Y-%m-%dT%H:%M:%S"), "--user", getpass.getuser()]
    try:
        return parse_sacct(run_command(argv))
    except SlurmError:
        return None


def count_queued() -> int:
    """Jobs that the user has in the queue, array elements counted."""
    text = run_command(["squeue", "--noheader", "--array", "--user", getpass.getuser(), "--format", "%i"])
    return len(text.split())


def site_limits(profile: Profile) -> SiteLimits:
    """From the profile, else from the controller and accounting, less what is queued already."""
    size = profile.max_array_size
    if size is None:
        match = re.search(r"^MaxArraySize\s*=\s*(\d+)", run_command(["scontrol", "show", "config"]), re.MULTILINE)
        size = int(match.group(1)) if match else 1001
    limit = profile.max_submit or _accounting_submit_limit(profile.qos)
    return SiteLimits(size, None if limit is None else max(0, limit - count_queued()))


def _accounting_submit_limit(qos: str | None) -> int | None:
    """The smallest of the user's association's and the QOS's submit limits."""
    if shutil.which("sacctmgr") is None:
        return None
    user = getpass.getuser()
    show = ["sacctmgr", "--noheader", "--parsable2", "show"]
    try:
        lines = run_command([*show, "assoc", f"user={user}", "format=MaxSubmit,DefaultQOS"]).splitlines()
        fields = [line.split("|") for line in lines if "|" in line]
        wanted = qos or next((f[1] for f in fields if f[1]), "normal")
        lines = [f[0] for f in fields] + run_command([*show, "qos", wanted, "format=MaxSubmitPU"]).splitlines()
    except SlurmError:
        return None
    found = [int(text) for text in lines if text.strip().isdigit()]
    return min(found, default=None)


def cancel_jobs(names: Iterable[str]) -> None:
    """Take what is queued off the queue, and tell what runs to finish its batch and leave."""
    user = getpass.getuser()
    for name in names:
        run_command(["scancel", "--user", user, "--name", name, "--state", "PENDING"])
        run_command(["scancel", "--user", user, "--name", name, "--state", "RUNNING", "--batch", "--signal", "USR1"])
