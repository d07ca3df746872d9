"""Where finished rows lie on disk, so that nobody needs to hold them in memory.

A row is found again by place and checksum. Where its file has been removed or replaced by another writer of the same
shard, the row is looked up in the sealed shard, and never taken from bytes that moved.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Self

from foreshock.errors import ForeshockError
from foreshock.jobs.records.marks import Marks, marks_of
from foreshock.jobs.records.places import Place
from foreshock.jobs.records.rows import ERROR_KEY, RowIdentity, row_identity

_MOST_OPEN = 64
"""Files held open at once while a shard is merged."""


@dataclass(frozen=True, slots=True)
class Line:
    """Where a finished row lies: bytes of a part, or of the shard as it was sealed before."""

    path: Path
    start: int
    length: int
    crc: int
    exploit: bool
    marks: Marks


class LineReader:
    """Reads rows back from where they lie. What another writer of the shard, which sealed it in the meantime, has
    removed or replaced is no loss: the row is in its shard."""

    def __init__(self, sealed: Callable[[], dict[RowIdentity, Line]]) -> None:
        """`sealed` gives the lines of the shard as it is sealed now, if it is."""
        self._index = sealed
        self._files: dict[Path, BinaryIO] = {}
        self._sealed: dict[RowIdentity, Line] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def __call__(self, identity: RowIdentity, line: Line) -> bytes:
        """The row's line. Raises ForeshockError if it is nowhere any more."""
        found = self._read(line)
        if found is None:
            if self._sealed is None:
                self._sealed = self._index()
            again = self._sealed.get(identity)
            self._close()  # a handle may be that of a file which has been replaced
            found = None if again is None else self._read(again)
        if found is None:
            raise ForeshockError(
                f"{line.path}: changed or removed while the shard was written\n"
                "  -> resume the run, which does its rows again"
            )
        return found

    def _read(self, line: Line) -> bytes | None:
        try:
            file = self._open(line.path)
        except FileNotFoundError:
            return None
        file.seek(line.start)
        data = file.read(line.length)
        return data if zlib.crc32(data) == line.crc else None

    def _open(self, path: Path) -> BinaryIO:
        if path not in self._files:
            if len(self._files) >= _MOST_OPEN:
                self._close()
            self._files[path] = path.open("rb")
        return self._files[path]

    def _close(self) -> None:
        for file in self._files.values():
            file.close()
        self._files.clear()


def index_shard(shard: Place) -> dict[RowIdentity, Line]:
    """Where the good rows of a sealed shard lie."""
    with shard.path.open("rb") as file:
        file.seek(shard.start)
        return good_lines(shard.path, ((json.loads(line), line) for line in _lines(file, shard.size)), shard.start)


def _lines(file: BinaryIO, n_bytes: int) -> Iterator[bytes]:
    while n_bytes > 0 and (line := file.readline()):
        n_bytes -= len(line)
        yield line


def good_lines(path: Path, rows: Iterable[tuple[Mapping[str, Any], bytes]], start: int = 0) -> dict[RowIdentity, Line]:
    """Where the good ones of a file's rows lie, given all of them from `start` on, each with its bytes."""
    found: dict[RowIdentity, Line] = {}
    for row, line in rows:
        if row.get(ERROR_KEY) is None:
            place = Line(path, start, len(line), zlib.crc32(line), bool(row.get("exploit_success")), marks_of(row))
            found.setdefault(row_identity(row), place)
        start += len(line)
    return found
