"""Joining a large run's sealed shards into bundles.

Any process may do it at any time with shards that are complete. Two that take the same ones write both, which costs
room and nothing else. Whatever goes wrong (no room, a file that changes meanwhile) leaves the shards as they were.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path

from foreshock.durable import sweep_temporaries, sync_directory
from foreshock.errors import ForeshockError, InputError
from foreshock.jobs.records.bundles import Bundle, Member, in_chunks, write_bundle
from foreshock.jobs.records.layout import RunLayout
from foreshock.jobs.records.sealed_log import drop_log, own_log, sealed_logs
from foreshock.jobs.records.shards import ShardManifest, ShardStore, checksum_holds
from foreshock.jobs.records.spec import JobKind, JobSpec

MOST_SHARDS = 256
MOST_BYTES = 1 << 30
"""Of one bundle."""

LARGEST_SHARD = 1 << 26
"""Larger ones stay alone: they are held whole while they are bundled, and there cannot be many."""

_LEFT = 8
"""This part of a full bundle is worth one at a task's end; less is left to the run's end, which has that of all."""


def shards_at_once(bundle_from: int) -> int:
    """Sealed shards that a worker waits for before it bundles them: an eighth of what makes a run large."""
    return max(2, min(MOST_SHARDS, bundle_from // 8))


class Bundling:
    """Bundles the shards of one worker as they are sealed. `say` is told what went wrong."""

    def __init__(
        self, store: ShardStore, specs: Sequence[JobSpec], bundle_from: int, say: Callable[[str], None]
    ) -> None:
        self._store = store
        self._specs = specs
        self._at_once = shards_at_once(bundle_from)
        self._say = say
        self._n_sealed = 0

    def sealed(self, n_specs: int) -> None:
        """So many more may have been sealed."""
        self._n_sealed += n_specs
        if self._n_sealed >= self._at_once:
            self._n_sealed = 0
            self.join()

    def join(self) -> None:
        """Bundle what is sealed, if it is worth it."""
        bundle_shards(self._store, self._specs, self._say, max(2, self._at_once // _LEFT))
        drop_log(self._store.layout, own_log(), self._store.bundles.known.__contains__)


def bundle_run(
    layout: RunLayout, specs: Sequence[JobSpec], say: Callable[[str], None] = lambda _: None, at_least: int = 2
) -> None:
    """Bundle what the workers of a run left, if it is so many shards."""
    store = ShardStore(layout)
    begun = {kind: frozenset(_names(layout.shards / kind.value)) for kind in JobKind}
    left = [spec for spec in specs if layout.shard_folder(spec).name in begun[spec.kind]]
    bundle_shards(store, left, say, at_least)
    for name in sealed_logs(layout):
        drop_log(layout, name, store.bundles.known.__contains__)


def bundle_shards(store: ShardStore, specs: Sequence[JobSpec], say: Callable[[str], None], at_least: int = 1) -> None:
    """Bundle the complete shards of `specs` that are files of their own, if there are `at_least` so many."""
    layout, singles, sizes = store.layout, [], []
    try:
        sweep_temporaries(layout.bundles)
        store.bundles.renew()
        for spec in specs:
            if spec.key() in store.bundles.known and _remove_leftovers(store, spec):
                continue
            size = _size(layout, spec)
            if size is not None:
                singles.append(spec)
                sizes.append(size)
        if len(singles) >= at_least:
            for part in in_chunks(sizes, MOST_SHARDS, MOST_BYTES):
                _bundle(store, [singles[place] for place in part])
        _remove_folders(layout, specs)
    except (OSError, ValueError, ForeshockError) as error:
        say(f"sealed shards stay files of their own for now: {error}")


def _bundle(store: ShardStore, specs: Sequence[JobSpec]) -> None:
    members = _members(store.layout, specs)
    first = next(members, None)
    if first is None:
        return
    path = write_bundle(store.layout.bundles, chain([first], members))
    if not sync_directory(path.parent):
        os.sync()  # its name must last before the files go that it stands for
    bundle = Bundle.read(path)
    if bundle is None:
        raise InputError("what was written cannot be read", path=path)
    held = frozenset(bundle.keys)
    for spec in specs:
        if spec.key() in held:
            _remove(store, spec)
    store.bundles.renew()


def _members(layout: RunLayout, specs: Iterable[JobSpec]) -> Iterator[Member]:
    """What is not as it was sealed is left out."""
    for spec in specs:
        shard_file, manifest_file = layout.shard_file(spec), layout.manifest_file(spec)
        try:
            text, shard = manifest_file.read_bytes(), shard_file.read_bytes()
            manifest = ShardManifest.of_bytes(text, manifest_file)
        except (OSError, InputError):
            continue
        is_whole = manifest.n_errors == 0 and hashlib.sha256(shard).hexdigest() == manifest.sha256
        if is_whole and manifest.spec_key == spec.key():
            names = [str(file.relative_to(layout.shards)) for file in (shard_file, manifest_file)]
            yield Member(spec.key(), names[0], shard, names[1], text, manifest.sealed())


def _size(layout: RunLayout, spec: JobSpec) -> int | None:
    """Bytes of a shard that has files of its own and may be bundled, else None."""
    try:
        size = layout.shard_file(spec).stat().st_size
        return size if size <= LARGEST_SHARD and ShardManifest.read(layout.manifest_file(spec)).n_errors == 0 else None
    except (OSError, InputError):
        return None


def _remove_leftovers(store: ShardStore, spec: JobSpec) -> bool:
    """Remove the files of a shard that is whole in a bundle; False, and they stay, if it is not."""
    if not (store.layout.manifest_file(spec).exists() or store.layout.shard_file(spec).exists()):
        return True
    if not any(map(checksum_holds, store.in_bundles(spec))):
        return False
    _remove(store, spec)
    return True


def _remove(store: ShardStore, spec: JobSpec) -> None:
    store.layout.manifest_file(spec).unlink(missing_ok=True)
    store.layout.shard_file(spec).unlink(missing_ok=True)
    store.discard_parts(spec)


def _remove_folders(layout: RunLayout, specs: Iterable[JobSpec]) -> None:
    """Folders are files, too, as quotas count; those in which something is still written stay."""
    for folder in {layout.shard_folder(spec) for spec in specs}:
        if folder.is_dir():
            sweep_temporaries(folder)
            with suppress(OSError):
                folder.rmdir()


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)  # noqa: PTH208 - only the names, of up to 100,000 entries
    except FileNotFoundError:
        return []
