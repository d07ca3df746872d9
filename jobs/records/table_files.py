"""Where a table's rows lie: in a file of its own or, in large runs, in an archive beside it.

A table's path is its name in either case (`evals/checkpoint-7_prefill10.jsonl`). Archives lie in the folder whose files
they stand for, are ZIP without compression and hold tables under their names (`unzip` in that folder brings the files
back). A file of its own goes before an archive, so that what a person unpacked or wrote is what is read; of two
archives, the one of the later generation does. Whoever finds a table in neither looks again if the folder has changed.
"""

from __future__ import annotations

import io
import os
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from foreshock.errors import InputError
from foreshock.jobs.records.archive_index import (
    SAMPLES,
    Archive,
    Member,
    Members,
    archive_generation,
    archive_state,
    merge,
    open_archive,
    read_archive,
    require_whole,
    start_of,
)
from foreshock.jobs.records.folder_watch import FolderWatch

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = [
    "SAMPLES",
    "TableState",
    "archives_of",
    "has_table",
    "is_archived",
    "lines_of",
    "open_raw",
    "open_table",
    "table_bytes",
    "table_names",
    "table_size",
    "table_state",
]

_KEPT_FOLDERS = 64
_TRIES = 4


class TableState(NamedTuple):
    """Differs whenever a table's bytes may. `changed`: time of change of the file that holds it, in ns."""

    inode: int
    size: int
    changed: int
    start: int


def open_table(path: Path) -> io.BufferedReader:
    """A table's bytes, which are looked through first if they lie in an archive: they have their checksum.

    Raises FileNotFoundError where there is none, and InputError for a damaged archive.
    """
    return io.BufferedReader(open_raw(path))


def open_raw(path: Path) -> io.RawIOBase:
    """The same without a buffer."""
    for attempt in range(_TRIES):
        try:
            return path.open("rb", buffering=0)
        except FileNotFoundError as error:
            missing = error
        found = _found(path, anew=attempt > 0)
        if found is None:
            break
        try:
            return _Part(path, *found)
        except FileNotFoundError:  # replaced by a later one in between
            _refuse_lost(path.parent / found[0].archive)
    raise missing


def table_bytes(path: Path) -> bytes:
    """All of a table. Raises as `open_table`."""
    with open_table(path) as file:
        return file.read()


def table_state(path: Path) -> TableState:
    """Raises as `open_table`."""
    for attempt in range(_TRIES):
        try:
            stat, start = path.stat(), 0
        except FileNotFoundError as error:
            missing = error
            member = _look_into(path.parent, anew=attempt > 0)[0].get(path.name)
            if member is None:
                break
            try:
                stat, start = (path.parent / member.archive).stat(), member.header
            except FileNotFoundError:
                _refuse_lost(path.parent / member.archive)
                continue
            return TableState(stat.st_ino, member.size, stat.st_mtime_ns, start)
        return TableState(stat.st_ino, stat.st_size, stat.st_mtime_ns, start)
    raise missing


def table_size(path: Path) -> int:
    """Bytes. Raises as `open_table`."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        member = _member(path)
        if member is None:
            raise
        return member.size


def has_table(path: Path) -> bool:
    """Whether there is such a table."""
    return path.is_file() or is_archived(path)


def is_archived(path: Path) -> bool:
    """Whether there is such a table in an archive; it may have a file of its own, too."""
    return _member(path) is not None


def table_names(folder: Path) -> list[str]:
    """Names of a folder's files and of the tables in its archives, sorted; none where there is no folder.

    Hidden ones, and the archives themselves, are left out. Raises InputError for a damaged archive.
    """
    names: set[str] = set()
    for _ in range(_TRIES):  # a listing in whose course a table moved into an archive may have neither
        before = _changed(folder)
        try:
            with os.scandir(folder) as entries:
                names = {
                    entry.name
                    for entry in entries
                    if entry.name[0] != "." and (archive_generation(entry.name) is not None or entry.is_file())
                }
        except (FileNotFoundError, NotADirectoryError):
            return []
        if before == _changed(folder):
            break
    own = {name for name in names if archive_generation(name) is None}
    return sorted(own.union(members_of(folder)) if len(own) < len(names) else own)


def archives_of(paths: Iterable[Path]) -> list[Path]:
    """Archives that hold tables, as they are now."""
    found = {path.parent / member.archive for path in paths if (member := _member(path)) is not None}
    return sorted(found)


def members_of(folder: Path) -> Members:
    """Tables in a folder's archives, by name. Raises InputError for a damaged archive."""
    return _look_into(folder)[0]


def _look_into(folder: Path, anew: bool = False) -> tuple[Members, dict[str, Archive]]:
    """Tables in a folder's archives, and these by name, as they are now. `anew`: whatever the folder's time of change
    says, as an archive was gone (a file system of coarse times, or whose clock is behind)."""
    try:
        stat = os.stat(folder)  # noqa: PTH116 - asked for each table
    except OSError:
        return {}, {}
    key = (stat.st_dev, stat.st_ino)
    with _lock:
        known = _folders.pop(key, None) or _Folder()
        _folders[key] = known
        while len(_folders) > _KEPT_FOLDERS:
            _folders.popitem(last=False)
        if anew:
            known.watch.forget()
        known.look(folder, stat.st_mtime_ns)
        return known.merged, known.archives


@dataclass
class _Folder:
    """A folder's archives. None changes while it is in use; one that was put in the place of another is read again."""

    archives: dict[str, Archive] = field(default_factory=dict)
    merged: Members = field(default_factory=dict)
    watch: FolderWatch = field(default_factory=FolderWatch)

    def look(self, folder: Path, changed: int) -> None:
        """See what is there now; `changed` is the folder's time of change."""
        if not self.watch.is_as_listed(changed):
            try:
                self._list(folder)
            except BaseException:
                self.watch.forget()
                raise

    def _list(self, folder: Path) -> None:
        for _ in range(_TRIES):
            archives, is_whole = self._read(folder)
            if is_whole:
                break
        else:
            raise InputError(
                "its archives of tables are replaced while they are listed", path=folder, fix="try again in a moment"
            )
        if list(map(id, archives.values())) != list(map(id, self.archives.values())):
            self.archives = archives
            self.merged = merge({name: archive.members for name, archive in archives.items()})

    def _read(self, folder: Path) -> tuple[dict[str, Archive], bool]:
        """The archives there are, and whether all were: one that was replaced in between has its tables in another
        that this listing may lack."""
        try:
            names = os.listdir(folder)  # noqa: PTH208 - only the names
        except (NotADirectoryError, PermissionError):  # a drop box: files in it may be opened, not looked for
            names = []
        archives, is_whole = {}, True
        for name in sorted(name for name in names if archive_generation(name) is not None):
            try:
                known = self.archives.get(name)
                is_same = known is not None and known.state == archive_state(folder / name)
                archives[name] = known if known is not None and is_same else read_archive(folder / name)
            except FileNotFoundError:
                _refuse_lost(folder / name)
                is_whole = False
        return archives, is_whole


_folders: OrderedDict[tuple[int, int], _Folder] = OrderedDict()
_lock = threading.Lock()


def _changed(folder: Path) -> int | None:
    try:
        return folder.stat().st_mtime_ns
    except OSError:
        return None


def _member(path: Path) -> Member | None:
    return members_of(path.parent).get(path.name)


def _found(path: Path, anew: bool = False) -> tuple[Member, Archive] | None:
    """A table in an archive of its folder."""
    members, archives = _look_into(path.parent, anew)
    member = members.get(path.name)
    return None if member is None else (member, archives[member.archive])


def _refuse_lost(archive: Path) -> None:
    """A link to nothing is not what a later archive has replaced: its tables would be missing."""
    if archive.is_symlink():
        raise InputError(
            "links to an archive of tables that is gone: the run was aggregated again, or moved",
            path=archive,
            fix="make the analysis that this folder belongs to again (`foreshock analyse`)",
        ) from None


class _Part(io.RawIOBase):
    """A table in an archive, as a file. Its checksum is looked at the first time, and again if the archive changed."""

    def __init__(self, path: Path, member: Member, archive: Archive) -> None:
        self._archive = path.parent / member.archive
        self._at, self._size = 0, member.size
        self._file = open_archive(self._archive)
        try:
            self._start = start_of(self._file, self._archive, path.name, member)
            if member.header not in archive.checked or archive.state != archive_state(self._file):
                require_whole(self._file, self._archive, path.name, self._start, member)
                archive.checked.add(member.header)
        except BaseException:
            self._file.close()
            raise

    @property
    def name(self) -> str:
        return str(self._archive)

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise OSError(f"{self.name}: no place before the beginning")
        self._at = base + offset
        return self._at

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        wanted = min(len(view), max(self._size - self._at, 0))
        if not wanted:
            return 0
        n_read = os.preadv(self._file.fileno(), [view[:wanted]], self._start + self._at)
        if not n_read:
            raise OSError(f"{self.name}: ends early")
        self._at += n_read
        return n_read


def lines_of(path: Path) -> Iterator[bytes]:
    """A table's lines. Raises as `open_table`."""
    with open_table(path) as file:
        yield from file
