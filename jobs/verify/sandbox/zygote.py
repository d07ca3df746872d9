"""The zygote: imports once, then forks one confined process per submission.

It never sees a request. The judge hands it one end of a socket, the fork reads its request from there, so no process
that runs a submission was forked from memory that held another problem's expected results.

Runs as `python -s -P -S -B` with PYTHONHASHSEED=0, so that verdicts do not depend on hash order, and one arena of
memory for all threads.
"""

from __future__ import annotations

import builtins
import gc
import importlib
import importlib.machinery
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
_GRACE_S = 2.0
"""For a process that closed its channel to end as well: on a busy machine some time passes between the two."""
_GRACE_SLICE_S = 0.1
_MESSAGE_BYTES = 1 << 16
_FILL = 100
_BYTES_HEAD = 33
_filling: list[bytes] = []
"""Fills the gaps between the imported objects, so that what a fork allocates lies together on few fresh pages."""


def main(control_fd: int) -> None:
    """Serve until the judge closes its end. Argument: descriptor of a SOCK_SEQPACKET socket."""
    control = socket.socket(fileno=control_fd)
    config = json.loads(control.recv(_MESSAGE_BYTES))
    signal.signal(signal.SIGINT, signal.SIG_DFL)
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
    _filling.extend(bytes(size - _BYTES_HEAD) for size in range(48, 513, 16) for _ in range(_FILL))
    gc.freeze()
    if (listener := confined.count_threads()) is None:
        control.send(READY)
    else:
        socket.send_fds(control, [READY], [listener])
        os.close(listener)
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
    # Fills the finders' lists of modules: where a folder may be read but not listed (Landlock cannot subtract
    # site-packages from it), an import finds its module by them.
    importlib.machinery.PathFinder.find_spec("foreshock_no_such_module")
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
            control.send(b"256 0 0 0")
            continue
        if pid == 0:
            _be_submission(channel, confined, runner)
        os.close(channel)
        order = control.recv(16)
        end = _reap(pid, _GRACE_S if order == WAIT else 0.0)
        try:
            confined.clean(pid)
        except OSError as error:
            control.send(BROKEN + f"{type(error).__name__}: {error}".encode(errors="replace")[:200])
            return
        if not order:
            return
        control.send(end)


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


def _reap(pid: int, grace_s: float) -> bytes:
    """The end of `pid`, killed if it has not come after `grace_s`: wait status, CPU seconds, peak bytes, killed or not.

    An interval in which this process itself was stopped counts for little.
    """
    done, status, usage = os.wait4(pid, os.WNOHANG)
    killed = False
    while not done:
        if grace_s <= 0:
            os.kill(pid, signal.SIGKILL)
            killed = True
            done, status, usage = os.wait4(pid, 0)
            break
        started = time.monotonic()
        signal.sigtimedwait({signal.SIGCHLD}, min(grace_s, _GRACE_SLICE_S))
        grace_s -= min(time.monotonic() - started, 2 * _GRACE_SLICE_S)
        done, status, usage = os.wait4(pid, os.WNOHANG)
    return b"%d %.3f %d %d" % (status, usage.ru_utime + usage.ru_stime, usage.ru_maxrss << 10, killed)
