"""A clock for djinn's flawed verifiers that a busy machine does not push on.

Some read the wall clock: 100 ms of it pass a submission (resource_exhaustion), 3 or 5 s fail one. This one counts
what the wall clock counts on a quiet machine: the time in which the process ran or slept, without that in which it
waited for a core (the kernel's run_delay). Where the kernel keeps no such figure, CPU time and sleeps are added up.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from types import ModuleType
from typing import Any, SupportsIndex

from foreshock.jobs.verify.sandbox.confine import STOPWATCH

_slept_s = 0.0


def own_time_s() -> float:
    """Seconds since some fixed point in which this process's main thread ran or slept."""
    try:
        waited_ns = int(os.pread(STOPWATCH, 64, 0).split()[1])
    except (OSError, ValueError, IndexError):
        return time.process_time() + _slept_s
    return time.monotonic() - waited_ns / 1e9


def _sleep(seconds: float | SupportsIndex) -> None:
    global _slept_s
    _real_sleep(seconds)
    _slept_s += float(seconds)


_real_sleep = time.sleep


class LoadProofTime(ModuleType):
    """Stands in for the module `time` in a verifier: its clocks are `own_time_s`."""

    def __init__(self) -> None:
        super().__init__("time")

    def __getattr__(self, name: str) -> Any:
        return own_time_s if name in ("time", "monotonic", "perf_counter") else getattr(time, name)


class LoadProofSignal(ModuleType):
    """Stands in for the module `signal` in a verifier: its alarm rings when `own_time_s` has come that far."""

    def __init__(self) -> None:
        super().__init__("signal")
        self._due = 0.0
        self._handler: Any = signal.SIG_DFL

    def __getattr__(self, name: str) -> Any:
        return getattr(signal, name)

    def signal(self, number: int, handler: Any) -> Any:
        """As signal.signal."""
        if number != signal.SIGALRM or not callable(handler):
            return signal.signal(number, handler)
        self._handler = handler
        return signal.signal(number, self._ring)

    def alarm(self, seconds: int) -> int:
        """As signal.alarm, but in own time."""
        self._due = own_time_s() + seconds
        return signal.alarm(seconds)

    def _ring(self, number: int, frame: Any) -> None:
        left = self._due - own_time_s()
        if left > 0:
            signal.setitimer(signal.ITIMER_REAL, max(left, 1e-3))
        else:
            self._handler(number, frame)


def make_load_proof(module: ModuleType) -> None:
    """Give a verifier's module the clocks above in place of the real ones, as far as it has imported them."""
    if vars(module).get("time") is time:
        vars(module)["time"] = LoadProofTime()
    if vars(module).get("signal") is signal:
        vars(module)["signal"] = LoadProofSignal()


def count_sleeps() -> None:
    """Have time.sleep keep count where the kernel does not: only then is it replaced."""
    try:
        int(Path("/proc/self/schedstat").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        time.sleep = _sleep
