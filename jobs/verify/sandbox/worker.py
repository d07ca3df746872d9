"""The judge's side of one zygote: start it, run requests in it, kill what overruns.

The zygote is started by exec of the bare interpreter, never by a fork of this process, which may hold threads, CUDA
contexts and gigabytes.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import IO, Any

import foreshock
from foreshock.jobs.records.verdicts import SandboxTier
from foreshock.jobs.verify.sandbox.limits import Limits
from foreshock.jobs.verify.sandbox.zygote import ALIVE, BROKEN, KILL, LAUNCH, READY, WAIT

_BOOT = (
    "import os, sys; os.write(int(sys.argv[2]), b'.'); sys.path.insert(0, sys.argv[1]); "
    "from foreshock.jobs.verify.sandbox.zygote import main; main(int(sys.argv[2]))"
)
_HEADER = struct.Struct(">Q")
START_S = 3.5
"""Idle silence of a starting zygote after which it counts as broken. A slow one speaks now and then, or computes."""
_LOOK_S = 0.2
CONFINE_S = 60.0
"""The same for one step of a zygote that did start: only a machine in distress takes so long."""


class InfraError(RuntimeError):
    """The sandbox failed, not the submission."""


class InfraTimeoutError(InfraError):
    """The sandbox was too slow, which says nothing about what it can do."""


class Ending(StrEnum):
    """How a run in the sandbox ended."""

    RESULT = "result"
    NO_RESULT = "no result"
    TIMED_OUT = "timed out"
    OVERSIZED = "oversized"


@dataclass(frozen=True, slots=True)
class Run:
    """What came back. `payload` is untrusted bytes; `exit_code` is negative for a signal, None if killed by us."""

    ending: Ending
    payload: bytes = b""
    exit_code: int | None = None


@dataclass(frozen=True, slots=True)
class ZygoteConfig:
    """What a zygote imports and how it confines. `options` go to the runner's `prepare`."""

    tier: SandboxTier
    runner: str
    limits: Limits = field(default_factory=Limits)
    preload: tuple[str, ...] = ()
    sys_path: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)


def package_root() -> str:
    """The folder that `import foreshock` needs on sys.path."""
    return str(Path(foreshock.__file__).parent.parent)


def _hidden_folders(config: ZygoteConfig) -> list[str]:
    package = Path(foreshock.__file__).parent
    places = {str(package), str(package.resolve()), *config.sys_path}
    places |= {str(child.resolve()) for child in package.iterdir() if child.is_symlink()}
    return sorted(places)


class Worker:
    """One zygote. Not thread-safe: one run at a time."""

    def __init__(self, config: ZygoteConfig) -> None:
        self.config = config
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._waiting: socket.socket | None = None
        self._unsettled = False
        self._scratch: str | None = None

    def start(self) -> int:
        """Start the zygote if it is not running; its process id. Raises InfraError with its reason."""
        if self._process is not None:
            return self._process.pid
        self._scratch = tempfile.mkdtemp(prefix="foreshock-sandbox-")
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control = ours
        with tempfile.TemporaryFile() as errors:
            answer = self._spawn(theirs, errors)
            if answer != READY:
                self.close()
                errors.seek(0)
                last = errors.read()[-300:].decode(errors="replace").strip().rpartition("\n")[2]
                reason = (
                    answer[1:].decode(errors="replace") if answer[:1] == BROKEN else f"it ended without a word {last}"
                )
                raise InfraError(f"sandbox tier {self.config.tier.value!r} could not be set up: {reason.strip()}")
        if self.config.tier is SandboxTier.FULL:
            self._remove_scratch()  # the zygote has its own root by now
        assert self._process is not None
        return self._process.pid

    def _remove_scratch(self) -> None:
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)
            self._scratch = None

    def _spawn(self, theirs: socket.socket, errors: IO[bytes]) -> bytes:
        """Start the process and return its first message, empty when it ended instead."""
        assert self._control is not None
        try:
            with theirs:
                self._process = subprocess.Popen(
                    [*_interpreter(), "-c", _BOOT, package_root(), str(theirs.fileno())],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=errors,
                    env={"PYTHONHASHSEED": "0"},
                    pass_fds=[theirs.fileno()],
                    cwd="/",
                )
            self._control.settimeout(_LOOK_S)
            self._control.send(json.dumps(self._config_json()).encode())
            return self._first_word()
        except ConnectionError:
            return b""
        except InfraError:
            self.close()
            raise
        except OSError as error:
            self.close()
            raise InfraError(f"the sandbox process could not be started: {error}") from error

    def _first_word(self) -> bytes:
        """The zygote's READY or its complaint. Silent without using any CPU for START_S, it counts as broken."""
        assert self._control is not None
        assert self._process is not None
        ticks, last_sign = -1, time.monotonic()
        while time.monotonic() - last_sign < START_S:
            answer: bytes | None
            try:
                answer = self._control.recv(1 << 16)
            except TimeoutError:
                answer = b"" if self._process.poll() is not None else None
            if answer is not None and answer != ALIVE:
                return answer
            now = _cpu_ticks(self._process.pid)
            if answer == ALIVE or now != ticks:
                ticks, last_sign = now, time.monotonic()
        raise InfraTimeoutError(f"the sandbox process did nothing for {START_S:g} s while it started")

    def _config_json(self) -> dict[str, Any]:
        return {
            "tier": self.config.tier.value,
            "runner": self.config.runner,
            "limits": asdict(self.config.limits),
            "preload": list(self.config.preload),
            "sys_path": list(self.config.sys_path),
            "options": self.config.options,
            "scratch": self._scratch,
            "hidden": _hidden_folders(self.config),
        }

    def run(self, request: bytes, wall_s: float | None = None) -> Run:
        """Run one request in a fresh confined process. Raises InfraError; the zygote is then stopped."""
        self.start()
        try:
            return self._run(request, self.config.limits.wall_s if wall_s is None else wall_s)
        except InfraError:
            self.close()
            raise
        except TimeoutError as error:
            self.close()
            raise InfraTimeoutError(f"the sandbox process said nothing for {CONFINE_S:g} s") from error
        except OSError as error:
            self.close()
            raise InfraError(f"sandbox process lost: {error}") from error

    def _launch(self) -> socket.socket:
        """Have a process forked and confined; it waits at its end of the socket that comes back."""
        assert self._control is not None
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs:
            socket.send_fds(self._control, [LAUNCH], [theirs.fileno()])
        return ours

    def _run(self, request: bytes, wall_s: float) -> Run:
        """One run in the waiting process.

        The order to kill it and to have the next one forked is given before this returns, and carried out in that
        sequence by the zygote while the judge compares.
        """
        assert self._control is not None
        self._control.settimeout(CONFINE_S)
        if self._unsettled:
            self._unsettled = False
            self._reaped()
        channel, self._waiting = self._waiting or self._launch(), None
        with channel:
            self._deliver(channel, request)
            run = _receive(channel, time.monotonic() + wall_s, self.config.limits.result_bytes)
        if run.ending is Ending.NO_RESULT:
            self._control.send(WAIT)
            run = Run(run.ending, run.payload, os.waitstatus_to_exitcode(self._reaped()))
        else:
            self._control.send(KILL)
            self._unsettled = True
        self._waiting = self._launch()
        return run

    def _reaped(self) -> int:
        """The zygote's word that the process of the last run is gone: its wait status."""
        assert self._control is not None
        answer = self._control.recv(64)
        if not answer:
            raise InfraError("the sandbox process ended")
        return int(answer)

    def _deliver(self, channel: socket.socket, request: bytes) -> None:
        """Wait for the confined process to say that it is ready, and send the request."""
        channel.settimeout(CONFINE_S)
        ready = channel.recv(1)
        if ready != READY:
            reason = channel.recv(1 << 13).decode(errors="replace") if ready == BROKEN else "it ended without a word"
            raise InfraError(f"confinement of a submission failed: {reason}")
        channel.sendall(_HEADER.pack(len(request)) + request)

    def close(self) -> None:
        """Stop the zygote and everything in it; safe to call twice."""
        if self._waiting is not None:
            self._waiting.close()
            self._waiting = None
        self._unsettled = False
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._process is not None:
            try:
                self._process.wait(timeout=1.0)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        self._remove_scratch()


def _interpreter() -> list[str]:
    base = getattr(sys, "_base_executable", None) or sys.executable
    return [base, "-s", "-P", "-S", "-B"]


def _cpu_ticks(pid: int) -> int:
    """User and system time of a process so far, in clock ticks; 0 when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return int(fields[11]) + int(fields[12])


def _receive(channel: socket.socket, deadline: float, limit: int) -> Run:
    """One length-prefixed frame, or why there is none. Never reads more than `limit` bytes of payload."""
    data = bytearray()
    wanted = _HEADER.size
    while len(data) < wanted:
        left = deadline - time.monotonic()
        if left <= 0:
            return Run(Ending.TIMED_OUT)
        channel.settimeout(left)
        try:
            chunk = channel.recv(min(wanted - len(data), 1 << 20))
        except TimeoutError:
            return Run(Ending.TIMED_OUT)
        except ConnectionError:
            chunk = b""
        if not chunk:
            return Run(Ending.NO_RESULT)
        data += chunk
        if len(data) == _HEADER.size == wanted:
            wanted += _HEADER.unpack(data)[0]
            if wanted > limit:
                return Run(Ending.OVERSIZED)
    return Run(Ending.RESULT, bytes(data[_HEADER.size :]))
