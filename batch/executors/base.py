"""The executor seam: start a pack's array tasks somewhere, say how they are, stop them.

An executor knows nothing of rows. Whether work is done is read from the store, so a process that dies with exit code
0 and one that dies of SIGKILL are judged alike: by what is on disk.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from foreshock.jobs.records.layout import RunLayout
from foreshock.jobs.records.planfile import PlanFile
from foreshock.jobs.records.spec import ArrayTask
from foreshock.slurm.states import JobState


@dataclass(frozen=True, slots=True)
class TaskReport:
    """What an executor knows of one array task; `detail` quotes the log's last meaningful lines after a failure."""

    index: int
    state: JobState
    exit_code: int | None = None
    detail: str | None = None


class Executor(Protocol):
    """Runs array tasks; contract suite: tests/support/executor_contract.py."""

    name: str
    detached: bool
    """True when the work goes on after this process has ended."""
    notes: list[str]
    """What queued work waits for, as of the last call of `queued`."""

    def queued(self, layout: RunLayout, plan: PlanFile) -> frozenset[str]:
        """Keys of specs that earlier submissions of this run are still going to do; first completes a submission
        that was interrupted half-way."""

    def submit(self, layout: RunLayout, pack: int, tasks: Sequence[ArrayTask]) -> None:
        """Start (or queue) every task of a pack."""

    def poll(self) -> Mapping[int, TaskReport]:
        """State of every task, by index; may do some of the work itself. Never blocks for long in between."""

    def cancel(self) -> None:
        """Ask every task to stop; finished batches stay on disk."""
