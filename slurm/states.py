"""States of jobs and tasks, and reading them from squeue and sacct.

One query per look, for a whole run. `squeue` knows what is queued or running, `sacct` what has ended; without
accounting a job that squeue no longer lists has ended in a way nobody can tell, and the store alone says whether its
work is there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

_ARRAY = re.compile(r"^(?P<job>\d+)_\[(?P<ranges>[^\]%]+)(?:%\d+)?\]$")
_ALIASES = {
    "BOOT_FAIL": "NODE_FAIL",
    "DEADLINE": "TIMEOUT",
    "REVOKED": "CANCELLED",
    "CONFIGURING": "RUNNING",
    "COMPLETING": "RUNNING",
    "RESIZING": "RUNNING",
    "SIGNALING": "RUNNING",
    "STAGE_OUT": "RUNNING",
    "STOPPED": "RUNNING",
    "SUSPENDED": "RUNNING",
    "REQUEUED": "PENDING",
    "REQUEUE_FED": "PENDING",
    "REQUEUE_HOLD": "PENDING",
    "RESV_DEL_HOLD": "PENDING",
    "SPECIAL_EXIT": "PENDING",
}


class JobState(StrEnum):
    """Where a task is in its life. COMPLETED means that its work is whole, not only that a process ended."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    TIMEOUT = "TIMEOUT"
    PREEMPTED = "PREEMPTED"
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    NODE_FAIL = "NODE_FAIL"
    CANCELLED = "CANCELLED"

    @property
    def is_final(self) -> bool:
        """Whether nothing more will happen without a new submission."""
        return self not in (JobState.PENDING, JobState.RUNNING)


@dataclass(frozen=True, slots=True)
class JobRecord:
    """One job or array element as Slurm tells it. `element` is None for a job that is no array.

    `restarts` counts earlier attempts known to the source; `elapsed_s` is of the current or last attempt.
    """

    job_id: int
    element: int | None
    name: str
    state: JobState
    exit_code: int | None = None
    elapsed_s: int = 0
    node: str | None = None
    reason: str | None = None


def parse_state(text: str) -> JobState:
    """A state as squeue or sacct print it, e.g. `CANCELLED by 1000`. Raises ValueError for an unknown one."""
    word = text.split()[0].rstrip("+") if text.strip() else ""
    word = _ALIASES.get(word, word)
    try:
        return JobState(word)
    except ValueError:
        full = [state.value for state in JobState] + list(_ALIASES)
        matches = {_ALIASES.get(name, name) for name in full if word and name.startswith(word)}
        if len(matches) == 1:  # sacct cuts long names
            return JobState(matches.pop())
        raise ValueError(f"unknown Slurm job state {text!r}; valid: {', '.join(full)}") from None


def parse_elapsed(text: str) -> int:
    """Seconds from [D-]HH:MM:SS or MM:SS; 0 for what Slurm prints when nothing has run."""
    match = re.match(r"^(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)(?:\.\d+)?$", text.strip())
    if match is None:
        return 0
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def expand_job_id(text: str) -> Iterator[tuple[int, int | None]]:
    """(job, element) pairs of an id: `7`, `7_3`, or the pending rest of an array, `7_[0-2,5%4]`.

    Raises ValueError for anything else; step ids (`7.batch`) are the caller's to leave out.
    """
    match = _ARRAY.match(text)
    if match is not None:
        for part in match["ranges"].split(","):
            span, _, step = part.partition(":")
            low, _, high = span.partition("-")
            for element in range(int(low), int(high or low) + 1, int(step or 1)):
                yield int(match["job"]), element
        return
    job, separator, element_text = text.partition("_")
    yield int(job), int(element_text) if separator else None


SQUEUE_FORMAT = "%i|%j|%T|%M|%N|%r"
SACCT_FORMAT = "JobID,JobName,State,ExitCode,ElapsedRaw,NodeList,Submit"


def parse_squeue(text: str) -> list[JobRecord]:
    """Records from `squeue -h -o SQUEUE_FORMAT` (`-r` or not)."""
    records = []
    for line in text.splitlines():
        if not line.strip():
            continue
        job, name, state, elapsed, nodes, reason = (field.strip() for field in line.split("|"))
        for job_id, element in expand_job_id(job):
            records.append(
                JobRecord(
                    job_id, element, name, parse_state(state), None, parse_elapsed(elapsed), nodes or None, reason
                )
            )
    return records


def parse_sacct(text: str) -> list[JobRecord]:
    """Records from `sacct -n -P -X -D -o SACCT_FORMAT`; with -D, attempts of a job follow each other, oldest first."""
    records = []
    for line in text.splitlines():
        if not line.strip():
            continue
        job, name, state, code, elapsed, nodes, _ = line.split("|")
        if "." in job or "+" in job:
            continue
        status, _, signal = code.partition(":")
        exit_code = int(status) or (128 + int(signal) if signal and int(signal) else 0)
        node = None if nodes in ("", "None assigned") else nodes
        for job_id, element in expand_job_id(job):
            records.append(JobRecord(job_id, element, name, parse_state(state), exit_code, int(elapsed or 0), node))
    return records
