"""From runs to verdicts: which runs are believed, and which are made again.

A value that a submission computed cannot come from a loaded machine; a time-out, a death by signal or a failure while
something stood still can. Those are believed when they come a second time, undisturbed, or give no verdict at all.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass

from foreshock.jobs.verify.base import Outcome, Verdict
from foreshock.jobs.verify.sandbox.watch import Ending
from foreshock.jobs.verify.sandbox.worker import InfraError, Run

_TRIES = 3
_READINGS = 3
_FAULTS = ("SIGSEGV", "SIGBUS", "SIGABRT", "SIGFPE", "SIGILL", "SIGTRAP", "SIGSYS", "SIGXCPU", "SIGXFSZ", "SIGPIPE")
_OWN_FAULTS = frozenset(getattr(signal, name) for name in _FAULTS)
"""Signals by which a program ends through its own doing; another may come from outside, or from want of memory."""


@dataclass(frozen=True, slots=True)
class Tried:
    """One run and the verdict on it."""

    run: Run
    verdict: Verdict

    @property
    def passed(self) -> bool:
        """Whether the verifier passed."""
        return self.verdict.passed is True

    @property
    def violent(self) -> bool:
        """Whether it ended by time or by a signal, not by an answer or an exit."""
        return self.run.ending is Ending.TIMED_OUT or self._signal is not None

    @property
    def shot(self) -> bool:
        """Whether it ended by a signal that may have come from outside."""
        return self._signal is not None and self._signal not in _OWN_FAULTS

    @property
    def may_be_suicide(self) -> bool:
        """Whether it could have sent that signal itself: SIGKILL is refused where there is a system call filter."""
        return self.run.unfiltered or self._signal != signal.SIGKILL

    @property
    def _signal(self) -> int | None:
        code = self.run.exit_code
        return -code if code is not None and code < 0 and self.run.ending is Ending.NO_RESULT else None


def judge_pair(
    secure: Callable[[], Tried],
    insecure: Callable[[Tried], Tried],
    heavy_bytes: int,
    reads_clock: bool = False,
) -> tuple[Tried, Tried]:
    """The secure and the insecure run that are believed.

    insecure: gets what the secure run came to. heavy_bytes: memory with which a submission that was killed is the
    likely reason. reads_clock: the insecure verifier judges by the clock; a win by it must be had each time.

    Raises InfraError when there is no undisturbed run to be had.
    """
    first = _settled(secure, heavy_bytes)
    second = _settled(lambda: insecure(first), heavy_bytes, wins_suspect=not first.passed)
    if first.violent and not second.violent:
        again = _settled(secure, heavy_bytes)
        if again.passed or not again.violent:
            first = again
            second = _settled(lambda: insecure(again), heavy_bytes, wins_suspect=not again.passed)
    elif first.passed and second.violent:
        second = _settled(lambda: insecure(first), heavy_bytes)
    if reads_clock and second.passed and not first.passed:
        for _ in range(_READINGS - 1):
            again = _settled(lambda: insecure(first), heavy_bytes)
            if not again.passed:
                second = again
                break
    return first, second


def _settled(attempt: Callable[[], Tried], heavy_bytes: int, wins_suspect: bool = False) -> Tried:
    """An attempt that may be believed: undisturbed, or a pass, or the same as the one before.

    wins_suspect: a stall can also make this verifier pass.
    """
    before: Tried | None = None
    for _ in range(_TRIES):
        tried = attempt()
        if tried.shot:
            twice = before is not None and before.run.exit_code == tried.run.exit_code
            if twice and tried.may_be_suicide:
                return tried
            if twice and tried.run.peak_bytes >= heavy_bytes:
                held = f"killed by signal {-(tried.run.exit_code or 0)} while it held {tried.run.peak_bytes >> 20} MB"
                return Tried(tried.run, Verdict(Outcome.CRASHED, f"the process was {held}, twice: out of memory"))
        else:
            undisturbed = not tried.run.stalled or tried.violent or (tried.passed and not wins_suspect)
            if undisturbed or (before is not None and before.verdict.outcome is tried.verdict.outcome):
                return tried
        before = tried
    assert before is not None
    if before.shot:
        raise InfraError(
            f"a submission's process was killed {_TRIES} times by signal {-(before.run.exit_code or 0)} from outside"
        )
    raise InfraError(f"something stopped the verification each of {_TRIES} times, and its results differed")
