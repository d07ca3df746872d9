"""A cluster in memory whose tasks end as they are told to, before or after they have done their work.

For tests of everything that has to live with an executor: healing, resuming, status.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from foreshock.batch.executors.base import TaskReport
from foreshock.batch.executors.inline import InlineExecutor
from foreshock.jobs.records.layout import RunLayout
from foreshock.jobs.worker import EXIT_FAILED
from foreshock.slurm.states import JobState


@dataclass(frozen=True, slots=True)
class Ending:
    """How a task is to end: in `state`, with its work done or not."""

    state: JobState
    works: bool


class FakeExecutor(InlineExecutor):
    """`endings` are used up in order, one a task; then every task ends as it does inline."""

    name = "fake"

    def __init__(self, endings: Sequence[Ending] = ()) -> None:
        super().__init__()
        self._endings = list(endings)

    def _run(self, layout: RunLayout, index: int) -> TaskReport:
        ending = self._endings.pop(0) if self._endings else None
        if ending is not None and not ending.works:
            return TaskReport(index, ending.state, EXIT_FAILED, "as told")
        report = super()._run(layout, index)
        return report if ending is None else TaskReport(index, ending.state, EXIT_FAILED, "as told")
