"""A run's problems, checked by running their own code before anything is sampled.

Checks are remembered in the user's cache, since a sweep is planned more often than its problems change: by problem,
verifier, time limit, sandbox tier and interpreter, as home folders are shared by machines that differ in these. The
built-in problems are checked like any others: an interpreter or a machine can make them something else too.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from foreshock.batch.config import RunConfig
from foreshock.errors import ForeshockError, InputError
from foreshock.jobs.prompts.problem_prompt import instructions_text
from foreshock.jobs.records.jsonl import read_jsonl, write_json, write_jsonl
from foreshock.jobs.records.layout import RunLayout
from foreshock.jobs.records.verdicts import SandboxTier
from foreshock.jobs.verify.consistency import ProblemCheck, check_from_json, check_problems
from foreshock.jobs.verify.problem import Problem
from foreshock.jobs.verify.problems import problem_digest
from foreshock.jobs.verify.registry import VERIFIERS, create_verifier
from foreshock.jobs.verify.sandbox.limits import Limits
from foreshock.jobs.verify.sandbox.tiers import best_tier

EXTRA = "problem_checks"
"""Key of the plan's `extra`."""


@dataclass(frozen=True)
class CheckedProblems:
    """The problems to run, and what checking all of them found. `not_checked` says why nothing was."""

    problems: dict[str, Problem]
    checks: tuple[ProblemCheck, ...] = ()
    not_checked: str | None = None
    kept: bool = False

    @property
    def inconsistent(self) -> tuple[ProblemCheck, ...]:
        """Problems that are not what they say."""
        return tuple(check for check in self.checks if check.consistent is False)

    def to_json(self, instructions: str) -> dict[str, Any]:
        """What a plan with these instructions records."""
        return {
            "checked": len(self.checks),
            "not_checked": self.not_checked,
            "inconsistent": [check.to_json() for check in self.inconsistent],
            "without_verdict": [check.problem_id for check in self.checks if check.consistent is None],
            "without_exploit": [check.problem_id for check in self.checks if check.untried],
            "without_info": without_info(self.problems.values(), instructions),
            "kept": self.kept,
        }


def without_info(problems: Iterable[Problem], instructions: str) -> list[str]:
    """Ids of problems that do not say what their weak verifier is; none where `instructions` (a preset or a text) do
    not show it to the model."""
    if "{insecure_verifier_info}" not in instructions_text(instructions):
        return []
    return [problem.id for problem in problems if not problem.insecure_verifier_info.strip()]


def check_run_problems(config: RunConfig, problems: Mapping[str, Problem], verifier_identity: str) -> CheckedProblems:
    """The consistent ones of a run's problems; all of them with `problems.keep_inconsistent`.

    Raises InputError when none is left. A machine that cannot verify, such as a login node without the full sandbox,
    leaves the problems unchecked and says so.
    """
    kept = config.problems.keep_inconsistent
    options = {
        "workers": config.verifier.workers,
        "timeout_s": config.verifier.timeout_s,
        "allow_weak_sandbox": config.verifier.allow_weak_sandbox,
    }
    try:
        checks = checks_of(
            list(problems.values()), config.verifier.name, options, config.verifier.options, verifier_identity
        )
    except InputError:
        raise
    except ForeshockError as error:
        return CheckedProblems(dict(problems), not_checked=f"this machine cannot verify: {error}", kept=kept)
    bad = {check.problem_id for check in checks if check.consistent is False}
    left = {task: problem for task, problem in problems.items() if kept or task not in bad}
    if not left:
        raise InputError(
            f"none of the {len(problems)} problems is consistent; the first: {checks[0].problem_id}: "
            f"{'; '.join(checks[0].reasons)}",
            fix="foreshock check PROBLEMS shows them all; --keep-inconsistent runs them as they are",
        )
    return CheckedProblems(left, tuple(checks), kept=kept)


def checks_of(
    problems: Sequence[Problem],
    verifier: str,
    options: Mapping[str, Any],
    own_options: Mapping[str, Any],
    identity: str,
    cache: Path | None = None,
) -> list[ProblemCheck]:
    """A check of each problem, from the cache or the real sandbox. `options` are the common ones of every verifier.

    Where an exploit misses, the reasons end with the weakness that there really is.
    """
    weak = bool(options.get("allow_weak_sandbox"))
    path = (cache or cache_folder()) / _cache_name(identity, options.get("timeout_s"), weak)
    known = _read_cache(path)
    digests = [problem_digest(problem) for problem in problems]
    fresh = [problem for problem, digest in zip(problems, digests, strict=True) if digest not in known]
    if fresh:
        with create_verifier(verifier, {**options, **own_options}) as judge:
            found = {
                problem_digest(problem): check
                for problem, check in zip(fresh, check_problems(fresh, judge), strict=True)
            }
        known |= found
        _write_cache(path, known)
    weakness = VERIFIERS.get(verifier).weakness
    return [_explained(known[digest], problem, weakness) for problem, digest in zip(problems, digests, strict=True)]


def _cache_name(identity: str, timeout_s: float | None, weak: bool) -> str:
    """Of the checks made under these conditions. Raises SandboxUnavailableError as the verifier would."""
    tier = best_tier().tier if weak else SandboxTier.FULL  # a verifier that must not be weak is full, or is not made
    limits = hashlib.sha256(repr(Limits()).encode()).hexdigest()[:8]
    label = f"{identity}-{timeout_s}s-{tier.value}-{limits}-python{platform.python_version()}"
    return re.sub(r"[^\w.-]+", "-", label) + ".jsonl"


def _explained(check: ProblemCheck, problem: Problem, weakness: Callable[[Problem], str | None]) -> ProblemCheck:
    try:
        there_is = weakness(problem)
    except InputError as error:
        return replace(check, consistent=False, reasons=(str(error),))
    if there_is is None or not check.missed:
        return check
    return replace(check, reasons=(*check.reasons, f"what {problem.exploit_type} checks here: {there_is}"))


def cache_folder() -> Path:
    """Where checks are remembered."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "foreshock" / "problem-checks"


def _read_cache(path: Path) -> dict[str, ProblemCheck]:
    try:
        found = {row["digest"]: check_from_json(row["check"]) for _, row in read_jsonl(path)} if path.is_file() else {}
        return {digest: check for digest, check in found.items() if check.settled}
    except (ForeshockError, OSError, KeyError, TypeError, ValueError):
        return {}  # remembered results only; they are found again


def _write_cache(path: Path, known: Mapping[str, ProblemCheck]) -> None:
    """Settled checks; a cache that cannot be written costs time, nothing else."""
    rows = [{"digest": digest, "check": check.to_json()} for digest, check in known.items() if check.settled]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_jsonl(path, rows)
    except OSError:
        return


def write_checks(layout: RunLayout, checked: CheckedProblems, instructions: str) -> None:
    """Record the outcome with a run of these instructions."""
    problems = [check.to_json() for check in checked.checks]
    write_json(layout.problem_checks, checked.to_json(instructions) | {"problems": problems})
