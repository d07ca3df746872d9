"""States of jobs and tasks, and reading them from squeue and sacct.

What these commands print is not ours to choose: a user's other jobs, newer Slurm's states, lines of several clusters.
A line that is not a job of ours in a form we know is passed over; a state that we do not know is `UNKNOWN`, which is
not an end.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

_ARRAY = re.compile(r"^(?P<job>\d+)_\[(?P<ranges>[^\]%]+)(?:%\d+)?\]$")
_ALIASES = {
    "BOOT_FAIL": "NODE_FAIL",
    "LAUNCH_FAILED": "NODE_FAIL",
    "DEADLINE": "TIMEOUT",
    "REVOKED": "CANCELLED",
    "CONFIGURING": "RUNNING",
    "COMPLETING": "RUNNING",
    "RESIZING": "RUNNING",
    "SIGNALING": "RUNNING",
    "STAGE_OUT": "RUNNING",
    "STOPPED": "RUNNING",
    "SUSPENDED": "RUNNING",
    "POWER_UP_NODE": "RUNNING",
    "REQUEUED": "PENDING",
    "REQUEUE_FED": "PENDING",
    "REQUEUE_HOLD": "PENDING",
    "RESV_DEL_HOLD": "PENDING",
    "RECONFIG_FAIL": "FAILED",
    "SPECIAL_EXIT": "PENDING",
    "EXPEDITING": "PENDING",
}


class JobState(StrEnum):
    """Where a task is in its life. COMPLETED means that its work is whole, not only that a process ended.

    UNKNOWN: Slurm did not answer, or with a state that this version does not know.
    """

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    TIMEOUT = "TIMEOUT"
    PREEMPTED = "PREEMPTED"
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    NODE_FAIL = "NODE_FAIL"
    CANCELLED = "CANCELLED"
    UNKNOWN = "UNKNOWN"

    @property
    def is_final(self) -> bool:
        """Whether nothing more will happen without a new submission."""
        return self not in (JobState.PENDING, JobState.RUNNING, JobState.UNKNOWN)


@dataclass(frozen=True, slots=True)
class JobRecord:
    """One job or array element as Slurm tells it. `element` is None for a job that is not an array.

    `elapsed_s` is of the current or last attempt, `waited_s` from its submission to its start; `said` is the state in
    Slurm's own words.
    """

    job_id: int
    element: int | None
    name: str
    state: JobState
    exit_code: int | None = None
    elapsed_s: int = 0
    node: str | None = None
    reason: str | None = None
    said: str = ""
    waited_s: int = 0


def parse_state(text: str) -> JobState:
    """A state as squeue or sacct print it, e.g. `CANCELLED by 1000` or, cut, `OUT_OF_ME+`; UNKNOWN for any other."""
    word = text.split()[0].rstrip("+") if text.strip() else ""
    word = _ALIASES.get(word, word)
    try:
        return JobState(word)
    except ValueError:
        full = [state.value for state in JobState if state is not JobState.UNKNOWN] + list(_ALIASES)
        matches = {_ALIASES.get(name, name) for name in full if word and name.startswith(word)}
        return JobState(matches.pop()) if len(matches) == 1 else JobState.UNKNOWN  # sacct cuts long names


def parse_elapsed(text: str) -> int:
    """Seconds from [D-]HH:MM:SS or MM:SS; 0 for what Slurm prints when nothing has run."""
    match = re.match(r"^(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)(?:\.\d+)?$", text.strip())
    if match is None:
        return 0
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def expand_job_id(text: str) -> Iterator[tuple[int, int | None]]:
    """(job, element) pairs of an id: `7`, `7_3`, or the pending rest of an array, `7_[0-2,5%4]`.

    Raises ValueError for anything else: steps (`7.batch`), parts of heterogeneous jobs (`7+0`).
    """
    match = _ARRAY.match(text)
    if match is not None:
        for part in match["ranges"].split(","):
            span, _, step = part.partition(":")
            low, _, high = span.partition("-")
            for element in range(int(low), int(high or low) + 1, int(step or 1)):
                yield int(match["job"]), element
        return
    plain = re.fullmatch(r"(?P<job>\d+)(?:_(?P<element>\d+))?", text, re.ASCII)
    if plain is None:
        raise ValueError(f"{text!r} is not the id of a job or of an array's elements")
    yield int(plain["job"]), None if plain["element"] is None else int(plain["element"])


SQUEUE_FORMAT = "%i|%j|%T|%M|%N|%r"
SACCT_FORMAT = "JobID,JobName,State,ExitCode,ElapsedRaw,NodeList,Submit,Start"
_TIME = re.compile(r"\d{4}-\d\d-\d\dT[\d:]+|Unknown|None")
_LAST_SIGNAL = 64
"""Above it stands what is no signal: 0:125 marks memory that ran out, sometimes of a job that did all it should."""
_NO_NODE = ("", "(null)", "None assigned")


def parse_squeue(text: str) -> list[JobRecord]:
    """Records from `squeue -h -o SQUEUE_FORMAT` (`-r` or not).

    Lines that are no job of that form are passed over. A `|` in a name is the name's: the fields after it hold none.
    """
    records = []
    for line in text.splitlines():
        job, bar, rest = line.partition("|")
        fields = [field.strip() for field in rest.rsplit("|", 4)]
        if not bar or len(fields) != 5:
            continue
        name, state, elapsed, nodes, reason = fields
        records += [
            JobRecord(
                job_id,
                element,
                name,
                parse_state(state),
                None,
                parse_elapsed(elapsed),
                None if nodes in _NO_NODE else nodes,
                reason,
                state,
            )
            for job_id, element in _pairs(job)
        ]
    return records


def parse_sacct(text: str) -> list[JobRecord]:
    """Records from `sacct -n -P -X -D -o SACCT_FORMAT`, with or without its last column.

    With -D, attempts of a job follow each other, oldest first.
    """
    ends: dict[tuple[int, int | None], datetime] = {}
    records = []
    for line in text.splitlines():
        job, bar, rest = line.partition("|")
        started = ""
        if bar and all(_TIME.fullmatch(field) for field in rest.rsplit("|", 2)[1:]):
            rest, _, started = rest.rpartition("|")
        fields = rest.rsplit("|", 5)
        if not bar or len(fields) != 6:
            continue
        name, state, code, elapsed, nodes, submitted = fields
        status, _, signal = code.partition(":")
        by_signal = 128 + _whole(signal) if 0 < _whole(signal) <= _LAST_SIGNAL else 0
        exit_code = _whole(status) or by_signal
        node = None if nodes in _NO_NODE else nodes
        records += [
            JobRecord(
                job_id,
                element,
                name,
                parse_state(state),
                exit_code,
                _whole(elapsed),
                node,
                None,
                state,
                _waited(ends, (job_id, element), submitted, started, _whole(elapsed)),
            )
            for job_id, element in _pairs(job)
        ]
    return records


def _pairs(job: str) -> list[tuple[int, int | None]]:
    try:
        return list(expand_job_id(job.strip()))
    except ValueError:
        return []


def _waited(
    ends: dict[tuple[int, int | None], datetime],
    job: tuple[int, int | None],
    submitted: str,
    started: str,
    elapsed_s: int,
) -> int:
    """Seconds in the queue before an attempt; 0 where Slurm knows no time (`Unknown`, `None`).

    A requeued attempt waits from the end of the one before it, which `ends` holds and is told of this one's.
    """
    try:
        begun, since = datetime.fromisoformat(started), datetime.fromisoformat(submitted)
    except ValueError:
        return 0
    since = max(since, ends.get(job, since))
    ends[job] = begun + timedelta(seconds=elapsed_s)
    return max(0, round((begun - since).total_seconds()))


def _whole(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() else 0
