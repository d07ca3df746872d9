"""Whether what is computed has its tables: shards can be complete while tables, or an archive of them, are gone."""

from __future__ import annotations

from collections.abc import Iterable

from foreshock.batch.status.document import CellStatus
from foreshock.errors import InputError
from foreshock.jobs.records.layout import CellName, RunLayout
from foreshock.jobs.records.spec import JobKind
from foreshock.jobs.records.table_gaps import find_gaps, named_cells


def table_notes(layout: RunLayout, cells: Iterable[CellStatus]) -> list[str]:
    """Notes for a run that was aggregated: computed cells without a table, or what makes tables unreadable."""
    fix = "`foreshock aggregate RUN` writes them again from the shards"
    try:
        gaps = find_gaps(layout.root)
    except InputError as error:
        return [f"tables cannot be read: {error}"]
    done = {
        CellName(cell.checkpoint, cell.level)
        for cell in cells
        if cell.kind == JobKind.EVAL and cell.state == "done" and cell.level is not None
    }
    notes = []
    for what, found in (("table", gaps.no_table), ("samples", gaps.no_samples)):
        lacking = [cell for cell in found if cell in done]
        if lacking:
            notes.append(f"{len(lacking):,} computed cells have no {what} in evals/: {named_cells(lacking)} -> {fix}")
    return notes
