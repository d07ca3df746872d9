"""Whether what is computed has its tables: shards can be complete while tables, or an archive of them, are gone."""

from __future__ import annotations

import os
from collections.abc import Iterable

from foreshock.batch.status.document import CellStatus
from foreshock.errors import InputError
from foreshock.jobs.records.archive_index import archive_generation, n_members
from foreshock.jobs.records.layout import CellName, RunLayout
from foreshock.jobs.records.spec import JobKind
from foreshock.jobs.records.table_gaps import find_gaps, named_cells


def table_notes(layout: RunLayout, cells: Iterable[CellStatus]) -> list[str]:
    """Notes for a run that was aggregated: computed cells without a table, or what makes tables unreadable."""
    cells = [cell for cell in cells if cell.kind == JobKind.EVAL and cell.level is not None]
    if _as_many_as(layout, len(cells)):
        return []
    fix = "`foreshock aggregate RUN` writes them again from the shards"
    try:
        gaps = find_gaps(layout.root)
    except InputError as error:
        return [f"tables cannot be read: {error}"]
    done = {CellName(cell.checkpoint, cell.level) for cell in cells if cell.level is not None and cell.state == "done"}
    notes = []
    for what, found in (("table", gaps.no_table), ("samples", gaps.no_samples)):
        lacking = [cell for cell in found if cell in done]
        if lacking:
            notes.append(f"{len(lacking):,} computed cells have no {what} in evals/: {named_cells(lacking)} -> {fix}")
    return notes


def _as_many_as(layout: RunLayout, n_cells: int) -> bool:
    """Whether the archives of one writer hold a table and samples of so many cells, as far as they say without being
    looked into: `status` is asked every few seconds."""
    try:
        names = os.listdir(layout.evals)  # noqa: PTH208 - only the names
    except OSError:
        return False
    generations = {name: archive_generation(name) for name in names}
    archives = [name for name, generation in generations.items() if generation is not None]
    if not archives or len({generations[name] for name in archives}) > 1:
        return False  # two of one table would be counted twice
    found = {True: 0, False: 0}
    for name in archives:
        n = n_members(layout.evals / name)
        if n is None:
            return False
        found[name.startswith("samples-")] += n
    return found == {True: n_cells, False: n_cells}
