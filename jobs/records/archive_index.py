"""What an archive of tables says that it holds, and whether it is as it was written.

The archive's comment has the format and a checksum over its directory, so that a cell cannot change its name or vanish
by a flipped byte; each table has ZIP's own checksum. Whatever is not as it was written is refused by name: fewer cells
would look like a run that never had them.
"""

from __future__ import annotations

import os
import re
import struct
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, NamedTuple

from foreshock.errors import InputError
from foreshock.jobs.records.places import read_at

SAMPLES = ".samples.jsonl"
"""End of the name of a table with texts; these have archives of their own, since most readers want none."""

_ARCHIVE = re.compile(r"(?:tables|samples)-(?P<generation>\d{6,18})-[0-9a-f]{12}\.zip")
_FORMAT = 1
_COMMENT = "foreshock tables %d %08x"
_COMMENT_READ = re.compile(rb"foreshock tables (\d+) ([0-9a-f]{8})")
_LOCAL_HEADER = struct.Struct("<4s22xHH")
_END = struct.Struct("<4s6xH10x")
_PIECE = 1 << 20

RESTORE = "copy it again from where it came, or `foreshock aggregate RUN` makes what is computed anew from the shards"


class Member(NamedTuple):
    """A table in an archive of its folder: where its header begins, the size of what follows that, and its CRC-32."""

    archive: str
    header: int
    size: int
    crc: int


Members = dict[str, Member]


@dataclass(frozen=True)
class Archive:
    """What a file held when it was looked at. `state`: its inode, size and time of change; `checked`: headers of the
    tables whose bytes had their checksum."""

    state: tuple[int, int, int]
    members: Members
    checked: set[int] = field(default_factory=set)


def archive_generation(name: str) -> int | None:
    """Of an archive's name; None for any other file."""
    match = _ARCHIVE.fullmatch(name)
    return None if match is None else int(match["generation"])


def merge(archives: Mapping[str, Members]) -> Members:
    """Of each table the one that is read: of the latest generation."""
    merged: Members = {}
    for name in sorted(archives, key=lambda name: (archive_generation(name) or 0, name)):
        merged |= archives[name]
    return merged


def archive_state(of: Path | BinaryIO) -> tuple[int, int, int]:
    """Inode, size and time of change in ns. Raises FileNotFoundError, and InputError for what may not be looked at."""
    try:
        stat = of.stat() if isinstance(of, Path) else os.fstat(of.fileno())
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _unreadable(Path(str(of if isinstance(of, Path) else of.name)), error) from None
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def read_archive(path: Path) -> Archive:
    """What an archive holds. Raises FileNotFoundError, and InputError for what is no whole archive of tables."""
    try:
        with open_archive(path) as file, zipfile.ZipFile(file) as archive:
            found, comment = archive.infolist(), archive.comment
            state = archive_state(file)
    except (FileNotFoundError, InputError):
        raise
    except OSError as error:
        raise _unreadable(path, error) from None
    except (
        zipfile.BadZipFile,
        RuntimeError,  # an entry of a ZIP version that zipfile does not know
        struct.error,  # a directory that breaks off within an entry
        UnicodeDecodeError,  # a name that is none
        ValueError,  # an offset before the file's beginning
    ) as error:
        raise _damaged(path, str(error)) from None
    _refuse_foreign(path, found, comment)
    names = [info.filename for info in found]
    other = next((name for name in names if "/" in name or name.startswith(".")), None)
    if other is not None:
        raise InputError(
            f"{other!r} in it names a file of another folder; an archive of tables has those of its own",
            path=path,
            fix=f"move it out of {path.parent}",
        )
    if len(set(names)) < len(names):
        raise _damaged(path, f"it holds {max(names, key=names.count)} twice")
    members = {info.filename: Member(path.name, info.header_offset, info.file_size, info.CRC) for info in found}
    return Archive(state, members)


def _refuse_foreign(path: Path, found: list[zipfile.ZipInfo], comment: bytes) -> None:
    unpack = f"if it is yours: unzip {path} -d {path.parent} && rm {path}; else {RESTORE}"
    packed = next((info for info in found if info.compress_type != zipfile.ZIP_STORED), None)
    if packed is not None:
        problem = f"{packed.filename!r} is compressed in it; tables are read where they lie"
        raise InputError(problem, path=path, fix=unpack)
    match = _COMMENT_READ.fullmatch(comment)
    if match is None:
        problem = "has the name of an archive of tables, and foreshock did not write it, or its end was changed"
        raise InputError(problem, path=path, fix=unpack)
    if int(match[1]) != _FORMAT:
        raise InputError(
            f"holds tables in format {int(match[1])}; this version reads format {_FORMAT}",
            path=path,
            fix="use the version of foreshock that wrote it",
        )
    if int(match[2], 16) != _directory_sum(found):
        raise _damaged(path, "its directory is not as it was written")


def n_members(path: Path) -> int | None:
    """How many tables an archive says that it holds, by its last bytes alone; None if they do not say. A look at the
    whole directory of hundreds takes a second."""
    n_tail = _END.size + len(_COMMENT % (_FORMAT, 0))
    try:
        with open_archive(path) as file:
            tail = read_at(file, max(os.fstat(file.fileno()).st_size - n_tail, 0), n_tail)
    except (OSError, InputError):
        return None
    magic, n = _END.unpack_from(tail)
    is_told = magic == b"PK\5\6" and n < 0xFFFF and _COMMENT_READ.fullmatch(tail[_END.size :])
    return int(n) if is_told else None


def directory_comment(found: Iterable[zipfile.ZipInfo]) -> bytes:
    """The comment of an archive that is about to be closed."""
    return (_COMMENT % (_FORMAT, _directory_sum(found))).encode()


def _directory_sum(found: Iterable[zipfile.ZipInfo]) -> int:
    lines = [f"{info.filename}/{info.header_offset}/{info.file_size}/{info.CRC}" for info in found]
    return zlib.crc32("\n".join(lines).encode("utf-8", "surrogatepass"))


def open_archive(path: Path) -> BinaryIO:
    """Raises FileNotFoundError, and InputError for what may not be read."""
    try:
        return path.open("rb", buffering=0)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _unreadable(path, error) from None


def start_of(file: BinaryIO, archive: Path, name: str, member: Member) -> int:
    """Where a table's bytes begin in the open `archive`. Raises InputError for a header that is not the table's."""
    expected = name.encode("utf-8", "surrogatepass")
    header = os.pread(file.fileno(), _LOCAL_HEADER.size + len(expected), member.header)
    if len(header) == _LOCAL_HEADER.size + len(expected):
        magic, n_name, n_extra = _LOCAL_HEADER.unpack_from(header)
        if magic == b"PK\3\4" and n_name == len(expected) and header.endswith(expected):
            return member.header + _LOCAL_HEADER.size + int(n_name) + int(n_extra)
    raise _damaged(archive, f"{name} does not begin where its directory says")


def require_whole(file: BinaryIO, archive: Path, name: str, start: int, member: Member) -> None:
    """Raise InputError unless a table's bytes have the checksum that they were written with."""
    crc = 0
    try:
        for at in range(0, member.size, _PIECE):
            crc = zlib.crc32(read_at(file, start + at, min(_PIECE, member.size - at)), crc)
    except OSError as error:
        raise _unreadable(archive, error) from None
    if crc != member.crc:
        raise _damaged(archive, f"the bytes of {name} do not have their checksum")


def _damaged(path: Path, how: str) -> InputError:
    return InputError(f"this archive of tables is damaged: {how}", path=path, fix=RESTORE)


def _unreadable(path: Path, error: OSError) -> InputError:
    if isinstance(error, PermissionError):
        return InputError("this archive of tables may not be read by this user", path=path, fix=f"chmod u+r {path}")
    return InputError(f"this archive of tables cannot be read: {error.strerror or error}", path=path, fix=RESTORE)
