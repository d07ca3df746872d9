"""Which runs are believed: a value computed is, a time-out or a kill only when it comes again."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator

import pytest

from foreshock.jobs.verify.base import Outcome, Verdict
from foreshock.jobs.verify.pair import Tried, judge_pair
from foreshock.jobs.verify.sandbox.watch import Ending
from foreshock.jobs.verify.sandbox.worker import InfraError, Run

HEAVY = 1 << 27
RIGHT = Tried(Run(Ending.RESULT), Verdict(Outcome.PASSED))
WRONG = Tried(Run(Ending.RESULT), Verdict(Outcome.FAILED, "wrong"))
LATE = Tried(Run(Ending.TIMED_OUT), Verdict(Outcome.TIMED_OUT, "late"))
EXITED = Tried(Run(Ending.NO_RESULT, exit_code=3), Verdict(Outcome.CRASHED, "exit"))


def shot(number: int, peak: int = 0) -> Tried:
    return Tried(Run(Ending.NO_RESULT, exit_code=-number, peak_bytes=peak), Verdict(Outcome.CRASHED, "signal"))


def own(number: int) -> Tried:
    run = Run(Ending.NO_RESULT, exit_code=-number, unfiltered=True)
    return Tried(run, Verdict(Outcome.CRASHED, "signal"))


def stalled(tried: Tried) -> Tried:
    return Tried(Run(tried.run.ending, exit_code=tried.run.exit_code, stalled=True), tried.verdict)


class Script:
    """Gives the runs in turn, and counts them."""

    def __init__(self, *runs: Tried) -> None:
        self._runs: Iterator[Tried] = iter(runs)
        self.made = 0

    def __call__(self, *_: Tried) -> Tried:
        self.made += 1
        return next(self._runs)


def judged(secure: Callable[[], Tried], insecure: Callable[[Tried], Tried], reads_clock: bool = False) -> list[Outcome]:
    return [tried.verdict.outcome for tried in judge_pair(secure, insecure, HEAVY, reads_clock)]


PASSED, FAILED, TIMED_OUT, CRASHED = Outcome.PASSED, Outcome.FAILED, Outcome.TIMED_OUT, Outcome.CRASHED


@pytest.mark.parametrize(
    ("secure", "insecure", "outcomes"),
    [
        ([RIGHT], [RIGHT], [PASSED, PASSED]),
        ([WRONG], [RIGHT], [FAILED, PASSED]),
        ([WRONG], [WRONG], [FAILED, FAILED]),
        ([EXITED], [RIGHT], [CRASHED, PASSED]),
        # a time-out of the secure run alone is asked about again
        ([LATE, LATE], [RIGHT], [TIMED_OUT, PASSED]),
        ([LATE, RIGHT], [RIGHT, RIGHT], [PASSED, PASSED]),
        ([LATE, RIGHT], [WRONG, RIGHT], [PASSED, PASSED]),
        ([LATE], [LATE], [TIMED_OUT, TIMED_OUT]),
        ([RIGHT], [LATE, RIGHT], [PASSED, PASSED]),
        ([RIGHT], [LATE, LATE], [PASSED, TIMED_OUT]),
        # so is a fault of its own
        ([shot(signal.SIGSEGV), shot(signal.SIGSEGV)], [RIGHT], [CRASHED, PASSED]),
        ([shot(signal.SIGSEGV), RIGHT], [RIGHT, RIGHT], [PASSED, PASSED]),
        # a kill from outside is no outcome at all
        ([shot(signal.SIGKILL), RIGHT], [RIGHT], [PASSED, PASSED]),
        ([RIGHT], [shot(signal.SIGKILL), shot(signal.SIGTERM), RIGHT], [PASSED, PASSED]),
        ([RIGHT], [shot(signal.SIGKILL, HEAVY), shot(signal.SIGKILL, HEAVY)] * 2, [PASSED, CRASHED]),
        # unless it could do that itself, and does it again
        ([shot(signal.SIGTERM)] * 2, [shot(signal.SIGTERM)] * 2, [CRASHED, CRASHED]),
        ([own(signal.SIGKILL)] * 2, [own(signal.SIGKILL)] * 2, [CRASHED, CRASHED]),
        ([own(signal.SIGKILL), RIGHT], [RIGHT], [PASSED, PASSED]),
        # what passed while something stood still is right all the same; what failed is tried again
        ([stalled(RIGHT)], [stalled(RIGHT)], [PASSED, PASSED]),
        ([stalled(WRONG), RIGHT], [RIGHT], [PASSED, PASSED]),
        ([stalled(WRONG), stalled(WRONG)], [WRONG], [FAILED, FAILED]),
        ([RIGHT], [stalled(WRONG), RIGHT], [PASSED, PASSED]),
        ([WRONG], [stalled(RIGHT), WRONG], [FAILED, FAILED]),
        ([WRONG], [stalled(RIGHT), stalled(RIGHT)], [FAILED, PASSED]),
    ],
)
def test_a_verdict_does_not_come_from_what_happened_around_it(
    secure: list[Tried], insecure: list[Tried], outcomes: list[Outcome]
) -> None:
    assert judged(Script(*secure), Script(*insecure)) == outcomes


def test_a_submission_that_is_killed_each_time_and_holds_little_has_no_verdict() -> None:
    with pytest.raises(InfraError, match="killed 3 times by signal 9 from outside"):
        judged(Script(*[shot(signal.SIGKILL)] * 3), Script())


def test_a_win_by_the_clock_must_be_had_each_time() -> None:
    steady, lucky = Script(RIGHT, RIGHT, RIGHT), Script(RIGHT, RIGHT, WRONG)
    assert judged(Script(WRONG), steady, reads_clock=True) == [FAILED, PASSED]
    assert judged(Script(WRONG), lucky, reads_clock=True) == [FAILED, FAILED]
    once = Script(RIGHT)
    assert judged(Script(RIGHT), once, reads_clock=True) == [PASSED, PASSED]
    assert once.made == 1


def test_an_ordinary_pair_takes_two_runs() -> None:
    for first, second in ((RIGHT, RIGHT), (WRONG, RIGHT), (WRONG, WRONG), (LATE, LATE)):
        secure, insecure = Script(first), Script(second)
        judged(secure, insecure)
        assert (secure.made, insecure.made) == (1, 1)
