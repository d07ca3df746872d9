"""Array tasks as worker processes on this machine.

The one hard decision: plain child processes instead of submitit's local executor. That one starts every job at
once and leaves them running when the launcher is killed; here at most `workers` run, and the kernel stops them
when the launcher dies, so a resume never meets a second writer.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from foreshock.batch.executors.base import TaskReport
from foreshock.jobs.records.layout import RunLayout
from foreshock.jobs.records.planfile import PlanFile
from foreshock.jobs.spec import ArrayTask
from foreshock.jobs.worker import EXIT_COMPLETE, EXIT_STOPPED
from foreshock.slurm.states import JobState

_LOG_TAIL_LINES = 15


class LocalExecutor:
    """Keeps at most `workers` processes busy; GPU workers see `gpus_per_worker` devices each."""

    name = "local"
    detached = False

    def __init__(self, workers: int, gpus: int = 0, threads: int = 1, gpus_per_worker: int = 1) -> None:
        self._workers = workers
        self._gpus = gpus
        self._gpus_per_worker = gpus_per_worker
        self._threads = threads
        self._layout: RunLayout | None = None
        self._pack = 0
        self._pending: list[int] = []
        self._running: dict[int, subprocess.Popen[bytes]] = {}
        self._slots: dict[int, int] = {}
        self._reports: dict[int, TaskReport] = {}

    def queued(self, layout: RunLayout, plan: PlanFile) -> frozenset[str]:
        """Nothing outlives this process."""
        return frozenset()

    def submit(self, layout: RunLayout, pack: int, tasks: Sequence[ArrayTask]) -> None:
        """Queue the tasks and start the first ones."""
        self._layout, self._pack = layout, pack
        self._pending = [task.index for task in tasks]
        self._reports = {task.index: TaskReport(task.index, JobState.PENDING) for task in tasks}
        layout.logs.mkdir(parents=True, exist_ok=True)
        self._fill()

    def poll(self) -> Mapping[int, TaskReport]:
        """Collect processes that ended, start those that wait."""
        for index, process in list(self._running.items()):
            code = process.poll()
            if code is not None:
                del self._running[index]
                del self._slots[index]
                self._reports[index] = self._report(index, code)
        self._fill()
        return dict(self._reports)

    def cancel(self) -> None:
        """SIGTERM to the running, none of the waiting is started; waits for the batches in flight."""
        self._pending.clear()
        for process in self._running.values():
            process.send_signal(signal.SIGTERM)
        for process in self._running.values():
            process.wait()
        for index, report in self.poll().items():
            if not report.state.is_final:
                self._reports[index] = TaskReport(index, JobState.CANCELLED)

    def pids(self) -> dict[int, int]:
        """Process id of every running task."""
        return {index: process.pid for index, process in self._running.items()}

    def _fill(self) -> None:
        while self._pending and len(self._running) < self._workers:
            self._start(self._pending.pop(0))

    def _start(self, index: int) -> None:
        assert self._layout is not None
        slot = min(set(range(self._workers)) - set(self._slots.values()))
        environment = dict(os.environ)
        environment.setdefault("OMP_NUM_THREADS", str(self._threads))
        environment["TOKENIZERS_PARALLELISM"] = "false"
        if self._gpus:
            first = slot * self._gpus_per_worker
            devices = (str((first + i) % self._gpus) for i in range(self._gpus_per_worker))
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(devices)
        command = [sys.executable, "-m", "foreshock.jobs", str(self._layout.root)]
        command += ["--pack", str(self._pack), "--task", str(index), "--parent", str(os.getpid())]
        with _open_log(self._log(index)) as log:
            # A session of its own: Ctrl-C reaches the launcher alone, which then stops its workers in order.
            self._running[index] = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True
            )
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


def _open_log(path: Path) -> IO[bytes]:
    return path.open("ab")


def _tail(path: Path) -> str | None:
    """The log's last meaningful lines."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return None
    return "\n".join([line for line in lines if line.strip()][-_LOG_TAIL_LINES:]) or None
