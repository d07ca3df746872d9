"""Verify the same code on the same problem once.

A model samples the same short program again and again, at every level and attempt; a tiny one nearly always. Only
passed and failed verdicts are remembered. A timeout or a crash may be the machine's doing, and an infrastructure
error is no verdict, so those are tried anew each time. Code whose result is random gets one draw per worker;
`verifier.reuse_verdicts: false` gives it one per sample.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Self

from foreshock.jobs.verify.base import SETTLED, Submission, Verification, Verifier
from foreshock.jobs.verify.problem import Problem
from foreshock.jobs.verify.problems import problem_digest

Key = tuple[str, str, str | None]
"""What a verdict depends on: the verifier with its settings, the whole problem, the code."""
_DIGESTS = 4096


class MemoVerifier:
    """Implements `Verifier` around another one; remembers the last `capacity` verdicts. `reused` counts the others."""

    def __init__(self, inner: Verifier, capacity: int = 16384) -> None:
        self._inner = inner
        self._capacity = capacity
        self._known: OrderedDict[Key, Verification] = OrderedDict()
        self._digests: OrderedDict[int, tuple[Problem, str]] = OrderedDict()
        self.name = inner.name
        self.tier = getattr(inner, "tier", None)
        self.reused = 0

    def identity(self) -> str:
        """The inner verifier's: what is remembered is its verdicts."""
        return self._inner.identity()

    def conditions(self) -> str:
        """The inner verifier's."""
        return self._inner.conditions()

    def supports(self, problem: Problem) -> bool:
        """As the inner verifier."""
        return self._inner.supports(problem)

    def verify(self, problem: Problem, code: str | None) -> Verification:
        """Both verdicts, from memory if they are settled."""
        key = self._key(problem, code)
        known = self._recall(key)
        if known is not None:
            self.reused += 1
            return known
        return self._remember(key, self._inner.verify(problem, code))

    def verify_many(self, submissions: Sequence[Submission]) -> Iterator[tuple[int, Verification]]:
        """Each distinct (problem, code) goes to the inner verifier once; its twins share the verdict."""
        waiting: dict[Key, list[Submission]] = {}
        for submission in submissions:
            key = self._key(submission.problem, submission.code)
            known = self._recall(key)
            if known is not None:
                self.reused += 1
                yield submission.submission_id, known
            else:
                waiting.setdefault(key, []).append(submission)
        first = [twins[0] for twins in waiting.values()]
        unsettled: list[Submission] = []
        by_id = {twins[0].submission_id: twins for twins in waiting.values()}
        for submission_id, verification in self._inner.verify_many(first):
            twins = by_id[submission_id]
            yield submission_id, self._remember(self._key(twins[0].problem, twins[0].code), verification)
            if _is_settled(verification):
                self.reused += len(twins) - 1
                yield from ((twin.submission_id, verification) for twin in twins[1:])
            else:
                unsettled += twins[1:]
        if unsettled:
            yield from self._inner.verify_many(unsettled)

    def close(self) -> None:
        """Close the inner verifier and forget everything."""
        self._known.clear()
        self._inner.close()

    def __enter__(self) -> Self:
        self._inner.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._known.clear()
        self._inner.__exit__(kind, value, trace)

    def _key(self, problem: Problem, code: str | None) -> Key:
        """The problem counts by its content: one that was corrected under the same id is another one."""
        found = self._digests.get(id(problem))
        if found is None or found[0] is not problem:
            found = self._digests[id(problem)] = (problem, problem_digest(problem))
            if len(self._digests) > _DIGESTS:
                self._digests.popitem(last=False)
        return self._inner.conditions(), found[1], code

    def _recall(self, key: Key) -> Verification | None:
        known = self._known.get(key)
        if known is not None:
            self._known.move_to_end(key)
        return known

    def _remember(self, key: Key, verification: Verification) -> Verification:
        if _is_settled(verification):
            self._known[key] = verification
            if len(self._known) > self._capacity:
                self._known.popitem(last=False)
        return verification


def _is_settled(verification: Verification) -> bool:
    return {verification.secure.outcome, verification.insecure.outcome} <= SETTLED
