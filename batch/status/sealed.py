"""What a run's sealed shards hold, remembered between two looks at the same run.

The manifests of 100,000 shards take seconds to read, and on a network file system minutes. What was read is kept in
one file of the run; an entry serves as long as its shard has the size and time of change that it was sealed with, which
is what a manifest would say as well. Deleting the file costs time and nothing else.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from typing import Any, NamedTuple

from foreshock.durable import atomic_write_bytes
from foreshock.jobs.records.layout import RunLayout, shard_folder_name, shard_name
from foreshock.jobs.records.shards import ShardStore
from foreshock.jobs.spec import JobSpec

_WORTH = 500
"""New entries that are worth a file: smaller runs are read at once."""
_FORMAT = 2
_SAMPLED = ("output_tokens", "generate_s", "prefix_queries", "prefix_hits")


class Sealed(NamedTuple):
    """What `status` says of a sealed shard; see `ShardManifest`. `compiles` and `behaviour` count rows."""

    size: int | None
    mtime_ns: int
    n_errors: int
    n_exploits: int
    git_commit: str | None
    behaviour: dict[str, list[int]]
    sampled: list[float]
    """Tokens sampled, seconds that took, prompt tokens looked for in the prefix cache, those found there."""


class SealedShards:
    """Sealed shards of a run, by spec."""

    def __init__(self, layout: RunLayout) -> None:
        self._store = ShardStore(layout)
        self._root = str(layout.shards)
        self._file = layout.progress / "sealed-shards.json"
        self._known: dict[str, Sealed] = _read(layout)
        self._seen: dict[str, Sealed | None] = {}
        self._n_new = 0

    def find(self, spec: JobSpec) -> Sealed | None:
        """None unless the shard is complete and as it was sealed. Each is looked at once."""
        key = spec.key()
        if key not in self._seen:
            self._seen[key] = self._look(spec, key)
        return self._seen[key]

    def is_complete(self, spec: JobSpec) -> bool:
        """As `ShardStore.is_complete`."""
        found = self.find(spec)
        return found is not None and found.n_errors == 0

    def tokens_per_second(self) -> float | None:
        """Over all shards looked at; None where nothing was sampled."""
        tokens, seconds = self._sum(0), self._sum(1)
        return tokens / seconds if tokens and seconds else None

    def prefix_hit_rate(self) -> float | None:
        """None where no engine counted."""
        asked = self._sum(2)
        return self._sum(3) / asked if asked else None

    def _sum(self, which: int) -> float:
        return sum(found.sampled[which] for found in self._seen.values() if found is not None)

    def keep(self) -> None:
        """Write down what was found, if that is worth it and the run's folder is ours to write to."""
        if self._n_new < _WORTH:
            return
        kept = {key: list(found) for key, found in self._seen.items() if found is not None}
        with suppress(OSError):
            atomic_write_bytes(self._file, json.dumps({"format": _FORMAT, "shards": kept}).encode())
            self._n_new = 0

    def _look(self, spec: JobSpec, key: str) -> Sealed | None:
        known = self._known.get(key)
        if known is not None:
            try:
                now = os.stat(  # noqa: PTH116 - 100,000 Paths take a second to make
                    f"{self._root}/{spec.kind.value}/{shard_folder_name(spec)}/{shard_name(spec)}"
                )
            except OSError:
                return None
            if now.st_size == known.size and now.st_mtime_ns == known.mtime_ns:
                return known
        manifest = self._store.manifest(spec)
        if manifest is None:
            return None
        self._n_new += 1
        return Sealed(
            manifest.size,
            manifest.mtime_ns or 0,
            manifest.n_errors,
            manifest.n_exploits or 0,
            manifest.git_commit,
            manifest.behaviour or {},
            [manifest.timings.get(name, 0.0) for name in _SAMPLED],
        )


def _read(layout: RunLayout) -> dict[str, Sealed]:
    """Empty where there is nothing, or nothing that this version wrote."""
    try:
        data: Any = json.loads((layout.progress / "sealed-shards.json").read_bytes())
        if data["format"] != _FORMAT:
            return {}
        return {key: Sealed(*values) for key, values in data["shards"].items()}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
