"""Verdicts of a rescore, kept so that an interrupted one goes on where it stopped.

A verdict is used again for the same task, problem and code under the same conditions: verifier, its version, limits of
time and memory, sandbox tier, interpreter. A timeout or a crash may be the machine's doing, so those are never used
again.
"""

from __future__ import annotations

import hashlib
import time
from collections import defaultdict, deque
from pathlib import Path
from typing import NamedTuple

from foreshock.durable import sweep_temporaries
from foreshock.jobs.records.jsonl import read_jsonl, write_jsonl
from foreshock.jobs.records.rows import ERROR_KEY, Row
from foreshock.jobs.verify.base import SETTLED

_PART_ROWS = 500
_PART_S = 10.0
"""Longest that new verdicts wait for a part of their own, counted when the next one comes."""


class VerdictKey(NamedTuple):
    """What decides a verdict, besides the conditions."""

    task_id: str
    problem_sha256: str
    code_sha256: str


class VerdictStore:
    """Verdict fields by key, in part files that appear whole or not at all. One writer.

    conditions: as the verifier's `conditions()`; verdicts that were found under others are not seen.
    """

    def __init__(self, folder: Path, conditions: str) -> None:
        self._folder = folder
        self._conditions = hashlib.sha256(conditions.encode()).hexdigest()
        self._known: dict[VerdictKey, Row] = {}
        self._once: defaultdict[VerdictKey, deque[Row]] = defaultdict(deque)
        self._fresh: list[Row] = []
        self._next = 0
        self._flushed = time.monotonic()
        folder.mkdir(parents=True, exist_ok=True)
        sweep_temporaries(folder)
        for path in sorted(folder.glob("verdicts-*.jsonl")):
            self._next = int(path.stem.rpartition("-")[2]) + 1
            for _, row in read_jsonl(path):
                if row.get("conditions") == self._conditions and is_settled(row["fields"]):
                    self._known[VerdictKey(*row["key"])] = row["fields"]

    def __contains__(self, key: VerdictKey) -> bool:
        return key in self._known

    def take(self, key: VerdictKey) -> Row:
        """The fields for one row. Those that are not settled are given once."""
        known = self._known.get(key)
        return self._once[key].popleft() if known is None else known

    def add(self, key: VerdictKey, fields: Row) -> bool:
        """Remember a verdict; returns False if it holds for one row only."""
        if not is_settled(fields):
            self.add_once(key, fields)
            return False
        self._known[key] = fields
        self._fresh.append({"key": list(key), "conditions": self._conditions, "fields": fields})
        if len(self._fresh) >= _PART_ROWS or time.monotonic() - self._flushed >= _PART_S:
            self.flush()
        return True

    def add_once(self, key: VerdictKey, fields: Row) -> None:
        """Keep a verdict for one row, until this process ends."""
        self._once[key].append(fields)

    def flush(self) -> None:
        """Write what is new."""
        self._flushed = time.monotonic()
        if self._fresh:
            write_jsonl(self._folder / f"verdicts-{self._next:06d}.jsonl", self._fresh)
            self._next += 1
            self._fresh = []


def is_settled(fields: Row) -> bool:
    """Whether both verifiers passed or failed the code, rather than stopped it or gave no verdict."""
    outcomes = {fields.get("secure_outcome"), fields.get("insecure_outcome")}
    return ERROR_KEY not in fields and outcomes <= SETTLED
