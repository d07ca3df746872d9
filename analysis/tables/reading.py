"""Reading many cells: two at a time, and none parsed twice in one process.

What was parsed is kept, so that a run's analyses parse each file once between them; a file that changed since is read
again, and what is kept never exceeds a fixed number of bytes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from foreshock.analysis.tables.cells import CellTable, read_cell
from foreshock.analysis.tables.files import CellFiles
from foreshock.analysis.tables.schema import SCHEMAS, TableKind
from foreshock.jobs.records.table_files import TableState, table_state

T = TypeVar("T")
State = tuple[TableState, ...]
"""Of every table of a cell."""

KEPT_BYTES = 1 << 30
_AROUND_BYTES = 24 << 10
"""Of what Arrow and Python keep around the values of a cell, which of a hundred thousand small ones is nearly all."""
_THREADS = 2
"""Arrow parses in threads of its own; a second cell fills the time that the first spends in Python."""


@dataclass(frozen=True, slots=True)
class CellKey:
    """Which files were read, and how."""

    paths: tuple[Path, ...]
    kind: TableKind
    columns: tuple[str, ...] | None
    repeats_are_rollouts: bool

    @property
    def run(self) -> Path:
        """The run directory."""
        return self.paths[0].parent.parent


def file_states(paths: Sequence[Path]) -> State:
    """Changes whenever a table does."""
    return tuple(map(table_state, paths))


class CellMemo:
    """Cells that were read, at most `limit` bytes of them.

    Cells of other runs make room, the oldest first; those of the same run do not, since analyses read its files from
    the first to the last, and each cell would push out the one that is needed next.
    """

    def __init__(self, limit: int) -> None:
        self._limit, self._bytes = limit, 0
        self._kept: dict[Path, dict[CellKey, tuple[State, CellTable]]] = {}
        """By run: looking through all cells for those of others, at each that is put there, takes the square of their
        number."""
        self._lock = threading.Lock()

    def get(self, key: CellKey, state: State) -> CellTable | None:
        """What is kept of these files, if they are still as they were."""
        with self._lock:
            found = self._kept.get(key.run, {}).get(key)
        return found[1] if found is not None and found[0] == state else None

    def put(self, key: CellKey, state: State, cell: CellTable) -> None:
        """Keep it if there is room."""
        size, run = kept_size(cell), key.run
        with self._lock:
            self._drop(run, key)
            while self._bytes + size > self._limit and (other := self._other_than(run)) is not None:
                self._drop(other, next(iter(self._kept[other])))
            if self._bytes + size <= self._limit:
                self._kept.setdefault(run, {})[key] = (state, cell)
                self._bytes += size

    def _other_than(self, run: Path) -> Path | None:
        """The run that was read first of all others."""
        return next((other for other in self._kept if other != run), None)

    def _drop(self, run: Path, key: CellKey) -> None:
        own = self._kept.get(run, {})
        found = own.pop(key, None)
        if found is not None:
            self._bytes -= kept_size(found[1])
            if not own:
                del self._kept[run]


def kept_size(cell: CellTable) -> int:
    """Bytes that a cell takes in memory, about."""
    return int(cell.rows.nbytes) + _AROUND_BYTES


_memo = CellMemo(KEPT_BYTES)


def read_cells(
    files: Sequence[CellFiles],
    kind: TableKind,
    use: Callable[[CellTable], T],
    columns: Sequence[str] | None = None,
    repeats_are_rollouts: bool = False,
) -> list[T]:
    """`use` of every cell, in the order of `files`; called in threads. Raises InputError as `read_cell`."""

    def read(cell: CellFiles) -> T:
        key = CellKey(cell.paths, kind, None if columns is None else tuple(columns), repeats_are_rollouts)
        state = file_states(key.paths)
        table = _memo.get(key, state)
        if table is None:
            table = read_cell(cell, SCHEMAS[kind], columns, repeats_are_rollouts)
            if table.parsed:
                _memo.put(key, state, table)
        return use(table)

    with ThreadPoolExecutor(_THREADS) as threads:
        return list(threads.map(read, files))
