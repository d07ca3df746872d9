"""Tables while they are written: line by line, several at a time, each file whole or not there.

The one hard decision: a table without a line leaves no file, and a table of an earlier aggregation is replaced only by
one that has lines; so a cell that is missing now keeps what it had.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from foreshock.analysis.tables.columns import ColumnsWriter
from foreshock.jobs.records.jsonl import atomic_file

Later = Callable[[Callable[[], None]], object]

_BYTES_READ = 1 << 18
"""What is looked at together stays in a core's cache."""

_BYTES_AT_ONCE = 1 << 16
"""Lines are collected up to these, since some writes are short."""


def whole_lines(file: BinaryIO) -> Iterator[bytes]:
    """A file in blocks of whole lines."""
    rest = b""
    while piece := file.read(_BYTES_READ):
        end = piece.rfind(b"\n") + 1
        if end:
            yield rest + piece[:end]
            rest = piece[end:]
        else:
            rest += piece
    if rest:
        yield rest


class Table:
    """A file written line by line; it appears when all is well, and only if it has a line.

    `columns`, if they are given for all its rows, are kept beside it. `later` takes what is left to do when the last
    line is written: until the disk has it all, there is other work.
    """

    def __init__(self, path: Path, later: Later = lambda finish: finish()) -> None:
        self.n_rows = 0
        self.columns = ColumnsWriter(path)
        self._path = path
        self._later = later
        self._waiting: list[bytes] = []
        self._n_waiting = 0
        self._file: BinaryIO | None = None
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
        with self._open:  # an error of the last write leaves no file either
            self._flush()
        self.columns.write()

    def write(self, lines: bytes, n_rows: int) -> None:
        """Add lines."""
        self._waiting.append(lines)
        self._n_waiting += len(lines)
        self.n_rows += n_rows
        if self._n_waiting >= _BYTES_AT_ONCE:
            self._flush()

    def _flush(self) -> None:
        if not self._waiting:
            return
        if self._file is None:
            self._file = self._open.enter_context(atomic_file(self._path))
        self._file.write(b"".join(self._waiting))
        self._waiting.clear()
        self._n_waiting = 0


class LevelTables(dict[bytes, Table]):
    """A table for each level that has a row, written side by side."""

    def __init__(self, path_of: Callable[[bytes], Path], later: Later) -> None:
        super().__init__()
        self._path_of = path_of
        self._later = later
        self._open = ExitStack()

    def __missing__(self, level: bytes) -> Table:
        self[level] = self._open.enter_context(Table(self._path_of(level), self._later))
        return self[level]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, value, trace)
