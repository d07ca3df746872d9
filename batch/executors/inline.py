"""Array tasks in this very process, one a poll: for debugging, tests and single small runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from foreshock.batch.executors.base import TaskReport
from foreshock.jobs.records.layout import RunLayout
from foreshock.jobs.records.planfile import PlanFile
from foreshock.jobs.records.spec import ArrayTask
from foreshock.jobs.stop_flag import StopFlag
from foreshock.jobs.worker import EXIT_COMPLETE, EXIT_STOPPED, run_array_task
from foreshock.slurm.states import JobState


class InlineExecutor:
    """Runs the next pending task at each poll."""

    name = "inline"
    detached = False

    def __init__(self) -> None:
        self.notes: list[str] = []
        self._layout: RunLayout | None = None
        self._pack = 0
        self._reports: dict[int, TaskReport] = {}
        self._stop = StopFlag()

    def queued(self, layout: RunLayout, plan: PlanFile) -> frozenset[str]:
        """Nothing outlives this process."""
        return frozenset()

    def submit(self, layout: RunLayout, pack: int, tasks: Sequence[ArrayTask]) -> None:
        """Queue the tasks."""
        self._layout, self._pack = layout, pack
        self._reports = {task.index: TaskReport(task.index, JobState.PENDING) for task in tasks}

    def poll(self) -> Mapping[int, TaskReport]:
        """Run one task to its end."""
        pending = [report.index for report in self._reports.values() if report.state is JobState.PENDING]
        if pending and self._layout is not None:
            self._reports[pending[0]] = self._run(self._layout, pending[0])
        return dict(self._reports)

    def cancel(self) -> None:
        """Stop after the batch in flight and start nothing more."""
        self._stop.requested = True
        for index, report in self._reports.items():
            if report.state is JobState.PENDING:
                self._reports[index] = TaskReport(index, JobState.CANCELLED)

    def _run(self, layout: RunLayout, index: int) -> TaskReport:
        code = run_array_task(layout, self._pack, index, self._stop)
        state = {EXIT_COMPLETE: JobState.COMPLETED, EXIT_STOPPED: JobState.CANCELLED}.get(code, JobState.FAILED)
        return TaskReport(index, state, code)
