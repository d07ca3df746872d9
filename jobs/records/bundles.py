"""Bundles: many sealed shards in one file, so that a large run has thousands of files and not hundreds of thousands.

A bundle is a ZIP archive without compression that holds shards and manifests as they were, under the paths that they
had below `shards/` (`unzip` in that folder brings them back), and an index as its last member. It appears whole, under
a name that no other writer uses, and is never changed; the files that it holds are removed only then. A kill in between
leaves both, and they say the same.
"""

from __future__ import annotations

import json
import os
import re
import socket
import time
import uuid
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from foreshock.durable import atomic_file, same_time
from foreshock.errors import ForeshockError
from foreshock.jobs.records.folder_watch import FolderWatch
from foreshock.jobs.records.places import Place, read_at
from foreshock.jobs.records.sealed_log import Sealed, sealed_columns, sealed_of_columns

_FORMAT = 1
_INDEX = "index.json"
_COMMENT = b"foreshock bundle %016d %012d %08x"
_COMMENT_READ = re.compile(rb"foreshock bundle (\d{16}) (\d{12}) ([0-9a-f]{8})$")
_COARSEST_NS = 2 * 10**9
"""A time of whole multiples of this is kept as it is by every file system."""


class Member(NamedTuple):
    """A sealed shard to be put into a bundle: its two files as they are, and what the index says of it."""

    key: str
    shard_name: str
    shard: bytes
    manifest_name: str
    manifest: bytes
    sealed: Sealed


def _other_format(path: Path, written: object) -> ForeshockError:
    return ForeshockError(
        f"{path}: shards in a bundle of format {written}; this version reads format {_FORMAT}\n"
        "  -> use the version of foreshock that wrote this run"
    )


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle's index. `is_as_written`: its time of change is the one that it was given, so nobody changed it."""

    path: Path
    is_as_written: bool
    keys: list[str]
    shards: list[list[int]]
    """Start and size in bytes of each shard, in the order of `keys`."""
    manifests: list[list[int]]
    sealed: list[Sealed]

    @classmethod
    def read(cls, path: Path) -> Bundle | None:
        """None for a file that is not a whole bundle. Raises ForeshockError for one of another format, and one that may
        not be read: its shards would look as if they had never been computed."""
        try:
            with path.open("rb", buffering=0) as file:
                now = os.fstat(file.fileno())
                n_tail = len(_COMMENT % (0, 0, 0))
                found = _COMMENT_READ.search(read_at(file, max(0, now.st_size - n_tail), n_tail))
                if found is None:
                    return None
                index = read_at(file, int(found[1]), int(found[2]))
            if zlib.crc32(index) != int(found[3], 16):
                return None
            data: Any = json.loads(index)
            if (written := data["format"]) != _FORMAT:
                raise _other_format(path, written)
            sealed = sealed_of_columns(data["sealed"])
            as_written = same_time(data["mtime_ns"], now.st_mtime_ns)
            return cls(path, as_written, data["keys"], data["shards"], data["manifests"], sealed)
        except PermissionError:
            raise ForeshockError(
                f"{path}: this bundle of finished shards may not be read by this user\n  -> chmod u+r {path}"
            ) from None
        except (OSError, ValueError, KeyError, TypeError, IndexError):
            return None


class Found(NamedTuple):
    """A shard in a bundle."""

    bundle: Bundle
    number: int

    @property
    def sealed(self) -> Sealed:
        """What `status` says of it."""
        return self.bundle.sealed[self.number]

    @property
    def shard(self) -> Place:
        """Its lines."""
        return Place(self.bundle.path, *self.bundle.shards[self.number])

    @property
    def manifest(self) -> Place:
        """Its manifest."""
        return Place(self.bundle.path, *self.bundle.manifests[self.number])


class Bundles:
    """The bundles in a folder, read when first asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names: set[str] = set()
        self._found: dict[str, Found] = {}
        self._more: dict[str, list[Found]] = {}
        self._listed = False
        self._watch = FolderWatch()

    def of(self, key: str) -> list[Found]:
        """A spec's shard in the bundles seen so far. Two writers may both have bundled it."""
        first = self.known.get(key)
        return [] if first is None else [first, *self._more.get(key, ())]

    @property
    def known(self) -> Mapping[str, Found]:
        """Shards in the bundles seen so far, by key of their specs."""
        if not self._listed:
            self.renew()
        return self._found

    def renew(self) -> bool:
        """Look for bundles that have appeared since; whether there are some.

        A file that is gone may have gone into a bundle after the folder was listed, so readers who miss one ask here.
        The folder's time of change tells, once it is old enough that a further change would have shown.
        """
        self._listed = True
        try:
            changed = os.stat(self._folder).st_mtime_ns  # noqa: PTH116 - asked for each missing shard
        except OSError:
            return False
        if self._watch.is_as_listed(changed):
            return False
        return self._list()

    def _list(self) -> bool:
        try:
            names = os.listdir(self._folder)  # noqa: PTH208 - only the names
        except OSError:
            return False
        n_before = len(self._names)
        for name in sorted(names):
            if name.endswith(".zip") and name not in self._names:
                bundle = Bundle.read(self._folder / name)
                if bundle is not None:  # else looked at again: it may be one that this machine sees only in part
                    self._names.add(name)
                    self._take(bundle)
        return len(self._names) > n_before

    def _take(self, bundle: Bundle) -> None:
        for number, key in enumerate(bundle.keys):
            found = Found(bundle, number)
            if self._found.setdefault(key, found) is not found:
                self._more.setdefault(key, []).append(found)


def write_bundle(folder: Path, members: Iterable[Member]) -> Path:
    """Write a bundle, whole and durable. Members come one by one; each is held only while it is written."""
    path = folder / f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:12]}.zip"
    with atomic_file(path) as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            comment = _write_members(archive, file, members)
            archive.comment = comment[0]
        file.flush()
        os.fsync(file.fileno())  # first, since a network file system changes the time when it gets the bytes
        with suppress(OSError):  # refused: every reader compares checksums
            os.utime(file.fileno(), ns=(comment[1], comment[1]))
    return path


def _write_members(archive: zipfile.ZipFile, file: BinaryIO, members: Iterable[Member]) -> tuple[bytes, int]:
    """Returns the archive's comment, and the time that the file is to have."""
    keys, shards, manifests, sealed = [], [], [], []
    for member in members:
        keys.append(member.key)
        shards.append(_add(archive, file, member.shard_name, member.shard))
        manifests.append(_add(archive, file, member.manifest_name, member.manifest))
        sealed.append(member.sealed)
    mtime_ns = time.time_ns() // _COARSEST_NS * _COARSEST_NS
    columns = sealed_columns(sealed)
    index = {"format": _FORMAT, "mtime_ns": mtime_ns, "keys": keys, "shards": shards, "manifests": manifests}
    data = json.dumps(index | {"sealed": columns}, separators=(",", ":")).encode()
    start, size = _add(archive, file, _INDEX, data)
    return _COMMENT % (start, size, zlib.crc32(data)), mtime_ns


def _add(archive: zipfile.ZipFile, file: BinaryIO, name: str, data: bytes) -> list[int]:
    """Returns where the data starts, and its size."""
    archive.writestr(zipfile.ZipInfo(name), data)
    return [file.tell() - len(data), len(data)]


def in_chunks(sizes: Sequence[int], most: int, most_bytes: int) -> Iterator[range]:
    """Neighbours that make a bundle: at most so many, of so many bytes together unless it is one."""
    start = held = 0
    for place, size in enumerate(sizes):
        if place > start and (place - start >= most or held + size > most_bytes):
            yield range(start, place)
            start, held = place, 0
        held += size
    if len(sizes) > start:
        yield range(start, len(sizes))
