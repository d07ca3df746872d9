"""Writing tables of large runs into archives, many in one file; `table_files` reads them.

An archive appears whole, under a name that no other writer uses and of a later generation than those that are there,
and is never changed. What it replaces, files and archives, goes only when it is on the disk: a kill in between leaves
both, and readers take the file, or of two archives the later one. Two writers of one run cost room and nothing else.
"""

from __future__ import annotations

import os
import uuid
import zipfile
from collections.abc import Collection, Iterable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG
from types import TracebackType
from typing import BinaryIO, Self

from foreshock.durable import FULL, atomic_file, atomic_write_bytes, sync_directory
from foreshock.errors import DiskFullError, ForeshockError, InputError
from foreshock.jobs.records.archive_index import (
    SAMPLES,
    Members,
    archive_generation,
    directory_comment,
    merge,
    read_archive,
)

LARGEST = 8 << 20
"""Larger tables stay files of their own: there cannot be many, and those without texts have columns beside them."""

_LARGEST_SAMPLES = 16 << 20
_MOST_BYTES = 1 << 30
"""Of one archive, unless one table is that large."""

_MODE = 0o644 << 16


def largest(table: Path) -> int:
    """Bytes up to which a table goes into an archive: while it is written it is held in memory."""
    return _LARGEST_SAMPLES if table.name.endswith(SAMPLES) else LARGEST


class TableArchives:
    """Takes tables whole and puts them into archives of their folders, which appear at `commit`.

    One writer's, for one group of tables after another. As a context it commits what it took, unless there was an
    error.
    """

    def __init__(self) -> None:
        self._folders: dict[Path, _Replaced] = {}
        self._open: dict[tuple[Path, bool], _Archive] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.commit()
        else:
            self.drop()

    def add(self, table: Path, data: bytes | bytearray, single: os.stat_result | None = None) -> None:
        """Take a table. A file that has its name is removed at `commit`: the one that is there now, or, if it is
        given, only as long as it is the file that `single` tells of."""
        folder = table.parent
        if folder not in self._folders:
            folder.mkdir(parents=True, exist_ok=True)
            self._folders[folder] = _Replaced.found(folder)
        if single is not None:
            self._folders[folder].singles[table.name] = (single.st_ino, single.st_mtime_ns)
        key = (folder, table.name.endswith(SAMPLES))
        archive = self._open.get(key)
        if archive is not None and archive.n_bytes + len(data) > _MOST_BYTES:
            self._commit(key)
            archive = None
        if archive is None:
            archive = self._open[key] = _Archive(folder, "samples" if key[1] else "tables", self._folders[folder].next)
        archive.add(table.name, data)

    def write(self, table: Path, data: bytes) -> None:
        """Take a table, or write it to a file of its own if it is too large."""
        if len(data) <= largest(table):
            self.add(table, data)
        else:
            atomic_write_bytes(table, data)

    def commit(self) -> None:
        """See everything onto the disk, then remove what it replaces."""
        try:
            for key in list(self._open):
                self._commit(key)
        except BaseException:
            self.drop()
            raise

    def drop(self) -> None:
        """Leave what was taken since the last commit as it was before."""
        while self._open:
            self._open.popitem()[1].drop()

    def _commit(self, key: tuple[Path, bool]) -> None:
        archive = self._open.pop(key)
        archive.finish()
        self._folders[key[0]].remove(archive.names)


class _Archive:
    """An archive while it is written."""

    def __init__(self, folder: Path, role: str, generation: int) -> None:
        self.names: list[str] = []
        self.n_bytes = 0
        self._path = folder / f"{role}-{generation:06d}-{uuid.uuid4().hex[:12]}.zip"
        self._stack = ExitStack()
        file: BinaryIO = self._stack.enter_context(atomic_file(self._path))
        self._zip = self._stack.enter_context(zipfile.ZipFile(file, "w", zipfile.ZIP_STORED))

    def add(self, name: str, data: bytes | bytearray) -> None:
        info = zipfile.ZipInfo(name)
        info.external_attr = _MODE
        try:
            self._zip.writestr(info, data)
        except OSError as error:
            raise DiskFullError(self._path, error) if error.errno in FULL else error from None
        self.names.append(name)
        self.n_bytes += len(data)

    def finish(self) -> None:
        """Durable, under its name."""
        self._zip.comment = directory_comment(self._zip.filelist)
        self._stack.close()
        _last(self._path.parent)

    def drop(self) -> None:
        with suppress(OSError, ValueError, ForeshockError, _DroppedError), self._stack:
            raise _DroppedError


class _DroppedError(Exception):
    """Ends a file that is not to appear."""


@dataclass
class _Replaced:
    """What lay in a folder when its writer began: files of their own, and tables of older archives."""

    folder: Path
    singles: dict[str, tuple[int, int]]
    older: dict[str, set[str]]
    next: int
    """Generation of new archives."""

    @classmethod
    def found(cls, folder: Path) -> _Replaced:
        singles, older, generations = {}, {}, [0]
        with os.scandir(folder) as entries:
            for entry in entries:
                generation = archive_generation(entry.name)
                if generation is not None:
                    generations.append(generation)
                    with suppress(InputError, FileNotFoundError):  # damaged: stays until all is written anew
                        older[entry.name] = set(read_archive(folder / entry.name).members)
                elif entry.name.endswith(".jsonl"):
                    stat = entry.stat()
                    singles[entry.name] = (stat.st_ino, stat.st_mtime_ns)
        return cls(folder, singles, older, max(generations) + 1)

    def remove(self, names: Iterable[str]) -> None:
        """What the tables `names`, which are in a new archive, replace."""
        taken = set(names)
        for name in taken & self.singles.keys():
            path, known = self.folder / name, self.singles.pop(name)
            with suppress(FileNotFoundError):
                stat = path.stat(follow_symlinks=False)
                if (stat.st_ino, stat.st_mtime_ns) == known:
                    path.unlink()
        for archive, left in list(self.older.items()):
            left -= taken
            if not left:
                (self.folder / archive).unlink(missing_ok=True)
                del self.older[archive]


def remove_replaced(folder: Path, all_anew: bool = False) -> list[str]:
    """Remove a folder's archives of which every table is read from elsewhere.

    Where all tables have been written anew, what cannot be read is set aside under another name, so that the others can
    be, and not removed: it may hold what no shard does (`foreshock logprob`). Returns the names of these.
    """
    names = _names(folder)
    archives: dict[str, Members] = {}
    useless, aside = [], []
    for name in names:
        if archive_generation(name) is not None:
            try:
                archives[name] = read_archive(folder / name).members
            except FileNotFoundError:
                continue
            except InputError:
                aside += [name] if all_anew else []
    for name in aside:
        (folder / name).rename(folder / f"{name}.damaged")
    if not archives:
        return aside
    singles = set(names)
    in_use = {member.archive for name, member in merge(archives).items() if name not in singles}
    useless += [name for name in archives if name not in in_use]
    if useless:
        _last(folder)
        for name in useless:
            (folder / name).unlink(missing_ok=True)
    return aside


def join_tables(folder: Path, at_least: int, only: Collection[str] | None = None) -> None:
    """Put a folder's tables that are files of their own into archives, if they are `at_least` so many. `only`: names of
    those that may be."""
    found = [folder / name for name in _names(folder) if name.endswith(".jsonl") and not name.startswith(".")]
    found = [path for path in found if only is None or path.name in only]
    small = []
    for path in found:
        with suppress(FileNotFoundError):
            stat = path.lstat()
            if S_ISREG(stat.st_mode) and stat.st_size <= largest(path):
                small.append((path, stat))
    if len(small) < at_least:
        return
    with TableArchives() as archives:
        for path, stat in small:
            with suppress(FileNotFoundError):
                archives.add(path, path.read_bytes(), stat)


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))  # noqa: PTH208 - only the names
    except FileNotFoundError:
        return []


def _last(folder: Path) -> None:
    """Make names in a folder last before what they stand for goes."""
    if not sync_directory(folder):
        os.sync()
