"""How far an array task is: one small file a task, rewritten in place, read by `status` and the progress bars.

Progress is a courtesy, never a source of truth. Nothing decides by it what is done; it may be lost or stale and the
run is none the worse.
"""

from __future__ import annotations

import os
import socket
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from foreshock.errors import InputError
from foreshock.jobs.records.jsonl import read_json, write_json

_MIN_INTERVAL_S = 0.5


@dataclass
class TaskProgress:
    """State of one array task. Times are seconds since the epoch; `rows_resumed` were done by earlier attempts."""

    pack: int
    task: int
    state: str = "starting"
    rows_total: int = 0
    rows_done: int = 0
    rows_resumed: int = 0
    rows_failed: int = 0
    exploits: int = 0
    doing: str = ""
    message: str = ""
    host: str = ""
    pid: int = 0
    started: float = 0.0
    updated: float = 0.0

    @classmethod
    def read(cls, path: Path) -> TaskProgress | None:
        """What a task last said; None if it has said nothing readable."""
        try:
            return cls(**read_json(path))
        except (InputError, OSError, TypeError):
            return None


class ProgressReporter:
    """Writes a task's progress file, at most twice a second."""

    def __init__(self, path: Path, pack: int, task: int) -> None:
        self._path = path
        self._written = 0.0
        self.now = TaskProgress(pack, task, host=socket.gethostname(), pid=os.getpid(), started=time.time())

    def say(self, *, force: bool = False) -> None:
        """Write the file if the last write is long enough ago. A full disk must not stop the work."""
        clock = time.monotonic()
        if not force and clock - self._written < _MIN_INTERVAL_S:
            return
        self._written = clock
        self.now.updated = time.time()
        try:
            write_json(self._path, asdict(self.now))
        except OSError:
            return
