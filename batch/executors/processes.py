"""Starting worker processes, each of its own: the seam under the local executor, and its plain implementation.

A worker's environment is the launcher's and the tie to the launcher is the kernel's, so that whatever starts a
worker, nothing of it outlives the launcher.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol


class WorkerProcesses(Protocol):
    """Processes of array tasks, by task index; the executor's contract suite runs over each kind."""

    def start(self, task: int, pack: int, log: Path, environment: Mapping[str, str]) -> None:
        """Start a task's process; `environment` comes on top of this process's."""

    def ended(self) -> dict[int, int]:
        """Exit codes of tasks that ended since the last call (minus the signal's number); does not block."""

    def terminate(self) -> dict[int, int]:
        """SIGTERM to all that run; waits for the batches in flight and returns the exit codes."""

    def pids(self) -> dict[int, int]:
        """Process ids of running tasks, as far as known."""

    def close(self) -> None:
        """Release what is held; nothing runs any more."""


def child_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """This process's environment, what every worker gets on top, and `extra`."""
    return {**os.environ, "TOKENIZERS_PARALLELISM": "false", **extra}


class SpawnedProcesses:
    """A new interpreter for every task."""

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir
        self._running: dict[int, subprocess.Popen[bytes]] = {}

    def start(self, task: int, pack: int, log: Path, environment: Mapping[str, str]) -> None:
        command = [sys.executable, "-m", "foreshock.jobs", str(self._run_dir)]
        command += ["--pack", str(pack), "--task", str(task), "--parent", str(os.getpid())]
        with log.open("ab") as file:
            # A session of its own: Ctrl-C reaches the launcher alone, which then stops its workers in order.
            self._running[task] = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env=child_environment(environment),
                start_new_session=True,
            )

    def ended(self) -> dict[int, int]:
        codes = {task: code for task, process in self._running.items() if (code := process.poll()) is not None}
        for task in codes:
            del self._running[task]
        return codes

    def terminate(self) -> dict[int, int]:
        for process in self._running.values():
            process.send_signal(signal.SIGTERM)
        for process in self._running.values():
            process.wait()
        return self.ended()

    def pids(self) -> dict[int, int]:
        return {task: process.pid for task, process in self._running.items()}

    def close(self) -> None:
        self.terminate()
