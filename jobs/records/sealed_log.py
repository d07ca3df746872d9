"""What each process sealed, line by line, so that a large run's state is read from few files instead of all manifests.

A courtesy: an entry counts only where the shard still has the size and time of change that it was sealed with. What
is lost (a torn line, a full disk, a deleted file) is read from the manifest instead.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from foreshock.jobs.records.layout import RunLayout


class Sealed(NamedTuple):
    """What `status` says of a sealed shard; see `ShardManifest`. `behaviour` counts rows."""

    size: int | None
    mtime_ns: int
    n_errors: int
    n_exploits: int
    git_commit: str | None
    behaviour: dict[str, list[int]]
    ran: str | None
    output_tokens: float
    generate_s: float
    prefix_queries: float
    prefix_hits: float
    """Tokens sampled, seconds that took, prompt tokens looked for in the prefix cache, those found there."""


def log_sealed(layout: RunLayout, key: str, sealed: Sealed) -> None:
    """Add a line to this process's file. Whatever stands in the way must not stop the work."""
    line = json.dumps([key, *sealed], separators=(",", ":")) + "\n"
    with suppress(OSError):
        folder = _folder(layout)
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f"{socket.gethostname()}-{os.getpid()}.jsonl").open("ab", buffering=0) as file:
            file.write(line.encode())


def sealed_logs(layout: RunLayout) -> dict[str, int]:
    """The files by name, with their sizes; none where the folder cannot be read."""
    try:
        with os.scandir(_folder(layout)) as entries:
            return {entry.name: entry.stat().st_size for entry in entries if entry.name.endswith(".jsonl")}
    except OSError:
        return {}


def read_sealed_log(layout: RunLayout, name: str) -> Iterator[tuple[str, Sealed]]:
    """Spec keys with what was sealed, oldest first. Lines that are not whole are left out."""
    try:
        lines = (_folder(layout) / name).read_bytes().split(b"\n")[:-1]
    except OSError:
        return
    for key, *values in _parse(lines):
        if len(values) == len(Sealed._fields) and isinstance(key, str):
            yield key, Sealed._make(values)


def _parse(lines: list[bytes]) -> Iterator[list[Any]]:
    try:
        yield from json.loads(b"[" + b",".join(lines) + b"]")  # together: half the time of one by one
        return
    except ValueError:
        pass
    for line in lines:
        with suppress(ValueError):
            found = json.loads(line)
            if isinstance(found, list) and found:
                yield found


def _folder(layout: RunLayout) -> Path:
    return layout.progress / "sealed"
