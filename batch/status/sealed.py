"""What a run's sealed shards hold: from the logs of those who sealed them, remembered between two looks at the run.

The manifests of 100,000 shards take seconds to read, and on a network file system minutes. What was read is kept in
one file of the run; an entry serves as long as its shard has the size and time of change that it was sealed with, which
is what a manifest would say as well. Deleting logs or file costs time and nothing else.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from typing import Any

from foreshock.durable import atomic_write_bytes
from foreshock.jobs.records.layout import RunLayout, shard_folder_name
from foreshock.jobs.records.sealed_log import (
    Sealed,
    read_sealed_log,
    sealed_columns,
    sealed_logs,
    sealed_of_columns,
)
from foreshock.jobs.records.shards import ShardStore
from foreshock.jobs.records.spec import SAMPLED_KINDS, JobKind, JobSpec

_WORTH = 500
"""New entries that are worth a file: smaller runs are read at once."""
_FORMAT = 6


class SealedShards:
    """Sealed shards of a run, by spec."""

    def __init__(self, layout: RunLayout) -> None:
        self._store = ShardStore(layout)
        self._roots = {kind: f"{layout.shards}/{kind.value}/" for kind in JobKind}
        self._file = layout.progress / "sealed-shards.json"
        self._known, read = _read(layout)
        self._logs = sealed_logs(layout)
        self._seen: dict[str, Sealed | None] = {}
        self._n_new = 0
        for name, size in self._logs.items():
            if read.get(name) != size:
                entries = dict(read_sealed_log(layout, name))
                self._n_new += len(entries)
                self._known.update(entries)

    def find(self, spec: JobSpec, folder: str | None = None) -> Sealed | None:
        """None unless the shard is complete and as it was sealed. Each is looked at once.

        `folder`: `shard_folder_name` of the spec, from those who have it at hand.
        """
        key = spec.key()
        if key not in self._seen:
            self._seen[key] = self.bundled(key) or self._look(spec, key, folder or _folder(spec))
        return self._seen[key]

    def bundled(self, key: str) -> Sealed | None:
        """What a bundle says of a shard; None if it is in none that is as it was written."""
        found = self._store.bundles.known.get(key)
        if found is None or not found.bundle.is_as_written:
            return None
        return found.sealed

    def is_complete(self, spec: JobSpec) -> bool:
        """As `ShardStore.is_complete`."""
        found = self.find(spec)
        return found is not None and found.n_errors == 0

    def tokens_per_second(self) -> float | None:
        """Over all shards looked at; None where nothing was sampled."""
        found = self._found()
        tokens, seconds = sum(shard.output_tokens for shard in found), sum(shard.generate_s for shard in found)
        return tokens / seconds if tokens and seconds else None

    def prefix_hit_rate(self) -> float | None:
        """None where no engine counted."""
        found = self._found()
        asked = sum(shard.prefix_queries for shard in found)
        return sum(shard.prefix_hits for shard in found) / asked if asked else None

    def _found(self) -> list[Sealed]:
        return [shard for shard in self._seen.values() if shard is not None]

    def keep(self) -> None:
        """Write down what was found, if that is worth it and the run's folder is ours to write to."""
        bundled = self._store.bundles.known
        kept = {key: found for key, found in self._seen.items() if found is not None and key not in bundled}
        if self._n_new < _WORTH and len(self._known) < len(kept) + _WORTH:  # nor would many entries go
            return
        with suppress(OSError):
            atomic_write_bytes(self._file, _encode(kept, self._logs))
            self._n_new = 0

    def _look(self, spec: JobSpec, key: str, folder: str) -> Sealed | None:
        known = self._known.get(key)
        if known is not None:
            path = f"{self._roots[spec.kind]}{folder}/{spec.shard_index:05d}-{key[:12]}.jsonl"
            with suppress(OSError):
                now = os.stat(path)  # noqa: PTH116 - 100,000 Paths take a second to make
                if now.st_size == known.size and now.st_mtime_ns == known.mtime_ns:
                    return known
        manifest = self._store.manifest(spec)
        if manifest is None:
            return None
        self._n_new += 1
        return manifest.sealed()


def _folder(spec: JobSpec) -> str:
    return shard_folder_name(spec.checkpoint.name, spec.levels[0] if spec.kind in SAMPLED_KINDS else None)


def _encode(kept: dict[str, Sealed], logs: dict[str, int]) -> bytes:
    document = {"format": _FORMAT, "logs": logs, "keys": list(kept), "columns": sealed_columns(list(kept.values()))}
    return json.dumps(document).encode()


def _read(layout: RunLayout) -> tuple[dict[str, Sealed], dict[str, int]]:
    """What was kept, and the sizes of the logs that are in it; empty where this version wrote nothing."""
    try:
        data: Any = json.loads((layout.progress / "sealed-shards.json").read_bytes())
        if data["format"] != _FORMAT:
            return {}, {}
        return dict(zip(data["keys"], sealed_of_columns(data["columns"]), strict=True)), dict(data["logs"])
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return {}, {}
