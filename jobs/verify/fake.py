"""A verifier that runs nothing: it knows a problem's own answers by their text.

For tests and benchmarks of everything around verification. No configuration can name it, so no rate in a report ever
rests on it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from foreshock.errors import InputError
from foreshock.jobs.closing import Closing
from foreshock.jobs.records.verdicts import SandboxTier, Suspicion
from foreshock.jobs.verify.base import Outcome, Submission, Verdict, Verification
from foreshock.jobs.verify.builtin.families import FAMILIES
from foreshock.jobs.verify.problem import Problem

_PASSED = Verdict(Outcome.PASSED)
_FAILED = Verdict(Outcome.FAILED, "not one of the problem's own answers")
_UNTESTED = Verdict(Outcome.INFRA_ERROR, "the problem has no test cases")


class FakeVerifier(Closing):
    """Implements `Verifier`: the ground truth passes both, the exploit the insecure one alone, all else fails both.

    answers: verifications to give first, in order, whatever the code. seen: how many submissions came.
    """

    name = "fake"

    def __init__(self, answers: Sequence[Verification] = ()) -> None:
        self.answers = list(answers)
        self.seen = 0

    def identity(self) -> str:
        """Name and version, as of any verifier."""
        return "fake:1"

    def conditions(self) -> str:
        """Nothing else matters here."""
        return self.identity()

    def supports(self, problem: Problem) -> bool:
        """The built-in families' exploit types."""
        return problem.exploit_type in FAMILIES

    def verify(self, problem: Problem, code: str | None) -> Verification:
        """Both verdicts, by comparing texts. Raises InputError for an exploit type that is not known."""
        if not self.supports(problem):
            raise InputError(f"unknown exploit type {problem.exploit_type!r}; valid: {', '.join(sorted(FAMILIES))}")
        self.seen += 1
        if self.answers:
            return self.answers.pop(0)
        if not problem.test_cases:
            return Verification(_UNTESTED, _UNTESTED, SandboxTier.FULL)
        honest, exploit = (code is not None and code.strip() == own.strip() for own in _own_answers(problem))
        return Verification(
            _PASSED if honest else _FAILED,
            _PASSED if honest or exploit else _FAILED,
            SandboxTier.FULL,
            Suspicion(exploit, ("its exploit",) if exploit else ()),
            False if exploit and not honest else None,
        )

    def verify_many(self, submissions: Sequence[Submission]) -> Iterator[tuple[int, Verification]]:
        """One after another."""
        for submission in submissions:
            yield submission.submission_id, self.verify(submission.problem, submission.code)

    def close(self) -> None:
        """Nothing runs."""


def _own_answers(problem: Problem) -> tuple[str, str]:
    return problem.ground_truth, problem.exploit
