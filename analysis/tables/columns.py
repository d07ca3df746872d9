"""The columns that analyses read, kept beside a large table so that they need not parse its texts again.

They are never a second truth. Columns serve only as long as their table is, by its size and time of change, the file
they were written for, and only those who ask for no other column; if anything about them is wrong, the table itself is
read. Deleting them costs time and nothing else.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from foreshock.durable import atomic_file
from foreshock.jobs.records.table_archives import LARGEST

WORTH_BYTES = LARGEST
"""Smaller tables are parsed in a tenth of a second; in large runs they lie in archives, which hold no columns."""

_STATE, _FORMAT = b"foreshock_table", b"1"


def columns_file(table: Path) -> Path:
    """Hidden, so that nobody takes it for a table."""
    return table.with_name(f".{table.name}.columns.arrow")


def read_columns(table: Path, fields: pa.Schema) -> pa.Table | None:
    """`fields` of every row, strings dictionary-encoded, as `read_jsonl` has them; None if the table is to be read."""
    try:
        state = _state(table)
        with pa.ipc.open_file(pa.OSFile(str(columns_file(table)))) as file:
            found = file.schema.metadata or {}
            if found.get(_STATE) != state or not set(fields.names) <= set(file.schema.names):
                return None
            return file.read_all().select(fields.names).replace_schema_metadata()
    except (OSError, pa.ArrowException):
        return None


class ColumnsWriter:
    """Collects the columns of a table while it is written."""

    def __init__(self, table: Path) -> None:
        self._table = table
        self._parts: list[pa.Table] = []
        self._complete = True

    def add(self, columns: pa.Table | None) -> None:
        """The next rows; None where they are not known, and then the table has to be read."""
        self._complete = self._complete and columns is not None
        if self._complete and columns is not None:
            self._parts.append(columns)
        else:
            self._parts.clear()

    def write(self) -> None:
        """Once the table is in its place."""
        kept = columns_file(self._table)
        if not self._complete or not self._parts or self._table.stat().st_size < WORTH_BYTES:
            self.drop()
            return
        columns = pa.concat_tables(self._parts).unify_dictionaries().combine_chunks()
        columns = columns.replace_schema_metadata({_STATE: _state(self._table)})
        options = pa.ipc.IpcWriteOptions(compression="lz4")
        with atomic_file(kept) as file, pa.ipc.new_file(file, columns.schema, options=options) as stream:
            stream.write_table(columns)

    def drop(self) -> None:
        """Leave none beside the table."""
        columns_file(self._table).unlink(missing_ok=True)


def _state(table: Path) -> bytes:
    stat = table.stat()
    return b"%b %d %d" % (_FORMAT, stat.st_size, stat.st_mtime_ns)
