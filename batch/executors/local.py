"""Array tasks as worker processes on this machine.

Plain child processes instead of submitit's local executor. That one starts every job at once and leaves them running
when the launcher is killed; here at most `workers` run, and the kernel stops them when the launcher dies, so a resume
never meets a second writer.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from foreshock.batch.executors.base import TaskReport
from foreshock.batch.executors.forked import ForkedProcesses
from foreshock.batch.executors.processes import SpawnedProcesses, WorkerProcesses
from foreshock.jobs.records.layout import RunLayout
from foreshock.jobs.records.planfile import PlanFile
from foreshock.jobs.records.spec import ArrayTask
from foreshock.jobs.worker import EXIT_COMPLETE, EXIT_STOPPED
from foreshock.slurm.states import JobState

_LOG_TAIL_LINES = 15


class LocalExecutor:
    """Keeps at most `workers` processes busy; GPU workers see `gpus_per_worker` devices each.

    `preload` are modules that CPU workers share by being forked after their import; without any, each is a new
    interpreter.
    """

    name = "local"
    detached = False

    def __init__(
        self, workers: int, gpus: int = 0, threads: int = 1, gpus_per_worker: int = 1, preload: Sequence[str] = ()
    ) -> None:
        self._workers = workers
        self._devices = visible_devices(gpus)
        self._gpus_per_worker = gpus_per_worker
        self._threads = threads
        self._preload = () if gpus else tuple(preload)
        self.notes: list[str] = []
        self._layout: RunLayout | None = None
        self._processes: WorkerProcesses | None = None
        self._pack = 0
        self._pending: list[int] = []
        self._slots: dict[int, int] = {}
        """Slot of every running task."""
        self._reports: dict[int, TaskReport] = {}

    def queued(self, layout: RunLayout, plan: PlanFile) -> frozenset[str]:
        """Nothing outlives this process."""
        return frozenset()

    def submit(self, layout: RunLayout, pack: int, tasks: Sequence[ArrayTask]) -> None:
        """Queue the tasks and start the first ones."""
        self._layout, self._pack = layout, pack
        self._processes = self._make_processes(layout.root)
        self._pending = [task.index for task in tasks]
        self._reports = {task.index: TaskReport(task.index, JobState.PENDING) for task in tasks}
        layout.logs.mkdir(parents=True, exist_ok=True)
        self._fill()

    def poll(self) -> Mapping[int, TaskReport]:
        """Collect processes that ended, start those that wait."""
        if self._processes is not None:
            self._collect(self._processes.ended())
            self._fill()
            if not self._slots:
                self._processes.close()
        return dict(self._reports)

    def cancel(self) -> None:
        """SIGTERM to the running, none of the waiting is started; waits for the batches in flight."""
        self._pending.clear()
        if self._processes is not None:
            self._collect(self._processes.terminate())
            self._processes.close()
        for index, report in self._reports.items():
            if not report.state.is_final:
                self._reports[index] = TaskReport(index, JobState.CANCELLED)

    def pids(self) -> dict[int, int]:
        """Process ids of running tasks, as far as known."""
        return {} if self._processes is None else self._processes.pids()

    def _make_processes(self, run_dir: Path) -> WorkerProcesses:
        return ForkedProcesses(run_dir, self._preload) if self._preload else SpawnedProcesses(run_dir)

    def _collect(self, codes: Mapping[int, int]) -> None:
        for index, code in codes.items():
            del self._slots[index]
            self._reports[index] = self._report(index, code)

    def _fill(self) -> None:
        while self._pending and len(self._slots) < self._workers:
            self._start(self._pending.pop(0))

    def _start(self, index: int) -> None:
        assert self._processes is not None
        slot = min(set(range(self._workers)) - set(self._slots.values()))
        environment = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(self._threads))}
        if self._devices:
            first = slot * self._gpus_per_worker
            own = [self._devices[(first + i) % len(self._devices)] for i in range(self._gpus_per_worker)]
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(own)
        self._processes.start(index, self._pack, self._log(index), environment)
        self._slots[index] = slot
        self._reports[index] = TaskReport(index, JobState.RUNNING)

    def _log(self, index: int) -> Path:
        assert self._layout is not None
        return self._layout.logs / f"pack-{self._pack:04d}-task-{index:05d}.log"

    def _report(self, index: int, code: int) -> TaskReport:
        if code == EXIT_COMPLETE:
            return TaskReport(index, JobState.COMPLETED, code)
        state = JobState.CANCELLED if code == EXIT_STOPPED else JobState.FAILED
        return TaskReport(index, state, code, _tail(self._log(index)))


def visible_devices(gpus: int) -> list[str]:
    """Names of the first `gpus` devices that this process may use.

    As CUDA_VISIBLE_DEVICES gives them: numbers, UUIDs of GPUs or of MIG slices. Without it, numbers from 0.
    """
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if listed is None:
        return [str(number) for number in range(gpus)]
    return [name.strip() for name in listed.split(",") if name.strip()][:gpus]


def _tail(path: Path) -> str | None:
    """The log's last meaningful lines."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return None
    return "\n".join([line for line in lines if line.strip()][-_LOG_TAIL_LINES:]) or None
