"""Cells are read once in a process, and again as soon as a file changes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from foreshock.analysis.tables import count_cells, jsonl, load_evals, read_sampled, reading
from foreshock.analysis.tables.cells import CellTable, read_cell
from foreshock.analysis.tables.files import CellFiles, find_run_files
from foreshock.analysis.tables.jsonl import read_jsonl
from foreshock.analysis.tables.reading import CellKey, CellMemo, kept_size, read_cells
from foreshock.analysis.tables.schema import SCHEMAS, TableKind
from foreshock.errors import InputError


@pytest.fixture(autouse=True)
def read(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Files that were really read, with an empty memo."""
    names: list[Path] = []

    def noting(files: CellFiles, *arguments: Any) -> CellTable:
        names.extend(files.paths)
        return read_cell(files, *arguments)

    monkeypatch.setattr(reading, "read_cell", noting)
    monkeypatch.setattr(reading, "_memo", CellMemo(1 << 20))
    return names


def write_run(root: Path, hits: int = 1, cells: int = 3) -> Path:
    (root / "evals").mkdir(parents=True, exist_ok=True)
    for level in range(cells):
        rows = [{"task_id": f"t{i}", "attempt_idx": 0, "exploit_success": i < hits} for i in range(4)]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (root / "evals" / f"checkpoint-1_prefill{level}.jsonl").write_text(text)
    return root


def test_each_file_is_parsed_once_for_all_who_count(tmp_path: Path, read: list[Path]) -> None:
    run = write_run(tmp_path / "run")
    first = count_cells(run)
    assert len(read) == 3
    assert count_cells(run).equals(first)
    assert len(read) == 3
    load_evals(run)  # other columns
    assert len(read) == 6


def test_sampled_attempts_are_the_same_for_all_until_a_file_changes(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    first = read_sampled(run).frame
    assert read_sampled(run).frame is first
    write_run(run, hits=2, cells=4)
    assert read_sampled(run).frame["exploit_success"].sum() == 8
    other = write_run(tmp_path / "other", hits=3)
    assert read_sampled(other).frame["run"].unique().tolist() == ["other"]


def test_a_file_that_changed_is_read_again(tmp_path: Path, read: list[Path]) -> None:
    run = write_run(tmp_path / "run")
    assert count_cells(run)["k"].sum() == 3
    before = (run / "evals" / "checkpoint-1_prefill0.jsonl").stat()
    write_run(run, hits=2)
    for file in (run / "evals").iterdir():
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert count_cells(run)["k"].sum() == 6
    assert len(read) == 6


def test_cells_come_in_order_and_the_first_bad_one_is_named(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", cells=9)
    files = find_run_files(run, TableKind.EVAL).cells
    assert read_cells(files, TableKind.EVAL, lambda cell: cell.read.prefill_level) == list(range(9))
    for level in (4, 7):
        (run / "evals" / f"checkpoint-1_prefill{level}.jsonl").write_text("{broken\n")
    with pytest.raises(InputError, match="prefill4"):
        read_cells(files, TableKind.EVAL, lambda cell: cell)


def test_what_is_kept_has_a_limit_and_other_runs_make_room(tmp_path: Path) -> None:
    def key(run: str, level: int) -> CellKey:
        return CellKey((tmp_path / run / "evals" / f"{level}",), TableKind.EVAL, None, False)

    run = write_run(tmp_path / "run")
    cell = read_cell(find_run_files(run, TableKind.EVAL).cells[0], SCHEMAS[TableKind.EVAL])
    memo = CellMemo(2 * kept_size(cell))
    for level in range(3):
        memo.put(key("a", level), (), cell)
    assert [memo.get(key("a", level), ()) is cell for level in range(3)] == [True, True, False]
    assert memo.get(key("a", 0), ((1, 2, 3),)) is None
    memo.put(key("b", 0), (), cell)
    assert [memo.get(key("a", level), ()) is cell for level in range(2)] == [False, True]
    assert memo.get(key("b", 0), ()) is cell
    memo.put(key("b", 0), (), cell)  # no room taken twice
    assert memo.get(key("a", 1), ()) is cell


@pytest.mark.parametrize("block", [1, 7, 64, 100, 1000, 1 << 20])
@pytest.mark.parametrize("end", ["\n", ""])
def test_where_a_file_is_cut_into_pieces_makes_no_difference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int, end: str
) -> None:
    monkeypatch.setattr(jsonl, "_BLOCK_BYTES", block)
    rows = [{"task_id": "t" * (1 + 37 * i % 90), "attempt_idx": i, "exploit_success": i % 3 == 0} for i in range(40)]
    lines = [json.dumps(row) for row in rows]
    lines[11] += "\n"  # a blank line, which is allowed
    lines[25] = "  " + lines[25]
    path = tmp_path / "checkpoint-1_prefill0.jsonl"
    path.write_text("\n".join(lines) + end)
    table = read_jsonl(path, SCHEMAS[TableKind.EVAL].fields, ("task_id", "exploit_success"))
    assert table.select(["task_id", "attempt_idx", "exploit_success"]).to_pylist() == rows
    path.write_text("\n".join([*lines[:30], lines[30] + lines[31], "", *lines[32:]]) + end)
    with pytest.raises(InputError, match="more than one JSON object"):
        read_jsonl(path, SCHEMAS[TableKind.EVAL].fields, ("task_id", "exploit_success"))
