"""The zygote: imports once, then forks one confined process per submission.

It never sees a request. The judge hands it one end of a socket, the fork reads its request from there, so no process
that runs a submission was forked from memory that held another problem's expected results.

Runs as `python -s -P -S -B` with an environment of PYTHONHASHSEED=0 alone: verdicts do not depend on hash order.
"""

from __future__ import annotations

import builtins
import gc
import importlib
import json
import os
import random
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

from foreshock.jobs.verify.sandbox.confine import CHANNEL, Confinement, confinement
from foreshock.jobs.verify.sandbox.kernel import MAX_DESCRIPTORS

LAUNCH = b"L"
KILL = b"K"
WAIT = b"W"
READY = b"R"
BROKEN = b"E"
ALIVE = b"."
"""Sent while starting, so that a slow node is told apart from a broken one."""
_GRACE_S = 0.5
_MESSAGE_BYTES = 1 << 16


def main(control_fd: int) -> None:
    """Serve until the judge closes its end. Argument: descriptor of a SOCK_SEQPACKET socket."""
    control = socket.socket(fileno=control_fd)
    config = json.loads(control.recv(_MESSAGE_BYTES))
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (MAX_DESCRIPTORS, MAX_DESCRIPTORS))
        runner = _load(config, lambda: control.send(ALIVE))
        confined = confinement(config["tier"], config)
        confined.beat = lambda: control.send(ALIVE)
        confined.prepare()
    except BaseException as error:  # noqa: BLE001 - whatever it is, the judge must hear of it
        control.send(BROKEN + f"{type(error).__name__}: {error}".encode()[:4000])
        os._exit(1)
    os.dup2(0, 2)  # the null device: what the judge reads ends here
    gc.collect()
    gc.freeze()
    control.send(READY)
    _serve(control, confined, runner)
    confined.finish()
    os._exit(0)


def _load(config: dict[str, Any], beat: Callable[[], object]) -> Any:
    """Import the runner and everything submissions commonly import, then forget where foreshock lies."""
    before = list(sys.path)
    sys.path[:0] = config["sys_path"]
    for name in config["preload"]:
        importlib.import_module(name)
        beat()
    runner = importlib.import_module(config["runner"])
    runner.prepare(config["options"])
    root = sys.argv[1] if len(sys.argv) > 1 else None
    sys.path[:] = [entry for entry in before if entry != root]
    sys.path_importer_cache.clear()
    sys.argv[:] = [""]
    os.environ.clear()
    builtins.__dict__.pop("_", None)
    return runner


def _serve(control: socket.socket, confined: Confinement, runner: Any) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    while True:
        message, fds, _, _ = socket.recv_fds(control, 16, 1)
        if not message:
            return
        (channel,) = fds
        try:
            pid = confined.fork()
        except OSError as error:
            os.write(channel, BROKEN + f"fork: {error}".encode())
            os.close(channel)
            control.send(b"256")
            continue
        if pid == 0:
            _be_submission(channel, confined, runner)
        os.close(channel)
        order = control.recv(16)
        status = _reap(pid, _GRACE_S if order == WAIT else 0.0)
        confined.clean(pid)
        if not order:
            return
        control.send(str(status).encode())


def _be_submission(channel: int, confined: Confinement, runner: Any) -> None:
    """The child: confine, say so, run. Never returns."""
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
        confined.enter(channel)
        random.seed(0)
        os.write(CHANNEL, READY)
    except BaseException as error:  # noqa: BLE001 - nothing of the submission ran: an infrastructure error
        os.write(channel, BROKEN + f"{type(error).__name__}: {error}".encode()[:4000])
        os._exit(70)
    status = 1
    try:
        status = runner.run(CHANNEL)
    finally:
        os._exit(status)


def _reap(pid: int, grace_s: float) -> int:
    """Wait status of `pid`, killed when it has not ended after `grace_s`."""
    deadline = time.monotonic() + grace_s
    while (left := deadline - time.monotonic()) > 0:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return status
        signal.sigtimedwait({signal.SIGCHLD}, left)
    os.kill(pid, signal.SIGKILL)
    return os.waitpid(pid, 0)[1]
