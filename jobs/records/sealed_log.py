"""What each process sealed, line by line, so that a large run's state is read from few files instead of all manifests.

A courtesy: an entry counts only where the shard still has the size and time of change that it was sealed with. What
is lost (a torn line, a full disk, a deleted file) is read from the manifest instead.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator, Sequence
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


_SHARED = ("git_commit", "behaviour", "ran")


def sealed_columns(shards: Sequence[Sealed]) -> dict[str, Any]:
    """As JSON by column, and what many shards have in common once: a third of the time to read of one list a shard."""
    values = map(list, zip(*shards, strict=True)) if shards else ([] for _ in Sealed._fields)
    columns: dict[str, Any] = dict(zip(Sealed._fields, values, strict=True))
    for name in _SHARED:
        texts = list(map(repr, columns[name]))
        distinct = dict(zip(texts, columns[name], strict=True))
        numbers = {text: number for number, text in enumerate(distinct)}
        columns[name] = {"distinct": list(distinct.values()), "numbers": [numbers[text] for text in texts]}
    return columns


def sealed_of_columns(data: dict[str, Any]) -> list[Sealed]:
    """Inverse of `sealed_columns`. Raises KeyError, IndexError, TypeError or ValueError for other data."""
    columns = dict(data)
    for name in _SHARED:
        distinct = columns[name]["distinct"]
        columns[name] = [distinct[number] for number in columns[name]["numbers"]]
    return list(map(Sealed._make, zip(*(columns[name] for name in Sealed._fields), strict=True)))


def log_sealed(layout: RunLayout, key: str, sealed: Sealed) -> None:
    """Add a line to this process's file. Whatever stands in the way must not stop the work."""
    line = json.dumps([key, *sealed], separators=(",", ":")) + "\n"
    with suppress(OSError):
        folder = _folder(layout)
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / own_log()).open("ab", buffering=0) as file:
            file.write(line.encode())


def own_log() -> str:
    """Name of this process's file."""
    return f"{socket.gethostname()}-{os.getpid()}.jsonl"


def drop_log(layout: RunLayout, name: str, needless: Callable[[str], bool]) -> None:
    """Remove a file if all that it says is known elsewhere, as `needless` tells of spec keys."""
    if name in sealed_logs(layout) and all(needless(key) for key, _ in read_sealed_log(layout, name)):
        with suppress(OSError):
            (_folder(layout) / name).unlink()


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
