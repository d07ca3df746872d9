"""Whether a problem is what it says: its ground truth passes both verifiers, its exploit the insecure one alone, wrong
code neither.

Every rate counts "insecure passed, secure did not". A problem whose ground truth fails, or whose weakness lets any code
through, counts something else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from foreshock.jobs.verify.base import Outcome, Submission, Verdict, Verification, Verifier
from foreshock.jobs.verify.problem import Problem
from foreshock.jobs.verify.problems import insecure_cases, secure_cases

GROUND_TRUTH, EXPLOIT, WRONG = "ground truth", "exploit", "wrong code"
_SENTINEL = "foreshock: a wrong answer"


@dataclass(frozen=True, slots=True)
class ProblemCheck:
    """What the verifiers said of a problem's own code.

    consistent: None where a verification gave no verdict. reasons: what is wrong, or why there is no verdict.
    outcomes: (secure, insecure) outcome of each kind of code that was tried.
    """

    problem_id: str
    exploit_type: str
    consistent: bool | None
    reasons: tuple[str, ...]
    outcomes: Mapping[str, tuple[str, str]]

    @property
    def untried(self) -> bool:
        """Whether the problem brings no exploit, so that its weakness was not tried."""
        return EXPLOIT not in self.outcomes

    @property
    def missed(self) -> bool:
        """Whether the exploit it brings is not one under the weak verifier."""
        return any(reason.startswith(f"{EXPLOIT} does not pass the insecure") for reason in self.reasons)

    @property
    def settled(self) -> bool:
        """Whether trying again can tell nothing else. A problem that looks inconsistent because something timed out or
        crashed may be the machine's doing."""
        ended = {outcome for pair in self.outcomes.values() for outcome in pair}
        stopped = ended & {Outcome.TIMED_OUT.value, Outcome.CRASHED.value}
        return self.consistent is True or (self.consistent is False and not stopped)

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "id": self.problem_id,
            "exploit_type": self.exploit_type,
            "consistent": self.consistent,
            "reasons": list(self.reasons),
            "outcomes": {kind: list(pair) for kind, pair in self.outcomes.items()},
        }


def check_from_json(document: Mapping[str, Any]) -> ProblemCheck:
    """The inverse of `to_json`."""
    outcomes = {kind: (pair[0], pair[1]) for kind, pair in document["outcomes"].items()}
    return ProblemCheck(
        document["id"], document["exploit_type"], document["consistent"], tuple(document["reasons"]), outcomes
    )


def check_problems(problems: Sequence[Problem], verifier: Verifier) -> Iterator[ProblemCheck]:
    """One check a problem, in order, over all of the verifier's workers. Every problem's type must be supported."""
    codes = [own_codes(problem) for problem in problems]
    submissions: list[Submission] = []
    place: list[tuple[int, str]] = []
    for index, (problem, kinds) in enumerate(zip(problems, codes, strict=True)):
        for kind, code in kinds.items():
            submissions.append(Submission(len(place), problem, code))
            place.append((index, kind))
    found: list[dict[str, Verification]] = [{} for _ in problems]
    for number, verification in verifier.verify_many(submissions):
        index, kind = place[number]
        found[index][kind] = verification
    for problem, kinds, verifications in zip(problems, codes, found, strict=True):
        yield _check(problem, {kind: verifications[kind] for kind in kinds})


def own_codes(problem: Problem) -> dict[str, str]:
    """The code that a problem brings, and wrong code: its own `nulls`, or a function that answers nothing right."""
    codes = {GROUND_TRUTH: problem.ground_truth}
    if problem.exploit.strip():
        codes[EXPLOIT] = problem.exploit
    nulls = problem.extra.get("nulls")
    own = [nulls] if isinstance(nulls, str) else list(nulls or [])
    for number, code in enumerate(own or [_wrong_code(problem)], start=1):
        codes[WRONG if number == 1 else f"{WRONG} {number}"] = code
    return codes


def _wrong_code(problem: Problem) -> str:
    """Takes anything, returns None, or a text where None is a right answer."""
    cases = [*secure_cases(problem), *insecure_cases(problem)]
    answer = repr(_SENTINEL) if any(case.expected in (None, "") for case in cases) else "None"
    return f"def {problem.function_name}(*args, **kwargs):\n    return {answer}\n"


def _check(problem: Problem, found: Mapping[str, Verification]) -> ProblemCheck:
    unknown: list[str] = []
    wrong: list[str] = []
    for kind, verification in found.items():
        for name, verdict in (("secure", verification.secure), ("insecure", verification.insecure)):
            if verdict.passed is None:
                unknown.append(f"{kind}: no verdict of the {name} verifier: {verdict.detail}")
        if verification.exploit_success is not None:
            wrong += _complaints(kind, verification, str(problem.extra.get("exploit_expected_status") or "passed"))
    consistent = False if wrong else None if unknown else True
    outcomes = {kind: (one.secure.outcome.value, one.insecure.outcome.value) for kind, one in found.items()}
    return ProblemCheck(problem.id, problem.exploit_type, consistent, (*wrong, *unknown), outcomes)


def _complaints(kind: str, verification: Verification, exploit_status: str) -> list[str]:
    secure, insecure = verification.secure, verification.insecure
    said = []
    if kind == GROUND_TRUTH:
        said += [_say(kind, "does not pass", name, v) for name, v in _named(secure, insecure) if not v.passed]
    elif kind == EXPLOIT:
        if secure.passed:
            said.append(_say(kind, "passes", "secure", secure))
        if insecure.outcome.value != exploit_status:
            said.append(_say(kind, "does not pass" if exploit_status == "passed" else "passes", "insecure", insecure))
            said[-1] += "" if exploit_status == "passed" else f"; exploit_expected_status is {exploit_status}"
    else:
        said += [_say(kind, "passes", name, v) for name, v in _named(secure, insecure) if v.passed]
    return said


def _named(secure: Verdict, insecure: Verdict) -> tuple[tuple[str, Verdict], ...]:
    return (("secure", secure), ("insecure", insecure))


def _say(kind: str, does: str, name: str, verdict: Verdict) -> str:
    if verdict.passed:
        return f"{kind} {does} the {name} verifier"
    detail = (verdict.detail or "").strip().rstrip(":")
    return f"{kind} {does} the {name} verifier: {verdict.outcome.value}" + (f", {detail}" if detail else "")
