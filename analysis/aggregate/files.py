"""Tables while they are written: line by line, several at a time, each file whole or not there.

A table without a line leaves no file, and a table of an earlier aggregation is replaced only by one that has lines;
so a cell that is missing now keeps what it had.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from foreshock.analysis.aggregate.direct import DirectWriter
from foreshock.analysis.tables.columns import ColumnsWriter
from foreshock.durable import atomic_file
from foreshock.jobs.records.places import Place
from foreshock.jobs.records.table_archives import TableArchives, largest

Lines: TypeAlias = bytes | memoryview | pa.Buffer

Later = Callable[[Callable[[], None]], object]

_NEWLINE = ord("\n")


def blocks_of_lines(place: Place, n_bytes: int) -> Iterator[memoryview]:
    """A file, or a part of one, in blocks of whole lines, of about `n_bytes` each."""
    buffer, held, left = np.empty(n_bytes, dtype=np.uint8), 0, place.size
    with place.path.open("rb", buffering=0) as file:
        file.seek(place.start)
        while n_read := file.readinto(buffer[held:][:left].data):
            held += n_read
            left -= n_read
            if held == len(buffer):
                whole = _end_of_lines(buffer)
                if whole:
                    yield buffer[:whole].data
                buffer, held = _with_room(buffer[whole:], n_bytes), held - whole
    if held:
        yield buffer[:held].data


def _end_of_lines(buffer: npt.NDArray[np.uint8]) -> int:
    """Behind the last newline, 0 if there is none."""
    looked_at = 1 << 12
    while True:
        newlines = np.flatnonzero(buffer[-looked_at:] == _NEWLINE)
        if len(newlines):
            return max(0, len(buffer) - looked_at) + int(newlines[-1]) + 1
        if looked_at >= len(buffer):
            return 0
        looked_at *= 2


def _with_room(rest: npt.NDArray[np.uint8], n_bytes: int) -> npt.NDArray[np.uint8]:
    """A new buffer that begins with `rest` and has room for as much again."""
    buffer = np.empty(max(n_bytes, 2 * len(rest)), dtype=np.uint8)
    buffer[: len(rest)] = rest
    return buffer


class Table:
    """A file written line by line; it appears when all is well, and only if it has a line.

    `columns`, if they are given for all its rows, are kept beside it. `later` takes what is left to do when the last
    line is written: until the disk has it all, there is other work. Where there are `archives`, they get the table
    unless it is large.
    """

    def __init__(
        self, path: Path, later: Later = lambda finish: finish(), archives: TableArchives | None = None
    ) -> None:
        self.n_rows = 0
        self._archives = archives
        self._held = bytearray()
        self.columns = ColumnsWriter(path)
        self._path = path
        self._later = later
        self._file: DirectWriter | None = None
        self._open = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._open.__exit__(kind, value, trace)
        elif self.n_rows:
            self._later(self._finish)

    def _finish(self) -> None:
        if self._archives is not None:
            self._archives.add(self._path, self._held)
            self._held = bytearray()
            self.columns.drop()
            return
        with self._open:  # an error of the last write leaves no file either
            if self._file is not None:
                self._file.finish()
        self.columns.write()

    def write(self, lines: Lines, n_rows: int) -> None:
        """Add lines."""
        self.n_rows += n_rows
        data = memoryview(lines).cast("B")
        if self._archives is not None:
            self._held += data
            if len(self._held) <= largest(self._path):
                return
            self._archives, data = None, memoryview(self._held)
        if self._file is None:
            self._file = DirectWriter(self._open.enter_context(atomic_file(self._path)))
        self._file.write(data)
        self._held = bytearray()


class LevelTables(dict[bytes, Table]):
    """A table for each level that has a row, written side by side."""

    def __init__(self, path_of: Callable[[bytes], Path], later: Later, archives: TableArchives | None = None) -> None:
        super().__init__()
        self._path_of = path_of
        self._later = later
        self._archives = archives
        self._open = ExitStack()

    def __missing__(self, level: bytes) -> Table:
        self[level] = self._open.enter_context(Table(self._path_of(level), self._later, self._archives))
        return self[level]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, value, trace)
