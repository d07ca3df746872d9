"""Worker processes forked from a server that has imported torch and transformers once.

For CPU workers only. Forks share the server's memory and skip seconds of imports each; a GPU's driver does not
survive a fork, and beside loading a large model the imports do not count.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from foreshock.batch.executors.processes import child_environment
from foreshock.jobs.fork_server import MAX_MESSAGE
from foreshock.jobs.worker import EXIT_FAILED, EXIT_STOPPED

_NO_THREADS = {"JE_ARROW_MALLOC_CONF": "background_thread:false"}
"""pyarrow's allocator would start one on import, and a fork copies only the thread that calls it."""


class ForkedProcesses:
    """Client of `foreshock.jobs.fork_server`, which starts with the first task and is gone after `close`."""

    def __init__(self, run_dir: Path, modules: Sequence[str]) -> None:
        self._run_dir = run_dir
        self._modules = tuple(modules)
        self._server: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        self._logs: dict[int, Path] = {}
        """Log of every task that was asked for and has not ended."""
        self._pids: dict[int, int] = {}

    def start(self, task: int, pack: int, log: Path, environment: Mapping[str, str]) -> None:
        if self._channel is None:
            self._channel = self._start_server(log.parent / "fork-server.log", environment)
        self._logs[task] = log
        self._tell({"task": task, "pack": pack, "log": str(log)})

    def ended(self) -> dict[int, int]:
        codes: dict[int, int] = {}
        while self._channel is not None and select.select([self._channel], [], [], 0)[0]:
            codes |= self._receive(self._channel)
        return codes

    def terminate(self) -> dict[int, int]:
        if self._channel is None:
            return {}
        codes = self.ended()
        if not self._pids:  # still importing: none of the tasks has begun
            codes |= dict.fromkeys(self._logs, EXIT_STOPPED)
            self._logs.clear()
            self.close()
            return codes
        self._tell({"stop": True})
        while self._logs and self._channel is not None:
            codes |= self._receive(self._channel)
        return codes

    def pids(self) -> dict[int, int]:
        return dict(self._pids)

    def close(self) -> None:
        if self._channel is None or self._server is None:
            return
        self._server.terminate()
        self._server.wait()
        self._channel.close()
        self._channel = self._server = None

    def _start_server(self, log: Path, environment: Mapping[str, str]) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-m", "foreshock.jobs.fork_server", str(self._run_dir)]
        command += ["--channel", str(theirs.fileno()), "--parent", str(os.getpid()), "--preload", *self._modules]
        with theirs, log.open("wb") as file:
            self._server = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env=child_environment({**_NO_THREADS, **environment}),
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        return ours

    def _tell(self, message: dict[str, Any]) -> None:
        assert self._channel is not None
        with contextlib.suppress(OSError):  # the server is gone; the channel's end will say so when its tasks are, too
            self._channel.send(json.dumps(message).encode())

    def _receive(self, channel: socket.socket) -> dict[int, int]:
        """Take one message; exit codes of the tasks that it ends."""
        try:
            packet = channel.recv(MAX_MESSAGE)
        except ConnectionResetError:  # as below, with messages of ours unread
            packet = b""
        if not packet:
            return self._server_died()
        message = json.loads(packet)
        if "pid" in message:
            self._pids[message["task"]] = message["pid"]
            return {}
        self._logs.pop(message["task"])
        self._pids.pop(message["task"])
        return {message["task"]: message["code"]}

    def _server_died(self) -> dict[int, int]:
        """The server ended out of turn; its tasks, told so by the kernel, have finished their batches and left."""
        assert self._server is not None
        assert self._channel is not None
        code = self._server.wait()
        for log in self._logs.values():
            with log.open("a") as file:
                file.write(f"the fork server ended with exit code {code}; see {log.parent / 'fork-server.log'}\n")
        codes = dict.fromkeys(self._logs, EXIT_FAILED)
        self._logs.clear()
        self._pids.clear()
        self._channel.close()
        self._channel = self._server = None
        return codes
