"""The judge's side of one zygote: start it, run requests in it, kill what overruns.

The zygote is started by exec of the bare interpreter, never by a fork of this process, which may hold threads, CUDA
contexts and gigabytes.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import IO, Any, TypeVar

import foreshock
from foreshock.jobs.records.verdicts import SandboxTier
from foreshock.jobs.verify.sandbox.confine import SIGNALLED
from foreshock.jobs.verify.sandbox.gate import ThreadGate
from foreshock.jobs.verify.sandbox.limits import Limits
from foreshock.jobs.verify.sandbox.root import remove_folder
from foreshock.jobs.verify.sandbox.watch import HEADER, Ending, Watch, patience_s, receive
from foreshock.jobs.verify.sandbox.zygote import ALIVE, BROKEN, KILL, LAUNCH, READY, WAIT

_BOOT = (
    "import os, sys; os.write(int(sys.argv[2]), b'.'); sys.path.insert(0, sys.argv[1]); "
    "from foreshock.jobs.verify.sandbox.zygote import main; main(int(sys.argv[2]))"
)
_T = TypeVar("_T")
_CREDENTIALS = struct.Struct("=3i")
START_S = 3.5
"""Idle silence of a starting zygote after which it counts as broken. A slow one speaks now and then, or computes."""
_LOOK_S = 0.2
CONFINE_S = 60.0
"""The same for one step of a zygote that did start: only a machine in distress takes so long."""


class InfraError(RuntimeError):
    """The sandbox failed, not the submission. `at_start`: before it could run anything."""

    at_start = False


class InfraTimeoutError(InfraError):
    """The sandbox was too slow, which says nothing about what it can do."""


class KilledError(InfraError):
    """The sandbox process was killed by a signal from outside, which says nothing about what it can do."""


class StarvedError(InfraError):
    """The machine gave the submission so little time that there is no verdict; trying again would take as long."""


@dataclass(frozen=True, slots=True)
class Run:
    """What came back. `payload` is untrusted bytes; `exit_code` is negative for a signal, None if killed by us.

    stalled: the judge or the process was stopped for a while, so what depends on a clock may be wrong.
    peak_bytes: most memory that the process held, where it ended by itself. unfiltered: no system call filter kept it
    from killing itself.
    """

    ending: Ending
    payload: bytes = b""
    exit_code: int | None = None
    stalled: bool = False
    peak_bytes: int = 0
    unfiltered: bool = False


@dataclass(frozen=True, slots=True)
class ZygoteConfig:
    """What a zygote imports and how it confines. `options` go to the runner's `prepare`."""

    tier: SandboxTier
    runner: str
    limits: Limits = field(default_factory=Limits)
    preload: tuple[str, ...] = ()
    sys_path: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    stopwatch: bool = False
    """Hand each submission's process a descriptor of its own scheduling statistics (see djinn/clock.py)."""


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
        self._gate: ThreadGate | None = None
        self._unsettled = False
        self._scratch: str | None = None

    def start(self) -> int:
        """Start the zygote if it is not running; its process id. Raises InfraError with its reason."""
        if self._process is not None:
            return self._process.pid
        try:
            return self._start()
        except InfraError as error:
            error.at_start = not isinstance(error, KilledError)
            raise

    def _start(self) -> int:
        self._scratch = tempfile.mkdtemp(prefix="foreshock-sandbox-")
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control = ours
        with tempfile.TemporaryFile() as errors:
            answer = self._spawn(theirs, errors)
            if answer != READY:
                process = self._process
                self.close()
                if (sent := _signal_of(None if process is None else process.returncode)) and not answer:
                    raise KilledError(f"the sandbox process was killed by signal {sent} while it started")
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
            remove_folder(self._scratch)
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
                    # An arena of its own reserves 128 MB for each thread: the limit on memory would be one on threads.
                    env={"PYTHONHASHSEED": "0", "MALLOC_ARENA_MAX": "1"},
                    pass_fds=[theirs.fileno()],
                    cwd="/",
                    # The terminal's signals are the judge's. No session of its own: where the kernel shares the CPU
                    # by sessions, each step between judge and zygote would wait for its session's turn.
                    process_group=0,
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
        """The zygote's READY or its complaint. Silent without using any CPU for START_S, it counts as broken.

        Time in which this process did not run itself (stopped, suspended) is not silence of the zygote's; one that was
        stopped itself is waited for up to CONFINE_S.
        """
        assert self._control is not None
        assert self._process is not None
        ticks, silent_s = -1, 0.0
        while silent_s < START_S:
            answer: bytes | None
            listener: list[int] = []
            started = time.monotonic()
            try:
                answer, listener, _, _ = socket.recv_fds(self._control, 1 << 16, 1)
            except TimeoutError:
                answer = b"" if self._process.poll() is not None else None
            passed_s = min(time.monotonic() - started, 2 * _LOOK_S)
            silent_s += passed_s * (START_S / CONFINE_S if _is_stopped(self._process.pid) else 1.0)
            if answer is not None and answer != ALIVE:
                if listener:
                    self._gate = ThreadGate(listener[0], self.config.limits.threads)
                return answer
            now = _cpu_ticks(self._process.pid)
            if answer == ALIVE or now != ticks:
                ticks, silent_s = now, 0.0
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
            "stopwatch": self.config.stopwatch,
        }

    def run(self, request: bytes, wall_s: float | None = None, result_bytes: int | None = None) -> Run:
        """Run one request in a fresh confined process; `wall_s` and `result_bytes` instead of the limits' own.

        Raises InfraError; the zygote is then stopped.
        """
        self.start()
        limits = self.config.limits
        try:
            return self._run(request, limits.wall_s if wall_s is None else wall_s, result_bytes or limits.result_bytes)
        except InfraError:
            self.close()
            raise
        except TimeoutError as error:
            self.close()
            raise InfraTimeoutError(f"the sandbox process said nothing for {CONFINE_S:g} s") from error
        except (OSError, ValueError) as error:
            self.close()
            raise InfraError(f"sandbox process lost: {error}") from error

    def _launch(self) -> socket.socket:
        """Have a process forked and confined; it waits at its end of the socket that comes back."""
        assert self._control is not None
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        with theirs:
            socket.send_fds(self._control, [LAUNCH], [theirs.fileno()])
        return ours

    def _run(self, request: bytes, wall_s: float, result_bytes: int) -> Run:
        """One run in the waiting process.

        The order to kill it and to have the next one forked is given before this returns, and carried out in that
        sequence by the zygote while the judge compares.
        """
        assert self._control is not None
        self._control.settimeout(_LOOK_S)
        if self._unsettled:
            self._unsettled = False
            self._reaped()
        channel, self._waiting = self._waiting or self._launch(), None
        with channel:
            if self._gate is not None:
                self._gate.begin()
            pid = self._ready(channel)
            watch = Watch(pid, wall_s, self_stops=self.config.tier is SandboxTier.RLIMITS_ONLY)
            self._deliver(channel, request)
            ending, payload = receive(channel, watch, self._gate, result_bytes)
        run = Run(ending, payload, stalled=watch.stalled)
        if ending is Ending.NO_RESULT:
            self._control.send(WAIT)
            run = self._ended(run, *self._reaped())
        else:
            self._control.send(KILL)
            self._unsettled = True
        self._waiting = self._launch()
        if ending is Ending.STARVED:
            raise StarvedError(
                f"the submission waited {patience_s(wall_s):g} s and could not use {wall_s:g} s of them: other "
                "programs keep the machine busy"
            )
        return run

    def _ended(self, run: Run, status: int, cpu_s: float, peak_bytes: int, killed: bool) -> Run:
        """A run that brought no result, with what the zygote learned at its end."""
        code = None if killed else os.waitstatus_to_exitcode(status)
        if code in (-signal.SIGKILL, -signal.SIGXCPU) and cpu_s >= self.config.limits.cpu_s:
            return replace(run, ending=Ending.TIMED_OUT)  # the kernel kept the limit while the judge was stalled
        unfiltered = self.config.tier is SandboxTier.RLIMITS_ONLY
        return replace(run, exit_code=code, peak_bytes=peak_bytes, unfiltered=unfiltered)

    def _reaped(self) -> tuple[int, float, int, bool]:
        """The zygote's word that the process of the last run is gone: wait status, CPU, peak of memory, killed or not.

        A folder with a million files takes a while to clean, so a zygote that computes is waited for.
        """
        assert self._control is not None
        answer = self._patiently(lambda: self._control.recv(256) if self._control else b"")
        if not answer:
            raise InfraError("the sandbox process ended")
        if answer[:1] == BROKEN:
            raise InfraError(f"the sandbox could not clean up: {answer[1:].decode(errors='replace')}")
        status, cpu_s, peak, killed = answer.split()
        return int(status), float(cpu_s), int(peak), killed == b"1"

    def _patiently(self, receive: Callable[[], _T]) -> _T:
        """`receive`, tried again while it times out, for CONFINE_S in which this process ran and the zygote did not."""
        assert self._process is not None
        silent_s, ticks = 0.0, -1
        while True:
            started = time.monotonic()
            try:
                return receive()
            except TimeoutError:
                silent_s += min(time.monotonic() - started, 2 * _LOOK_S)
                now = _cpu_ticks(self._process.pid)
                if now != ticks:
                    ticks, silent_s = now, 0.0
                if silent_s > CONFINE_S:
                    raise

    def _ready(self, channel: socket.socket) -> int:
        """Wait for the confined process to say that it is ready; its process id, by the kernel's word."""
        channel.settimeout(_LOOK_S)
        ready, ancillary, _, _ = self._patiently(lambda: channel.recvmsg(1, socket.CMSG_SPACE(_CREDENTIALS.size)))
        if ready != READY:
            reason = channel.recv(1 << 13).decode(errors="replace") if ready == BROKEN else "it ended without a word"
            raise InfraError(f"confinement of a submission failed: {reason}")
        return int(_CREDENTIALS.unpack(ancillary[0][2][: _CREDENTIALS.size])[0])

    def _deliver(self, channel: socket.socket, request: bytes) -> None:
        data = memoryview(HEADER.pack(len(request)) + request)
        while data:
            data = data[self._patiently(partial(channel.send, data)) :]

    def close(self) -> None:
        """Stop the zygote and everything in it; safe to call twice."""
        if self._waiting is not None:
            self._waiting.close()
            self._waiting = None
        self._unsettled = False
        if self._gate is not None:
            self._gate.close()
            self._gate = None
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


def _signal_of(code: int | None) -> int:
    """The signal behind a zygote's exit code, 0 if there was none; in the full tier it is passed on by a process."""
    return 0 if code is None else -code if code < 0 else code - SIGNALLED if code > SIGNALLED else 0


def _cpu_ticks(pid: int) -> int:
    """User and system time of a process so far, in clock ticks; 0 when it is gone."""
    fields = _stat(pid)
    return int(fields[11]) + int(fields[12]) if fields else 0


def _is_stopped(pid: int) -> bool:
    """Whether a process, or one that it started, is stopped by a signal."""
    try:
        started = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        started = []
    return any(_stat(one)[:1] in (["T"], ["t"]) for one in (pid, *map(int, started)))


def _stat(pid: int) -> list[str]:
    """The fields of a process's stat file behind its name; none when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
