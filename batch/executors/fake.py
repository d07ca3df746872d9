"""A cluster in memory whose tasks end as they are told to, before or after they have done their work.

For tests of everything that has to live with an executor: healing, resuming, status.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from foreshock.batch.executors.base import TaskReport
from foreshock.jobs.records.layout import RunLayout
from foreshock.jobs.records.planfile import PlanFile
from foreshock.jobs.spec import ArrayTask
from foreshock.jobs.worker import EXIT_COMPLETE, EXIT_FAILED, EXIT_STOPPED, StopFlag, run_array_task
from foreshock.slurm.states import JobState


@dataclass(frozen=True, slots=True)
class Ending:
    """How a task is to end: in `state`, with its work done or not."""

    state: JobState
    works: bool


class FakeExecutor:
    """Implements `Executor`. `endings` are used up in order, one a task; then every task completes."""

    name = "fake"
    detached = False

    def __init__(self, endings: Sequence[Ending] = ()) -> None:
        self._endings = list(endings)
        self._layout: RunLayout | None = None
        self._pack = 0
        self._reports: dict[int, TaskReport] = {}

    def queued(self, layout: RunLayout, plan: PlanFile) -> frozenset[str]:
        """Nothing outlives this process."""
        return frozenset()

    def submit(self, layout: RunLayout, pack: int, tasks: Sequence[ArrayTask]) -> None:
        """Queue the tasks."""
        self._layout, self._pack = layout, pack
        self._reports = {task.index: TaskReport(task.index, JobState.PENDING) for task in tasks}

    def poll(self) -> Mapping[int, TaskReport]:
        """End one task."""
        index = next((i for i, report in self._reports.items() if report.state is JobState.PENDING), None)
        if index is not None and self._layout is not None:
            self._reports[index] = self._end(self._layout, index)
        return dict(self._reports)

    def cancel(self) -> None:
        """Start nothing more."""
        for index, report in self._reports.items():
            if not report.state.is_final:
                self._reports[index] = TaskReport(index, JobState.CANCELLED, EXIT_STOPPED)

    def _end(self, layout: RunLayout, index: int) -> TaskReport:
        ending = self._endings.pop(0) if self._endings else None
        if ending is not None and not ending.works:
            return TaskReport(index, ending.state, EXIT_FAILED, "as told")
        code = run_array_task(layout, self._pack, index, StopFlag())
        if ending is not None:
            return TaskReport(index, ending.state, EXIT_FAILED, "as told")
        state = JobState.COMPLETED if code == EXIT_COMPLETE else JobState.FAILED
        return TaskReport(index, state, code)
