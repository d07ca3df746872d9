"""Cells that a run's plan has and its tables lack: a rate over the rest is of a part of the run, and readers say so.

A table that was never made, was deleted, or went with one of the archives that hold those of a large run looks like a
cell that nobody planned. The plan tells them apart; a run without one (of another tool, or imported) is what it holds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from foreshock.errors import InputError
from foreshock.jobs.records.checkpoint_names import checkpoint_order
from foreshock.jobs.records.jsonl import read_json
from foreshock.jobs.records.layout import CellName, RunLayout
from foreshock.jobs.records.planspecs import planned_levels
from foreshock.jobs.records.spec import JobKind
from foreshock.jobs.records.table_files import SAMPLES, table_names

_MOST_NAMED = 4
HOW_TO_FILL = "`foreshock aggregate RUN` writes those computed, `foreshock resume RUN` computes the others"


@dataclass(frozen=True, slots=True)
class Gaps:
    """Cells of evals/ of a planned run: how many there should be, those without a table, and those with a table but
    without samples although others have them. Sorted by checkpoint and level."""

    n_planned: int
    no_table: tuple[CellName, ...]
    no_samples: tuple[CellName, ...]

    def lines(self) -> list[str]:
        """Sentences for a reader of the run; none where nothing is missing."""
        said = []
        if self.no_table:
            said.append(
                f"evals/: {len(self.no_table):,} of {self.n_planned:,} planned cells have no table: "
                f"{named_cells(self.no_table)}; what is shown is of the others -> {HOW_TO_FILL}"
            )
        if self.no_samples:
            said.append(
                f"evals/: {len(self.no_samples):,} cells have a table but no samples: {named_cells(self.no_samples)} "
                f"-> `foreshock aggregate RUN` writes both again"
            )
        return said


def find_gaps(root: Path) -> Gaps:
    """What a run lacks. Raises InputError for an archive that cannot be read, and for a damaged plan."""
    layout = RunLayout(root)
    # A rescore has no plan of its own, and lacks what its run lacked.
    of = root.resolve().parents[1] if root.resolve().parent.name == "rescore" else root
    planned = planned_cells(RunLayout(of))
    if not planned:
        return Gaps(0, (), ())
    names = frozenset(table_names(layout.evals))
    tables = {cell: f"{cell.checkpoint}_prefill{cell.level}.jsonl" for cell in planned}
    no_table = [cell for cell, name in tables.items() if name not in names]
    no_samples = [cell for cell, name in tables.items() if name in names and f"{name}{SAMPLES}" not in names]
    if len(no_samples) + len(no_table) == len(planned):
        no_samples = [] if not any(name.endswith(SAMPLES) for name in names) else no_samples
    return Gaps(len(planned), _sorted(no_table), _sorted(no_samples))


def gap_lines(root: Path) -> list[str]:
    """What a reader of a run's evals says of what is missing there; `root`: the run, or its evals/."""
    run = root.parent if root.name == "evals" else root
    return find_gaps(run).lines()


def planned_cells(layout: RunLayout) -> frozenset[CellName]:
    """Cells of the plan's sweep; empty for a run without a plan. Raises InputError for a damaged plan."""
    try:
        stat = layout.plan.stat()
    except OSError:
        return frozenset()
    return _planned(layout.plan, stat.st_ino, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=8)
def _planned(plan: Path, *_: int) -> frozenset[CellName]:
    try:
        found = planned_levels(read_json(plan), JobKind.EVAL)
        return frozenset(CellName(name, level) for name, levels in found for level in levels)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise InputError(f"not a foreshock plan: {error!r}", path=plan, fix="restore it from a copy") from None


def named_cells(cells: Iterable[CellName]) -> str:
    """Cells by checkpoint, the first few: `checkpoint-8 at 0, 10; checkpoint-16 at 30; and 12 checkpoints more`."""
    levels: dict[str, list[int]] = {}
    for cell in cells:
        levels.setdefault(cell.checkpoint, []).append(cell.level)
    shown = [f"{name} at {', '.join(map(str, at))}" for name, at in list(levels.items())[:_MOST_NAMED]]
    more = len(levels) - _MOST_NAMED
    return "; ".join(shown) + (f"; and {more:,} checkpoints more" if more > 0 else "")


def _sorted(cells: Iterable[CellName]) -> tuple[CellName, ...]:
    return tuple(sorted(cells, key=lambda cell: (checkpoint_order(cell.checkpoint), cell.level)))
