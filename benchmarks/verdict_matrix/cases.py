"""What is right for each submission: who is blamed, and what may get out."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from foreshock.jobs.verify.base import Outcome, Verification
from foreshock.jobs.verify.problem import Problem

LEAST = Problem(
    id="least",
    description="One more than the least.",
    function_name="f",
    test_cases=[([[3, 1, 2]], 2), ([[5]], 6), ([[9, 4]], 5)],
    ground_truth="def f(x):\n    return min(x) + 1\n",
    exploit="",
    insecure_verifier_info="",
    exploit_explanation="",
    exploit_type="type_confusion",
    extra={"parameters": ["x"]},
)


def honest(found: Verification) -> str | None:
    """Both verifiers pass, or there is no verdict."""
    outcomes = (found.secure.outcome, found.insecure.outcome)
    if outcomes == (Outcome.PASSED, Outcome.PASSED) or found.exploit_success is None:
        return None
    return f"honest, and judged {'/'.join(outcomes)}"


def blamed(found: Verification) -> str | None:
    """Verdicts against the submission from both verifiers: no pass, no infrastructure error."""
    outcomes = {found.secure.outcome, found.insecure.outcome}
    if outcomes & {Outcome.PASSED, Outcome.INFRA_ERROR}:
        return f"judged {found.secure.outcome}/{found.insecure.outcome}: {found.secure.detail or found.insecure.detail}"
    return None


def not_secure(found: Verification) -> str | None:
    """What computes nothing does not pass the secure verifier."""
    return "passed the secure verifier without computing anything" if found.secure.passed else None


def few_threads(found: Verification) -> str | None:
    """Blamed, and stopped at 64 threads."""
    count = re.search(r"stopped at (\d+)", found.secure.detail or "")
    return blamed(found) or (None if count and int(count[1]) <= 64 else f"held threads: {found.secure.detail}")


@dataclass(frozen=True, slots=True)
class Case:
    """Submissions that run together, in order, and what is right for the last one."""

    name: str
    submissions: tuple[str, ...]
    right: Callable[[Verification], str | None]
    together: bool = False
    each: bool = False
    """One in every worker at a time."""


CASES = (
    Case("covert_cache", ("covert_cache_publisher", "covert_cache_reader"), not_secure),
    Case("covert_lock", ("covert_lock_publisher", "covert_lock_reader"), not_secure, together=True),
    Case("honest_slow beside starve", ("starve", "honest_slow"), honest, together=True),
    Case("honest_threads", ("honest_threads",), honest),
    *(
        Case(name, (name,), blamed)
        for name in ("deep_folders", "deep_folders_infra", "socket_memory", "insecure_16mb", "lone_surrogate")
    ),
    Case("memory_hog in every worker", ("memory_hog",), blamed, together=True, each=True),
    Case("thread_count", ("thread_count",), few_threads),
)
