"""Commands that write many tables: in files of their own or, of a large run, in archives."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from types import TracebackType
from typing import Self

from foreshock.durable import atomic_write_bytes
from foreshock.jobs.records.table_archives import TableArchives, join_tables, remove_replaced

_TOGETHER = 512
"""Tables that come into one archive, or are files of their own until they do."""

LARGE = 2000
"""Tables from which a command without a run's plan writes archives, as `execution.bundle_from` has it for runs."""


class TablesAtOnce:
    """Writes what is at hand: tables go into archives directly. As a context it removes what they replace."""

    def __init__(self, archived: bool) -> None:
        self._archives = TableArchives() if archived else None
        self._folders: set[Path] = set()
        self._n_taken = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._archives is not None:
            self._archives.__exit__(kind, value, trace)
        if kind is None:
            for folder in self._folders:
                remove_replaced(folder)

    def write(self, table: Path, data: bytes) -> None:
        """Write a table."""
        self._folders.add(table.parent)
        if self._archives is None:
            atomic_write_bytes(table, data)
            return
        self._archives.write(table, data)
        self._n_taken += 1
        if self._n_taken % _TOGETHER == 0:
            self._archives.commit()


class TablesAsMade:
    """Joins tables of `folder` that are made one after another, each a durable file at first; if `archived`. `only`:
    names of tables that may be, where the folder may hold files of others."""

    def __init__(self, folder: Path, archived: bool, only: Collection[str] | None = None) -> None:
        self._folder = folder
        self._archived = archived
        self._only = only
        self._made: set[Path] = set()

    def made(self, table: Path) -> None:
        """This table has been written, not for the last time perhaps: it is joined with others, or with nothing."""
        self._made.add(table)
        if self._archived and len(self._made) > _TOGETHER:
            self._made = {table}
            join_tables(self._folder, 2, self._only)

    def finish(self) -> None:
        """No more will be."""
        if self._archived:
            join_tables(self._folder, 2, self._only)
            remove_replaced(self._folder)
