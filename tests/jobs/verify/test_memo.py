"""The same code on the same problem is verified once, and nothing unsettled is remembered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Self

from hypothesis import given
from hypothesis import strategies as st

from foreshock.jobs.records.verdicts import SandboxTier
from foreshock.jobs.verify.base import Outcome, Submission, Verdict, Verification
from foreshock.jobs.verify.builtin.problems import builtin_problems
from foreshock.jobs.verify.memo import MemoVerifier
from foreshock.jobs.verify.problem import Problem

PROBLEMS = builtin_problems("eval", ["process_exit"])


class Counting:
    """Gives each code the outcome that its text names, and counts how often it is asked."""

    name = "counting"

    def __init__(self) -> None:
        self.asked: Counter[tuple[str, str | None]] = Counter()

    settings = "timeout 5"

    def identity(self) -> str:
        return "counting:1"

    def conditions(self) -> str:
        return f"{self.identity()}:{self.settings}"

    def supports(self, problem: Problem) -> bool:
        return True

    def verify(self, problem: Problem, code: str | None) -> Verification:
        self.asked[problem.id, code] += 1
        verdict = Verdict(Outcome(code or "failed"), problem.id)
        return Verification(verdict, verdict, SandboxTier.FULL)

    def verify_many(self, submissions: Sequence[Submission]) -> Iterator[tuple[int, Verification]]:
        for submission in reversed(submissions):
            yield submission.submission_id, self.verify(submission.problem, submission.code)

    def close(self) -> None:
        return

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        return


CODES = st.sampled_from([None, *(outcome.value for outcome in Outcome)])


@given(
    batches=st.lists(st.lists(st.tuples(st.integers(0, 2), CODES), max_size=8), max_size=4), capacity=st.integers(1, 9)
)
def test_every_submission_gets_its_own_problems_verdict(
    batches: list[list[tuple[int, str | None]]], capacity: int
) -> None:
    inner = Counting()
    memo = MemoVerifier(inner, capacity)
    total = 0
    for batch in batches:
        submissions = [Submission(i, PROBLEMS[p], code) for i, (p, code) in enumerate(batch)]
        answers = dict(memo.verify_many(submissions))
        total += len(batch)
        assert sorted(answers) == list(range(len(batch)))
        for submission in submissions:
            assert answers[submission.submission_id].secure.outcome == Outcome(submission.code or "failed")
            assert answers[submission.submission_id].secure.detail == submission.problem.id
    assert inner.asked.total() + memo.reused == total


def test_settled_verdicts_are_asked_for_once_and_others_each_time() -> None:
    inner = Counting()
    memo = MemoVerifier(inner)
    problem = PROBLEMS[0]
    for _ in range(3):
        for outcome in Outcome:
            assert memo.verify(problem, outcome.value).insecure.outcome is outcome
            list(memo.verify_many([Submission(0, problem, outcome.value), Submission(1, problem, outcome.value)]))
    once = {outcome for outcome in Outcome if inner.asked[problem.id, outcome.value] == 1}
    assert once == {Outcome.PASSED, Outcome.FAILED}
    assert inner.asked[problem.id, "timed_out"] == 9
    assert (memo.identity(), memo.name, memo.supports(problem)) == ("counting:1", "counting", True)


def test_closing_forgets() -> None:
    inner = Counting()
    with MemoVerifier(inner) as memo:
        memo.verify(PROBLEMS[0], "passed")
    memo.verify(PROBLEMS[0], "passed")
    assert inner.asked[PROBLEMS[0].id, "passed"] == 2


def test_a_verdict_is_not_reused_for_a_corrected_problem_or_under_other_conditions() -> None:
    inner = Counting()
    memo = MemoVerifier(inner)
    problem = PROBLEMS[0]
    corrected = replace(problem, secure_test_cases=[*problem.secure_test_cases[1:]])
    twin = replace(problem)
    for one in (problem, corrected, twin, problem):
        memo.verify(one, "passed")
    assert inner.asked[problem.id, "passed"] == 2
    inner.settings = "timeout 9"
    memo.verify(problem, "passed")
    assert inner.asked[problem.id, "passed"] == 3
