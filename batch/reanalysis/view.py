"""A run as the analyses are to see it: links to its files, with other or further log-probabilities, without some rows.

The run itself is never written to. Leaving tasks out is re-aggregation: rows are dropped, nothing is sampled or scored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from foreshock.durable import atomic_file
from foreshock.errors import InputError
from foreshock.jobs.records.jsonl import parse_line, read_jsonl
from foreshock.jobs.records.layout import RunLayout

TABLES = ("evals", "logprob", "ref_logprob", "kl", "ground_truth", "extra", "exploit_logprob")
"""Folders of rows, all of which carry task_id."""
_RECORDS = ("config.yaml", "metadata.json", "status.json", "inputs")
_OF_ALL_TASKS = ("plan.json", "adaptive", "admission", "shards")
"""What is known of a run of foreshock as a whole; it says nothing of a part of its tasks."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Tasks, and exploit types, whose rows are dropped."""

    task_ids: frozenset[str] = frozenset()
    exploit_types: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.task_ids or self.exploit_types)


def read_ids(path: Path) -> frozenset[str]:
    """Task ids of a file: one a line, or JSONL rows with `task_id` or `id`.

    Raises:
        InputError: no such file, no id in it, or a row without one.
    """
    if not path.is_file():
        raise InputError("no such file", path=path, fix="one task id a line, or JSONL with task_id")
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise InputError(f"not UTF-8 text: {error}", path=path) from None
    if lines and lines[0].startswith("{"):
        found = []
        for number, row in read_jsonl(path):
            name = row.get("task_id", row.get("id"))
            if not isinstance(name, str):
                raise InputError("row has no task_id", path=path, line=number)
            found.append(name)
        return frozenset(found)
    if not lines:
        raise InputError("holds no task id", path=path)
    return frozenset(lines)


@dataclass(frozen=True, slots=True)
class Dropped:
    """What was left out of one run: rows of attempts, and the tasks that they are of by exploit type."""

    rows: int
    tasks: dict[str, str]


def make_view(run: RunLayout, target: RunLayout, logprobs: Sequence[Path] | None, left_out: LeftOut) -> Dropped:
    """Fill `target`. `logprobs`: files of log-probabilities, perhaps of another folder; None for the run's own."""
    tasks = _tasks_to_drop(run, left_out) if left_out else {}
    rows = 0
    for folder in TABLES:
        files = sorted((run.root / folder).glob("*.jsonl")) if (run.root / folder).is_dir() else []
        if folder == "logprob" and logprobs is not None:
            files = sorted(logprobs)
        for path in files:
            if path.name.endswith(".samples.jsonl"):
                continue
            copy = target.root / folder / path.name
            copy.parent.mkdir(parents=True, exist_ok=True)
            if not tasks:
                copy.symlink_to(path.resolve())
                continue
            dropped = _copy_without(path, copy, tasks)
            rows += dropped if folder == "evals" else 0
    for name in _RECORDS if tasks else (*_RECORDS, *_OF_ALL_TASKS):
        if (run.root / name).exists():
            (target.root / name).symlink_to((run.root / name).resolve())
    return Dropped(rows, tasks)


def _tasks_to_drop(run: RunLayout, left_out: LeftOut) -> dict[str, str]:
    """Exploit types by task: rows of scores may name the task alone."""
    found = {}
    for file in run.eval_files():
        for _, row in read_jsonl(file.path):
            task, kind = row.get("task_id"), str(row.get("exploit_type"))
            if isinstance(task, str) and (task in left_out.task_ids or kind in left_out.exploit_types):
                found[task] = kind
    return found


def _copy_without(path: Path, copy: Path, tasks: Mapping[str, str]) -> int:
    dropped = 0
    with path.open("rb") as lines, atomic_file(copy) as file:
        for number, line in enumerate(lines, start=1):
            if line.strip() and parse_line(line, path, number).get("task_id") in tasks:
                dropped += 1
            else:
                file.write(line)
    return dropped
