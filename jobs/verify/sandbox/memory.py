"""How many submissions fit into this machine's memory at a time.

Each may use up to its limit, so their sum is bounded by their number. The kernel's out-of-memory killer, which takes
submissions first (oom_score_adj), is for what else happens on the machine meanwhile.
"""

from __future__ import annotations

from pathlib import Path

from foreshock.jobs.verify.sandbox.limits import Limits

_SHARE = 0.75
_BESIDE_BYTES = 32 << 20
"""Socket buffers, page tables and the interpreter itself, which no address-space limit counts."""


def fitting(workers: int, limits: Limits, available: int | None) -> int:
    """At most `workers` and at least one, and so few that all at their limits fit into most of `available` bytes."""
    if available is None:
        return workers
    each = limits.memory_bytes + limits.temporary_bytes + _BESIDE_BYTES
    return max(1, min(workers, int(_SHARE * available) // each))


def available_bytes(proc: Path = Path("/proc"), control_groups: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Memory that this process may still take: what the machine has, and what its control groups leave.

    None where neither can be read.
    """
    found = [_available(proc / "meminfo"), *_room(proc / "self" / "cgroup", control_groups)]
    return min((one for one in found if one is not None), default=None)


def _available(file: Path) -> int | None:
    try:
        lines = dict(line.split(":", 1) for line in file.read_text().splitlines() if ":" in line)
        return int(lines["MemAvailable"].split()[0]) << 10
    except (OSError, ValueError, KeyError, IndexError):
        return None


def _room(membership: Path, root: Path) -> list[int | None]:
    """What each memory control group of this process, and each above it, leaves: limit less what is in use."""
    try:
        lines = [line.split(":", 2) for line in membership.read_text().splitlines()]
    except OSError:
        return []
    rooms = []
    for line in lines:
        if len(line) != 3:
            continue
        _, controllers, path = line
        if controllers == "":
            top, limit, use, cache = root, "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            top, limit, use = root / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
            cache = "total_inactive_file"
        else:
            continue
        folder = top / path.lstrip("/")
        for group in (folder, *folder.parents):
            if not group.is_relative_to(top):
                break
            rooms.append(_left(group, limit, use, cache))
    return rooms


def _left(group: Path, limit: str, use: str, cache: str) -> int | None:
    try:
        most = int((group / limit).read_text())
        used = int((group / use).read_text())
        counts = dict(line.split(None, 1) for line in (group / "memory.stat").read_text().splitlines())
        return most - used + int(counts.get(cache, 0))
    except (OSError, ValueError):
        return None  # no such group, or "max": no limit
