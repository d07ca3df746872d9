"""Finding the log of a cell: which array task computes it, and where that task's last attempt wrote.

The way goes cell -> spec -> pack -> task -> log, all of it on disk, so it also works for runs whose jobs nobody
remembers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from foreshock.batch.status.of_slurm import slurm_report
from foreshock.errors import InputError
from foreshock.jobs.records.checkpoint_names import RESULT_NAME
from foreshock.jobs.records.layout import RunLayout
from foreshock.jobs.records.planfile import PlanFile, pack_numbers, read_pack
from foreshock.jobs.records.spec import ArrayTask
from foreshock.slurm.journal import Journal
from foreshock.slurm.logs import Attempt, read_attempts

_CELL = re.compile(rf"^(?P<checkpoint>{RESULT_NAME})(?:(?:@|_prefill|:)(?P<level>\d+))?$")


@dataclass(frozen=True)
class TaskLog:
    """The log of one array task. `attempts` is empty for workers on this machine, whose logs have no marks."""

    pack: int
    task: int
    state: str
    path: Path
    attempts: tuple[Attempt, ...]


def find_logs(layout: RunLayout, cell: str | None = None) -> list[TaskLog]:
    """Logs of all tasks, or of those with work on `cell` (`checkpoint-64`, `checkpoint-64@10`), oldest pack first.

    Raises InputError for a cell that the run does not have.
    """
    plan = PlanFile.read(layout)
    wanted = None if cell is None else _specs_of(plan, cell)
    states = {(task.pack, task.report.index): task for task in slurm_report(layout).tasks}
    found = []
    for pack in pack_numbers(layout):
        for task in read_pack(layout, pack, plan):
            if wanted is not None and not any(spec.key() in wanted for spec in task.specs):
                continue
            known = states.get((pack, task.index))
            path = known.log if known is not None else _local_log(layout, pack, task)
            if path is not None and path.is_file():
                attempts = tuple(read_attempts(path)) if known is not None else ()
                found.append(TaskLog(pack, task.index, known.report.state.value if known else "", path, attempts))
    return found


def final_logs(layout: RunLayout) -> list[Path]:
    """Logs of the jobs after the arrays, oldest first."""
    names = [s.final.name for s in Journal(layout.root).load_all() if s.final is not None]
    return [path for name in names for path in sorted((layout.logs / "slurm").glob(f"{name}-*.log"))]


def _local_log(layout: RunLayout, pack: int, task: ArrayTask) -> Path:
    return layout.logs / f"pack-{pack:04d}-task-{task.index:05d}.log"


def _specs_of(plan: PlanFile, cell: str) -> set[str]:
    match = _CELL.match(cell)
    names = sorted({spec.checkpoint for spec in plan.specs})
    levels = sorted({level for spec in plan.specs for level in spec.levels})
    keys: set[str] = set()
    if match is not None:
        level = None if match["level"] is None else int(match["level"])
        keys = {
            spec.key()
            for spec in plan.specs
            if spec.checkpoint.name == match["checkpoint"] and (level is None or level in spec.levels)
        }
    if not keys:
        raise InputError(
            f"this run has no cell {cell!r}; valid: CHECKPOINT or CHECKPOINT@LEVEL with "
            f"{', '.join(point.name for point in names)} and levels {', '.join(map(str, levels))}"
        )
    return keys
