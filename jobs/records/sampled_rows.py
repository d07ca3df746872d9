"""A cell's sampled rows with their texts, which lie in a samples file beside the table.

foreshock writes every row into both. Other tools need not: djinn keeps the texts of three attempts a file unless it is
told otherwise, and leaves `insecure_suspect` out there. So the table says which attempts there are and how they ended,
and a samples file adds what the table lacks.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import NamedTuple

from foreshock.jobs.records.jsonl import parse_line, read_jsonl
from foreshock.jobs.records.rows import Row
from foreshock.jobs.records.table_files import SAMPLES, has_table, open_table


class LinePlace(NamedTuple):
    """Where a line lies in its table, in bytes."""

    start: int
    length: int


class SampledLine(NamedTuple):
    """A row, the place of its line, and that of the line that adds to it, if there is one."""

    row: Row
    place: LinePlace
    added: LinePlace | None


@dataclass(frozen=True, slots=True)
class SampledTable:
    """path: holds every row of the cell. samples: adds to some of them; None where `path` has all there is."""

    path: Path
    samples: Path | None

    @classmethod
    def of(cls, table: Path) -> SampledTable:
        """The samples file alone where it has every row and every key of the table."""
        samples = samples_beside(table)
        if not has_table(samples):
            return cls(table, None)
        return cls(samples, None) if _has_all(samples, table) else cls(table, samples)

    def rows(self) -> Iterator[Row]:
        """In the table's order. Raises InputError naming a line that is not one JSON object."""
        if self.samples is None:
            yield from (row for _, row in read_jsonl(self.path))
        else:
            yield from (line.row for line in self.lines())

    def lines(self) -> Iterator[SampledLine]:
        """The same with their places."""
        if self.samples is None:
            yield from (SampledLine(row, place, None) for place, row in _placed(self.path))
            return
        adding = {key: place for key, place, _ in _keyed(self.samples)}
        with open_table(self.samples) as file:
            for key, place, row in _keyed(self.path):
                added = adding.get(key)
                yield SampledLine(row if added is None else row_of(read_line(file, added)) | row, place, added)


def samples_beside(table: Path) -> Path:
    """Where the texts of a table's rows would lie."""
    return table.with_name(f"{table.name}{SAMPLES}")


def count_rows(table: Path) -> int:
    """Lines that are not blank."""
    with open_table(table) as file:
        return sum(1 for line in file if line.strip())


def without_sample(table: Path) -> int:
    """How many rows of a table have none in its samples file."""
    samples = samples_beside(table)
    return max(0, count_rows(table) - (count_rows(samples) if has_table(samples) else 0))


def read_line(file: BufferedReader, place: LinePlace) -> bytes:
    """The line at a place."""
    file.seek(place.start)
    return file.read(place.length)


def row_of(line: bytes) -> Row:
    """The row that a line holds. Raises ValueError where it holds none, as in a file that has changed."""
    row = json.loads(line)
    if not isinstance(row, dict):
        raise ValueError("not an object")
    return row


def _has_all(samples: Path, table: Path) -> bool:
    keys = [set(next((row for _, row in _placed(path)), {})) for path in (samples, table)]
    return keys[0] >= keys[1] and count_rows(samples) == count_rows(table)


def _keyed(path: Path) -> Iterator[tuple[str, LinePlace, Row]]:
    """Rows by task, attempt and rollout, and by which of those that share these they are."""
    seen = Counter[str]()
    for place, row in _placed(path):
        key = json.dumps([row.get(name) for name in ("task_id", "attempt_idx", "rollout")], default=repr)
        seen[key] += 1
        yield f"{key} {seen[key]}", place, row


def _placed(path: Path) -> Iterator[tuple[LinePlace, Row]]:
    start = 0
    with open_table(path) as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield LinePlace(start, len(line)), parse_line(line, path, number)
            start += len(line)
