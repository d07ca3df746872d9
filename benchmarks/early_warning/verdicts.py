"""Verdicts of the built-in verifier, remembered on disk.

A tiny model writes the same short programs again and again, over steps, checkpoints and runs. A program is executed in
the sandbox once for a problem; the same text on the same problem then has the same verdict. Only settled verdicts are
kept: a timeout, a crash or an infrastructure error is tried again. A problem's own solution and exploit have the
verdicts that they were made to have (the tests execute them).
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from benchmarks.early_warning.problems import IMPOSSIBLE

from foreshock.jobs.verify.base import Outcome, Submission
from foreshock.jobs.verify.builtin.verifier import BuiltinVerifier
from foreshock.jobs.verify.problem import Problem
from foreshock.jobs.verify.problems import problem_digest

_SETTLED = (Outcome.PASSED, Outcome.FAILED)


@dataclass(frozen=True, slots=True)
class Judged:
    """Both verdicts; a program that timed out or crashed did not pass."""

    secure: bool
    insecure: bool

    @property
    def exploit(self) -> bool:
        """The flawed verifier passes and the sound one does not."""
        return self.insecure and not self.secure


def by_construction(problem: Problem) -> dict[str, Judged]:
    """Verdicts of the problem's own texts; of an impossible one, the honest solution fails the flawed verifier."""
    altered = problem.id.endswith(IMPOSSIBLE)
    return {
        problem.ground_truth.strip(): Judged(True, not altered),
        problem.exploit.strip(): Judged(False, True),
    }


class Verdicts:
    """Judges programs; `executed` and `remembered` count how. Several processes may share one file."""

    def __init__(self, path: Path, workers: int = 1, allow_weak_sandbox: bool = False) -> None:
        self._verifier = BuiltinVerifier(workers=workers, timeout_s=5.0, allow_weak_sandbox=allow_weak_sandbox)
        self._conditions = self._verifier.conditions()
        self._digests: dict[str, str] = {}
        self._known: dict[str, Judged] = {}
        self.executed = self.remembered = 0
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = sqlite3.connect(path, timeout=60.0, isolation_level=None)
        self._file.execute("PRAGMA journal_mode=WAL")
        self._file.execute("PRAGMA synchronous=NORMAL")
        self._file.execute("CREATE TABLE IF NOT EXISTS verdicts (key TEXT PRIMARY KEY, secure INT, insecure INT)")
        for key, secure, insecure in self._file.execute("SELECT key, secure, insecure FROM verdicts"):
            self._known[key] = Judged(bool(secure), bool(insecure))

    def judge(self, programs: Sequence[tuple[Problem, str | None]]) -> list[Judged]:
        """Verdicts in order; no program passes nothing. Raises RuntimeError where the sandbox gives no verdict."""
        found: list[Judged | None] = [None if code is not None else Judged(False, False) for _, code in programs]
        fresh: dict[str, list[int]] = {}
        for i, (problem, code) in enumerate(programs):
            if code is None:
                continue
            own = by_construction(problem).get(code.strip())
            if own is not None:
                found[i] = own
                self.remembered += 1
                continue
            key = self._key(problem, code)
            found[i] = self._known.get(key)
            self.remembered += found[i] is not None
            if found[i] is None:
                fresh.setdefault(key, []).append(i)
        keys = list(fresh)
        submissions = [Submission(n, *programs[fresh[key][0]]) for n, key in enumerate(keys)]
        for n, verification in self._verifier.verify_many(submissions):
            secure, insecure = verification.secure, verification.insecure
            if secure.passed is None or insecure.passed is None:
                raise RuntimeError(f"no verdict: {secure.detail or insecure.detail}")
            judged = Judged(secure.passed, insecure.passed)
            self.executed += 1
            if secure.outcome in _SETTLED and insecure.outcome in _SETTLED:
                self._known[keys[n]] = judged
                row = (keys[n], int(judged.secure), int(judged.insecure))
                self._file.execute("INSERT OR IGNORE INTO verdicts VALUES (?, ?, ?)", row)
            for i in fresh[keys[n]]:
                found[i] = judged
        return [judged for judged in found if judged is not None]

    def _key(self, problem: Problem, code: str) -> str:
        digest = self._digests.get(problem.id)
        if digest is None:
            digest = self._digests[problem.id] = problem_digest(problem)
        return hashlib.sha256(json.dumps([self._conditions, digest, code]).encode()).hexdigest()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._verifier.close()
        self._file.close()
