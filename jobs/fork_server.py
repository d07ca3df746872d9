"""`python -m foreshock.jobs.fork_server RUN_DIR --channel FD --parent PID --preload MODULE ...`: workers at once.

Imports the modules once (torch and transformers take seconds of a core and hundreds of megabytes), then forks an array
task for every request on the channel. Between fork and task nothing runs but `foreshock.jobs.__main__.main`.

Python's own fork server is not used. It is one for the life of a program, shares the terminal's signals with it, and
a worker's first words go to the terminal; this one belongs to one executor, has a session of its own and is gone when
its tasks are. Messages (JSON, one a packet):

    to the server     {"task": 3, "pack": 0, "log": PATH}   start it
                      {"stop": true}                        SIGTERM to every task
    from the server   {"task": 3, "pid": 4711}              started
                      {"task": 3, "code": 0}                ended; minus the signal's number if one ended it

Every task holds the channel open, so its end is seen only when the server and all its tasks are gone.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
from pathlib import Path
from typing import Any

from foreshock.jobs.__main__ import follow_parent, main

_PR_SET_NAME = 15
MAX_MESSAGE = 65536


class ForkServer:
    """Forks on request, tells what became of it; holds no state but the tasks that run."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._tasks: dict[int, int] = {}
        """Task index by process id."""
        self._wakeup, wake = socket.socketpair()
        self._wakeup.setblocking(False)
        wake.setblocking(False)
        self._wake = wake
        signal.signal(signal.SIGCHLD, lambda *_: None)  # a handler of Python's, so that the descriptor is written
        signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)

    def serve(self) -> dict[str, Any] | None:
        """In a forked task: what to do. In the server: None, after the launcher has hung up."""
        while True:
            ready, _, _ = select.select([self._channel, self._wakeup], [], [])
            if self._wakeup in ready:
                with contextlib.suppress(BlockingIOError):
                    while self._wakeup.recv(4096):
                        pass
                self._reap()
            if self._channel in ready:
                packet = self._channel.recv(MAX_MESSAGE)
                if not packet:
                    return None
                message = json.loads(packet)
                if "stop" in message:
                    for pid in self._tasks:
                        os.kill(pid, signal.SIGTERM)
                elif self._fork(message):
                    return dict(message)

    def _fork(self, message: dict[str, Any]) -> bool:
        """True in the new task."""
        server = os.getpid()
        pid = os.fork()
        if pid:
            self._tasks[pid] = message["task"]
            self._say({"task": message["task"], "pid": pid})
            return False
        if not follow_parent(server):
            os._exit(0)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._wakeup.close()
        self._wake.close()
        os.setsid()
        log = os.open(message["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.close(log)
        ctypes.CDLL(None).prctl(_PR_SET_NAME, f"foreshock-{message['task']}".encode())
        return True

    def _reap(self) -> None:
        while self._tasks:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            self._say({"task": self._tasks.pop(pid), "code": os.waitstatus_to_exitcode(status)})

    def _say(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):  # the launcher is gone, and this process is about to be
            self._channel.send(json.dumps(message).encode())


def run() -> int:
    """Serve until the launcher hangs up; in a forked task, carry it out."""
    parser = argparse.ArgumentParser(prog="python -m foreshock.jobs.fork_server", description=__doc__)
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--channel", type=int, required=True, help="descriptor of a packet socket")
    parser.add_argument("--parent", type=int, required=True, help="stop when this process, the parent, is gone")
    parser.add_argument("--preload", nargs="+", default=[], help="modules to import before the first fork")
    arguments = parser.parse_args()
    if not follow_parent(arguments.parent):
        return 0
    os.set_inheritable(arguments.channel, False)  # forks share it, programs that they start do not
    for module in arguments.preload:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()  # what is shared stays shared: no collection in a task writes to it
    server = ForkServer(socket.socket(fileno=arguments.channel))  # a name, as the channel is to stay open in a task
    task = server.serve()
    if task is None:
        return 0
    return main([str(arguments.run_dir), "--pack", str(task["pack"]), "--task", str(task["task"])])


if __name__ == "__main__":
    sys.exit(run())
