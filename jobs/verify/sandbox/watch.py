"""The judge's watch over one confined process: the time it had, and the answer it sends.

Time is what the process itself used: the CPU that it received, and the time in which all of it slept. Time in which it
waited for a core, was stopped from outside, or in which the judge itself did not run counts for nothing, so a verdict
does not depend on what else the machine does. On a quiet machine the sum is the wall clock.
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import socket
import struct
import time
from enum import StrEnum

from foreshock.jobs.verify.sandbox.gate import ThreadGate

HEADER = struct.Struct(">Q")
_SLICE_S = 0.05
STALL_S = 0.5
"""Longer than its slice by this, and the judge itself was stopped or starved."""
_LONG_STOP = 4.0
"""Times the limit that a process may be stopped before it is taken to have stopped itself, where it can."""
_WAITING_DISK = 0.5
"""Share of a wait for the disk that counts: a busy machine makes it longer, a submission can ask for it without end."""
_MOST_LOOKED_AT = 70


class Ending(StrEnum):
    """How a run in the sandbox ended. STARVED says nothing about the submission."""

    RESULT = "result"
    NO_RESULT = "no result"
    TIMED_OUT = "timed out"
    OVERSIZED = "oversized"
    STARVED = "starved"


def patience_s(limit_s: float) -> float:
    """Wall clock, in seconds in which the judge ran, after which a process that could not use its time is given up."""
    return 30 * limit_s + 30.0


class Watch:
    """Adds up the time of process `pid` against `limit_s`. `stalled`: it or the judge was stopped meanwhile.

    self_stops: the tier lets a submission stop itself, so being stopped counts as sleeping once it lasts.
    """

    def __init__(self, pid: int, limit_s: float, self_stops: bool = False) -> None:
        self.stalled = False
        self._pid = pid
        self._limit_s, self._patience_s = limit_s, patience_s(limit_s)
        self._self_stops = self_stops
        self._slept_s = self._ran_s = self._stopped_s = 0.0
        self._judge_s = self._unseen_s = 0.0
        self._elapsed_s = 0.0
        self._last = time.monotonic()
        self._niceness = 0

    @property
    def slice_s(self) -> float:
        """How long to wait at most until the next look."""
        return min(_SLICE_S, self._limit_s)

    def pass_time(self) -> None:
        """Take note of the time since the last call, of which at most a slice is believed after a stall."""
        now = time.monotonic()
        passed, self._last = now - self._last, now
        self._elapsed_s += passed
        if passed > _SLICE_S + STALL_S:
            self.stalled, passed = True, _SLICE_S
        self._judge_s += passed
        self._unseen_s += passed

    def ran_too_long(self) -> bool:
        """Whether a process whose answer is here had used its time before: the judge may have been stalled."""
        return self._elapsed_s >= self._limit_s and cpu_seconds(self._pid) >= self._limit_s

    def look(self) -> Ending | None:
        """Once a slice, see what the process did with it; an ending when its time is up."""
        if self._unseen_s < self.slice_s:
            return None
        unseen, self._unseen_s = self._unseen_s, 0.0
        ran = cpu_seconds(self._pid)
        idle = max(0.0, unseen - (ran - self._ran_s))
        self._ran_s = max(ran, self._ran_s)
        states = self._states()
        if states & {"T", "t"}:
            self.stalled = True
            self._stopped_s += idle
            if self._self_stops and self._stopped_s > _LONG_STOP * self._limit_s:
                self._slept_s += idle
        elif states and states <= {"S", "Z", "X", "D", "I"}:
            self._slept_s += idle * (_WAITING_DISK if "D" in states else 1.0)
        if self._ran_s + self._slept_s >= self._limit_s:
            return Ending.TIMED_OUT
        return Ending.STARVED if self._judge_s >= self._patience_s else None

    def _states(self) -> set[str]:
        """States of the process's threads, as /proc names them; empty when they cannot be seen."""
        folder = f"/proc/{self._pid}/task"
        states = set()
        with contextlib.suppress(OSError):
            threads = os.listdir(folder)
            self._share_weight(len(threads))
            for thread in threads[:_MOST_LOOKED_AT]:
                with contextlib.suppress(OSError), open(f"{folder}/{thread}/stat", "rb") as handle:
                    states.add(chr(handle.read().rpartition(b")")[2].split()[0][0]))
        return states

    def _share_weight(self, threads: int) -> None:
        """Make `threads` threads weigh as much as one: a step of niceness is a quarter."""
        niceness = min(19, round(math.log(max(1, threads), 1.25)))
        if niceness > self._niceness:
            self._niceness = niceness
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PGRP, self._pid, niceness)


def cpu_seconds(pid: int) -> float:
    """CPU time that all threads of a process have had; 0 when it is gone."""
    try:
        return time.clock_gettime((~pid << 3) | 2)  # the kernel's number for "CPU time of process pid"
    except OSError:
        return 0.0


def receive(channel: socket.socket, watch: Watch, gate: ThreadGate | None, limit: int) -> tuple[Ending, bytes]:
    """One length-prefixed frame of at most `limit` bytes of payload, or why there is none."""
    poller = select.poll()
    poller.register(channel, select.POLLIN)
    if gate is not None:
        poller.register(gate.listener, select.POLLIN)
    data = bytearray()
    wanted = HEADER.size
    while len(data) < wanted:
        ready = dict(poller.poll(1e3 * watch.slice_s))
        watch.pass_time()
        if channel.fileno() in ready:
            try:
                chunk = channel.recv(min(wanted - len(data), 1 << 20), socket.MSG_DONTWAIT)
            except BlockingIOError:
                continue
            except ConnectionError:
                chunk = b""
            if not chunk:
                return Ending.NO_RESULT, b""
            data += chunk
            if len(data) == HEADER.size == wanted:
                wanted += HEADER.unpack(data)[0]
                if wanted > limit:
                    return Ending.OVERSIZED, b""
        elif gate is not None and ready.get(gate.listener, 0) & select.POLLIN:
            gate.answer()
        elif gate is not None and gate.listener in ready:
            poller.unregister(gate.listener)  # nobody is left who could ask
        if len(data) < wanted and (ending := watch.look()) is not None:
            return ending, b""
    if watch.ran_too_long():
        return Ending.TIMED_OUT, b""
    return Ending.RESULT, bytes(data[HEADER.size :])
