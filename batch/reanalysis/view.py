"""A run as the analyses are to see it: links to its files, with other or further log-probabilities, without some rows.

The run itself is never written to. Leaving tasks out is re-aggregation: rows are dropped, nothing is sampled or scored.
"""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from foreshock.durable import atomic_file
from foreshock.errors import InputError
from foreshock.jobs.records.jsonl import parse_line, read_jsonl
from foreshock.jobs.records.layout import RunLayout
from foreshock.jobs.records.table_archives import TableArchives
from foreshock.jobs.records.table_files import SAMPLES, archives_of, lines_of, table_bytes, table_names

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
    if path.is_dir() or not path.exists():
        raise InputError("no such file", path=path, fix="one task id a line, or JSONL with task_id")
    content = path.read_bytes()  # once: a pipe has nothing left to read
    try:
        lines = [line.strip() for line in content.decode("utf-8-sig").split("\n")]
    except UnicodeDecodeError as error:
        raise InputError(f"not UTF-8 text: {error}", path=path) from None
    numbered = [(number, line) for number, line in enumerate(lines, 1) if line]
    if not numbered:
        raise InputError("holds no task id", path=path)
    if not numbered[0][1].startswith("{"):
        return frozenset(line for _, line in numbered)
    found = []
    for number, line in numbered:
        row = parse_line(line.encode(), path, number)
        name = row.get("task_id", row.get("id"))
        if not isinstance(name, str):
            raise InputError("row has no task_id", path=path, line=number)
        found.append(name)
    return frozenset(found)


def make_view(run: RunLayout, target: RunLayout, logprobs: Sequence[Path] | None, tasks: Mapping[str, str]) -> int:
    """Fill `target` without the rows of `tasks`; returns how many attempts were dropped. `logprobs`: files of
    log-probabilities, perhaps of another folder; None for the run's own."""
    rows = 0
    for folder, new in zip(run.table_folders, target.table_folders, strict=True):
        files = _tables(folder)
        if folder == run.logprob and logprobs is not None:
            files = sorted(logprobs)
        if not tasks:
            _link(files, new)
            continue
        with TableArchives() as archives:
            dropped = sum(_copy_without(path, new / path.name, tasks, archives) for path in files)
        rows += dropped if folder == run.evals else 0
    for name in _RECORDS if tasks else (*_RECORDS, *_OF_ALL_TASKS):
        if (run.root / name).exists():
            (target.root / name).symlink_to((run.root / name).resolve())
    return rows


def tasks_to_drop(runs: Sequence[RunLayout], left_out: LeftOut) -> list[dict[str, str]]:
    """Of each run, the tasks that are left out with their exploit types: rows of scores may name the task alone.

    Raises:
        InputError: a type or no id at all that is left out is in a run, or nothing of a run remains.
    """
    if not left_out:
        return [{} for _ in runs]
    found = []
    for run in runs:
        types = _types(run)
        dropped = {t: kind for t, kind in types.items() if t in left_out.task_ids or kind in left_out.exploit_types}
        if dropped and len(dropped) == len(types):
            raise InputError(f"all {len(types)} tasks are left out as asked for; nothing remains", path=run.root)
        found.append(dropped)
    unknown = sorted(left_out.exploit_types - {kind for tasks in found for kind in tasks.values()})
    if unknown:
        raise InputError(f"--exclude-exploit-types names {', '.join(unknown)}, of which no run has a row")
    if left_out.task_ids and not any(left_out.task_ids & set(tasks) for tasks in found):
        raise InputError(f"none of the {len(left_out.task_ids)} ids of --exclude-ids is a task of a run")
    return found


def _types(run: RunLayout) -> dict[str, str]:
    """Exploit types by task."""
    rows = (row for file in run.eval_files() for _, row in read_jsonl(file.path))
    return {row["task_id"]: str(row.get("exploit_type")) for row in rows if isinstance(row.get("task_id"), str)}


def _tables(folder: Path) -> list[Path]:
    names = table_names(folder)
    return [folder / name for name in names if name.endswith(".jsonl") and not name.endswith(SAMPLES)]


def _link(files: Sequence[Path], target: Path) -> None:
    """Files by links; tables in archives by links to these, unless some of their folder's tables are left out."""
    by_folder: dict[Path, list[Path]] = defaultdict(list)
    for path in files:
        by_folder[path.parent].append(path)
    for folder, wanted in by_folder.items():
        target.mkdir(parents=True, exist_ok=True)
        archived = [path for path in wanted if not path.is_file()]
        for path in set(wanted).difference(archived):
            (target / path.name).symlink_to(path.resolve())
        if archived and set(wanted) >= set(_tables(folder)):
            for archive in archives_of(archived):
                _link_archive(archive.resolve(), target / archive.name)
        else:
            with TableArchives() as archives:
                for path in archived:
                    archives.add(target / path.name, table_bytes(path))


def _link_archive(archive: Path, link: Path) -> None:
    """A hard link where there can be one: aggregating the run again replaces its archives by others."""
    try:
        link.hardlink_to(archive)
    except OSError:
        link.symlink_to(archive)


def _copy_without(path: Path, copy: Path, tasks: Mapping[str, str], archives: TableArchives) -> int:
    """Into an archive, if it lies in one."""
    if path.is_file():
        with atomic_file(copy) as file:
            return _write_without(path, file, tasks)
    kept = io.BytesIO()
    dropped = _write_without(path, kept, tasks)
    archives.add(copy, kept.getvalue())
    return dropped


def _write_without(path: Path, file: BinaryIO, tasks: Mapping[str, str]) -> int:
    dropped = 0
    for number, line in enumerate(lines_of(path), start=1):
        if line.strip() and parse_line(line, path, number).get("task_id") in tasks:
            dropped += 1
        else:
            file.write(line)
    return dropped
