"""Job logs: the lines that say what went wrong, and where one attempt ends and the next begins."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_ATTEMPT = re.compile(
    r"^\[foreshock (?P<when>[\d: -]+)\] === job (?P<job>\S+) attempt (?P<attempt>\d+) on (?P<node>\S+)"
)
_OWN = re.compile(r"^\[foreshock [\d: -]+\] ")
_NOISE = re.compile(r"^slurmstepd.*DUE TO (JOB REQUEUE|PREEMPTION)|^srun: (Job step|Terminated)|^\s*$|^Terminated$")
_TAIL_BYTES = 256 * 1024
_CAUSES = (
    (re.compile(r"NVRM: Xid|\bXid\b.*\b\d+\b"), "the GPU reported a fault"),
    (re.compile(r"uncorrectable ECC|ECC error", re.IGNORECASE), "the GPU's memory failed"),
    (re.compile(r"fallen off the bus|unspecified launch failure|GPU is lost"), "the GPU failed"),
    (re.compile(r"driver version is insufficient|driver .*too old", re.IGNORECASE), "the node's driver is too old"),
    (re.compile(r"[Nn]o CUDA GPUs are available|no CUDA-capable device"), "the job saw no GPU"),
    (re.compile(r"\bNCCL (WARN|error)|\bnccl(System|UnhandledCuda|Internal|Remote)Error|NCCL watchdog"), "NCCL failed"),
    (re.compile(r"oom[-_]kill|Out of memory: Killed", re.IGNORECASE), "the node ran out of memory"),
    (re.compile(r"No space left on device|Disk quota exceeded"), "a disk is full"),
    (re.compile(r"Stale file handle|Transport endpoint is not connected|Input/output error"), "a file system failed"),
)
"""What faults of nodes look like in logs, worst first; often far above the traceback that they end in."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt's part of a log."""

    number: int
    node: str
    started: str
    lines: tuple[str, ...]


def read_attempts(path: Path) -> list[Attempt]:
    """Attempts in a log, oldest first. What stands before the first mark belongs to no attempt and is left out."""
    attempts: list[Attempt] = []
    head: re.Match[str] | None = None
    lines: list[str] = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        match = _ATTEMPT.match(line)
        if match is None:
            lines.append(line)
            continue
        if head is not None:
            attempts.append(Attempt(int(head["attempt"]), head["node"], head["when"], tuple(lines)))
        head, lines = match, []
    if head is not None:
        attempts.append(Attempt(int(head["attempt"]), head["node"], head["when"], tuple(lines)))
    return attempts


def meaningful(lines: Sequence[str], most: int = 15) -> list[str]:
    """The last lines that say something: what the program wrote, else what the host side wrote."""
    kept = [line.rstrip() for line in lines if not _NOISE.search(line)]
    program = [line for line in kept if not _OWN.match(line)]
    return (program or kept)[-most:]


def cause(lines: Sequence[str]) -> str | None:
    """The first line that names a fault of the node (GPU, NCCL, memory, disk), and what it means; None without one."""
    for pattern, meaning in _CAUSES:
        for line in lines:
            if pattern.search(line):
                return f"{meaning}: {line.strip()}"
    return None


def failure_text(path: Path) -> str | None:
    """A log's last attempt: what fault of the node it names, then its last meaningful lines; None without any."""
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - _TAIL_BYTES))
            lines = file.read().decode("utf-8", errors="replace").splitlines()
    except OSError:
        return None
    starts = [i for i, line in enumerate(lines) if _ATTEMPT.match(line)]
    own = lines[starts[-1] + 1 :] if starts else lines
    last = meaningful(own)
    found = cause(own)
    return "\n".join([*([found] if found and found not in last else []), *last]) or None
