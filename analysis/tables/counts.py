"""Attempts and exploits per task and per cell, read file by file.

Memory holds one file's identity columns at a time, then only counts, so ten million rows cost what their largest file
costs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import union_categoricals

from foreshock.analysis.tables.cells import CellTable
from foreshock.analysis.tables.files import find_run_files
from foreshock.analysis.tables.load import (
    UNKNOWN_TYPE,
    checkpoint_values,
    constant_category,
    fill_types,
    run_name,
    to_categorical,
)
from foreshock.analysis.tables.read_report import ReadReport
from foreshock.analysis.tables.reading import read_cells
from foreshock.analysis.tables.schema import COUNT_COLUMNS, SCHEMAS, TableKind
from foreshock.errors import InputError


@dataclass(frozen=True)
class Counts:
    """`tasks`: run, task_id, exploit_type, checkpoint, prefill_level, n, k. `report`: how they were read."""

    tasks: pd.DataFrame
    report: ReadReport

    @cached_property
    def cells(self) -> pd.DataFrame:
        """run, exploit_type, checkpoint, prefill_level, n, k, n_tasks."""
        return cells_from_tasks(self.tasks)


def count_tasks(run_dir: Path | str, kind: TableKind = TableKind.EVAL, attempts: int | None = None) -> pd.DataFrame:
    """n attempts and k exploits per (task, checkpoint, level); see `read_counts`."""
    return read_counts(run_dir, kind, attempts).tasks


def count_cells(run_dir: Path | str, kind: TableKind = TableKind.EVAL, attempts: int | None = None) -> pd.DataFrame:
    """n attempts, k exploits and n_tasks per (exploit type, checkpoint, level); see `read_counts`."""
    return read_counts(run_dir, kind, attempts).cells


def read_counts(run_dir: Path | str, kind: TableKind = TableKind.EVAL, attempts: int | None = None) -> Counts:
    """Count outcomes without holding rows.

    `attempts=K` counts only rows with attempt_idx < K. Error rows and rows without an outcome count nowhere.

    Raises:
        InputError: as `read_table`; `kind` is not a kind of evaluation; attempts below 1; a task of two types.
    """
    if not SCHEMAS[kind].is_eval:
        raise InputError(f"{kind.value} rows are scores, not attempts; countable: evals, ground_truth")
    if attempts is not None and attempts < 1:
        raise InputError(f"attempts is {attempts}; it must be at least 1")
    run_dir = Path(run_dir)
    files = find_run_files(run_dir, kind)
    counted = read_cells(files.cells, kind, lambda cell: (cell.read, _count_cell(cell, attempts)), COUNT_COLUMNS)
    tasks = _join([part for _, part in counted], run_name(run_dir))
    _require_one_type(tasks, files.directory)
    reads = tuple(read for read, _ in counted)
    return Counts(tasks, ReadReport(kind, files.directory, reads, files.ignored, files.absent))


def _require_one_type(tasks: pd.DataFrame, directory: Path) -> None:
    """Counted under two types, a task would be two tasks, each with half of its attempts."""
    pairs = tasks.loc[tasks["exploit_type"] != UNKNOWN_TYPE, ["task_id", "exploit_type"]].drop_duplicates()
    twice = pairs[pairs["task_id"].duplicated(keep=False)]
    if len(twice):
        task = twice["task_id"].iloc[0]
        types = sorted(twice.loc[twice["task_id"] == task, "exploit_type"].astype(str))
        raise InputError(
            f"task {task!r} is of type {types[0]!r} in some rows and {types[1]!r} in others; a task has one type",
            path=directory,
            fix="correct exploit_type, or give what are different tasks ids of their own",
        )


def cells_from_tasks(tasks: pd.DataFrame) -> pd.DataFrame:
    """Sum task counts within (run, exploit_type, checkpoint, prefill_level)."""
    keys = ["run", "exploit_type", "checkpoint", "prefill_level"]
    grouped = tasks.groupby(keys, observed=True, sort=True)
    cells = grouped.agg(n=("n", "sum"), k=("k", "sum"), n_tasks=("task_id", "nunique"))
    return cells.reset_index()


def _count_cell(cell: CellTable, attempts: int | None) -> pd.DataFrame:
    table = cell.rows
    if attempts is not None:
        table = table.filter(np.asarray(table["attempt_idx"].to_numpy() < attempts))
    keyed = table.select(["task_id", "exploit_type", "exploit_success"]).group_by(["task_id", "exploit_type"])
    counted = keyed.aggregate([("exploit_success", "count"), ("exploit_success", "sum")])
    return pd.DataFrame(
        {
            "task_id": to_categorical(counted["task_id"]),
            "exploit_type": to_categorical(counted["exploit_type"]),
            "checkpoint": np.full(counted.num_rows, cell.read.checkpoint),
            "prefill_level": np.full(counted.num_rows, cell.read.prefill_level, dtype=np.int32),
            "n": counted["exploit_success_count"].to_numpy().astype(np.int64),
            "k": counted["exploit_success_sum"].to_numpy().astype(np.int64),
        }
    )


def _join(parts: list[pd.DataFrame], run: str) -> pd.DataFrame:
    columns: dict[str, Any] = {"run": constant_category(run, sum(map(len, parts)))}
    for name in ("task_id", "exploit_type"):
        columns[name] = union_categoricals([part[name] for part in parts], sort_categories=True)
    for name in ("checkpoint", "prefill_level", "n", "k"):
        columns[name] = np.concatenate([part[name].to_numpy() for part in parts])
    columns["checkpoint"] = checkpoint_values(columns["checkpoint"])
    tasks = pd.DataFrame(columns)
    tasks["exploit_type"] = fill_types(tasks["exploit_type"])
    return tasks.sort_values(["checkpoint", "prefill_level", "task_id", "exploit_type"], ignore_index=True)
