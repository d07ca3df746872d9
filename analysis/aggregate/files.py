"""Tables while they are written: line by line, several at a time, each file whole or not there.

The one hard decision: a table without a line leaves no file, and a table of an earlier aggregation is replaced only by
one that has lines; so a cell that is missing now keeps what it had.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from foreshock.jobs.records.jsonl import atomic_file

_WRITES_AT_ONCE = 256
_BYTES_AT_ONCE = 1 << 19
"""Lines are collected up to the one or the other, since most writes are of one line."""


class Table:
    """A file written line by line; it appears when all is well, and only if it has a line."""

    def __init__(self, path: Path) -> None:
        self.n_rows = 0
        self._path = path
        self._waiting: list[bytes] = []
        self._file: BinaryIO | None = None
        self._open = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            with self._open:  # an error of the last write leaves no file either
                self._flush()
        else:
            self._open.__exit__(kind, value, trace)

    def write(self, lines: bytes, n_rows: int) -> None:
        """Add lines."""
        self._waiting.append(lines)
        self.n_rows += n_rows
        if len(self._waiting) >= _WRITES_AT_ONCE or len(lines) >= _BYTES_AT_ONCE:
            self._flush()

    def _flush(self) -> None:
        if not self._waiting:
            return
        if self._file is None:
            self._file = self._open.enter_context(atomic_file(self._path))
        self._file.write(b"".join(self._waiting))
        self._waiting.clear()


class LevelTables(dict[bytes, Table]):
    """A table for each level that has a row, written side by side."""

    def __init__(self, path_of: Callable[[bytes], Path]) -> None:
        super().__init__()
        self._path_of = path_of
        self._open = ExitStack()

    def __missing__(self, level: bytes) -> Table:
        self[level] = self._open.enter_context(Table(self._path_of(level)))
        return self[level]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, value, trace)
