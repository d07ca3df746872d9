"""Where a table's rows lie: in a file of its own or, in large runs, in an archive beside it.

A table's path is its name in either case (`evals/checkpoint-7_prefill10.jsonl`). Archives lie in the folder whose files
they stand for, are ZIP without compression and hold tables under their names (`unzip` in that folder brings the files
back). A file of its own goes before an archive, so that what a person unpacked or wrote is what is read; of two
archives, the one of the later generation does. Whoever finds a table in neither looks again if the folder has changed.
"""

from __future__ import annotations

import io
import os
import re
import struct
import threading
import zipfile
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from foreshock.errors import InputError
from foreshock.jobs.records.folder_watch import FolderWatch
from foreshock.jobs.records.places import Place

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

SAMPLES = ".samples.jsonl"
"""End of the name of a table with texts; these have archives of their own, since most readers want none."""

_ARCHIVE = re.compile(r"^(?:tables|samples)-(?P<generation>\d{6})-[0-9a-f]{12}\.zip$")
_LOCAL_HEADER = struct.Struct("<4s22xHH")
_KEPT_FOLDERS = 64
_TRIES = 4


class TableState(NamedTuple):
    """Differs whenever a table's bytes may. `changed`: time of change of the file that holds it, in ns."""

    inode: int
    size: int
    changed: int
    start: int


class Member(NamedTuple):
    """A table in an archive of its folder: where its header begins, and the size of what follows that."""

    archive: str
    header: int
    size: int


Members = dict[str, Member]


def open_table(path: Path) -> io.BufferedReader:
    """A table's bytes. Raises FileNotFoundError where there is none, and InputError for a damaged archive."""
    return io.BufferedReader(open_raw(path))


def open_raw(path: Path) -> io.RawIOBase:
    """The same without a buffer."""
    for _ in range(_TRIES):
        try:
            return path.open("rb", buffering=0)
        except FileNotFoundError as error:
            missing = error
        place = _archived(path)
        if place is None:
            break
        with suppress(FileNotFoundError):  # replaced by a later one in between
            return _Part(place)
    raise missing


def table_place(path: Path) -> Place:
    """Where a table's bytes lie now. Raises as `open_table`."""
    try:
        return Place.whole(path)
    except FileNotFoundError:
        place = _archived(path)
        if place is None:
            raise
        return place


def table_state(path: Path) -> TableState:
    """Raises as `open_table`."""
    for _ in range(_TRIES):
        try:
            stat, start = path.stat(), 0
        except FileNotFoundError as error:
            missing = error
            member = _member(path)
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
                    if entry.name[0] != "." and (entry.is_file() or _ARCHIVE.match(entry.name))
                }
        except (FileNotFoundError, NotADirectoryError):
            return []
        if before == _changed(folder):
            break
    own = {name for name in names if not _ARCHIVE.match(name)}
    return sorted(own.union(members_of(folder)) if len(own) < len(names) else own)


def archives_of(paths: Iterable[Path]) -> list[Path]:
    """Archives that hold tables, as they are now."""
    found = {path.parent / member.archive for path in paths if (member := _member(path)) is not None}
    return sorted(found)


def archive_generation(name: str) -> int | None:
    """Of an archive's name; None for any other file."""
    match = _ARCHIVE.match(name)
    return None if match is None else int(match["generation"])


def members_of(folder: Path) -> Members:
    """Tables in a folder's archives, by name. Raises InputError for a damaged archive."""
    try:
        stat = os.stat(folder)  # noqa: PTH116 - asked for each table
    except OSError:
        return {}
    key = (stat.st_dev, stat.st_ino)
    with _lock:
        known = _folders.pop(key, None) or _Folder()
        _folders[key] = known
        while len(_folders) > _KEPT_FOLDERS:
            _folders.popitem(last=False)
        try:
            return known.members(folder, stat.st_mtime_ns)
        except (NotADirectoryError, PermissionError):  # a drop box: files in it may be opened, not looked for
            return {}


def read_archive(path: Path) -> Members:
    """What an archive holds. Raises FileNotFoundError, and InputError for what is no archive of tables."""
    try:
        with zipfile.ZipFile(path) as archive:
            found = archive.infolist()
    except (
        zipfile.BadZipFile,
        NotImplementedError,  # zipfile's word for an entry of a ZIP version that it does not know
        struct.error,  # a directory that breaks off within an entry
    ) as error:
        raise InputError(
            f"this archive of tables is damaged: {error}",
            path=path,
            fix="copy it again from where it came, or remove it and `foreshock aggregate RUN`",
        ) from None
    packed = next((info for info in found if info.compress_type != zipfile.ZIP_STORED), None)
    if packed is not None:
        raise InputError(
            f"{packed.filename} is compressed in it; tables are read where they lie",
            path=path,
            fix=f"unzip {path} -d {path.parent} && rm {path}",
        )
    return {
        info.filename: Member(path.name, info.header_offset, info.file_size)
        for info in found
        if "/" not in info.filename and not info.filename.startswith(".")
    }


@dataclass
class _Folder:
    """A folder's archives, which never change: only the names of new ones are looked for."""

    archives: dict[str, Members] = field(default_factory=dict)
    merged: Members = field(default_factory=dict)
    watch: FolderWatch = field(default_factory=FolderWatch)

    def members(self, folder: Path, changed: int) -> Members:
        """As they are now; `changed` is the folder's time of change."""
        if not self.watch.is_as_listed(changed):
            try:
                self._list(folder)
            except BaseException:
                self.watch.forget()
                raise
        return self.merged

    def _list(self, folder: Path) -> None:
        names = sorted(name for name in os.listdir(folder) if _ARCHIVE.match(name))  # noqa: PTH208 - only the names
        if names == list(self.archives):
            return
        archives = {}
        for name in names:
            try:
                archives[name] = self.archives.get(name) or read_archive(folder / name)
            except FileNotFoundError:  # replaced in between: the folder has changed again
                _refuse_lost(folder / name)
        self.archives = archives
        self.merged = merge(archives)


def merge(archives: Mapping[str, Members]) -> Members:
    """Of each table the one that is read."""
    merged: Members = {}
    for name in sorted(archives, key=_order):
        merged |= archives[name]
    return merged


def _order(name: str) -> tuple[int, str]:
    return archive_generation(name) or 0, name


_folders: OrderedDict[tuple[int, int], _Folder] = OrderedDict()
_lock = threading.Lock()


def _changed(folder: Path) -> int | None:
    try:
        return folder.stat().st_mtime_ns
    except OSError:
        return None


def _member(path: Path) -> Member | None:
    return members_of(path.parent).get(path.name)


def _archived(path: Path) -> Place | None:
    for _ in range(_TRIES):
        member = _member(path)
        if member is None:
            return None
        archive = path.parent / member.archive
        try:
            return Place(archive, _start(archive, member), member.size)
        except FileNotFoundError:  # replaced by a later one in between
            _refuse_lost(archive)
    return None


def _refuse_lost(archive: Path) -> None:
    """A link to nothing is not what a later archive has replaced: its tables would be missing."""
    if archive.is_symlink():
        raise InputError(
            "links to an archive of tables that is gone: the run was aggregated again, or moved",
            path=archive,
            fix="make the analysis that this folder belongs to again (`foreshock analyse`)",
        ) from None


def _start(archive: Path, member: Member) -> int:
    with archive.open("rb", buffering=0) as file:
        header = os.pread(file.fileno(), _LOCAL_HEADER.size, member.header)
    if len(header) == _LOCAL_HEADER.size:
        magic, n_name, n_extra = _LOCAL_HEADER.unpack(header)
        if magic == b"PK\3\4":
            return member.header + _LOCAL_HEADER.size + int(n_name) + int(n_extra)
    raise InputError("this archive of tables is damaged", path=archive, fix="foreshock aggregate RUN")


class _Part(io.RawIOBase):
    """A part of a file, as a file."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._at = 0
        self._file = place.path.open("rb", buffering=0)

    @property
    def name(self) -> str:
        return str(self._place.path)

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
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._place.size}[whence]
        if base + offset < 0:
            raise OSError(f"{self.name}: no place before the beginning")
        self._at = base + offset
        return self._at

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        wanted = min(len(view), max(self._place.size - self._at, 0))
        if not wanted:
            return 0
        n_read = os.preadv(self._file.fileno(), [view[:wanted]], self._place.start + self._at)
        if not n_read:
            raise OSError(f"{self.name}: ends early")
        self._at += n_read
        return n_read


def lines_of(path: Path) -> Iterator[bytes]:
    """A table's lines. Raises as `open_table`."""
    with open_table(path) as file:
        yield from file
