"""Columns kept beside a table save reading it, and never stand in for another one."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from foreshock.analysis.tables import columns
from foreshock.analysis.tables.cells import CellTable, read_cell
from foreshock.analysis.tables.columns import ColumnsWriter, columns_file, read_columns
from foreshock.analysis.tables.files import CellFiles
from foreshock.analysis.tables.jsonl import read_jsonl
from foreshock.analysis.tables.schema import COUNT_COLUMNS, SCHEMAS, TableKind

EVAL = SCHEMAS[TableKind.EVAL]
FIELDS = pa.schema([field for field in EVAL.fields if field.name in COUNT_COLUMNS])


@pytest.fixture(autouse=True)
def every_table_is_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "WORTH_BYTES", 0)


def _write(path: Path, hits: int) -> None:
    rows = [{"task_id": f"t{i}", "attempt_idx": 0, "exploit_success": i < hits} for i in range(9)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A table with two exploits and its columns."""
    path = tmp_path / "checkpoint-1_prefill0.jsonl"
    _write(path, hits=2)
    _keep(path)
    return path


def _keep(path: Path) -> None:
    kept = ColumnsWriter(path)
    whole = read_jsonl(path, FIELDS, EVAL.required)
    kept.add(whole.slice(0, 4))
    kept.add(whole.slice(4))
    kept.write()


def _cell(table: Path, names: tuple[str, ...] = COUNT_COLUMNS) -> CellTable:
    return read_cell(CellFiles(1.0, 0, (table,)), EVAL, names)


def _hits(cell: CellTable) -> int:
    return sum(cell.rows["exploit_success"].to_pylist())


def test_they_hold_what_the_table_does(table: Path) -> None:
    kept = _cell(table)
    assert not kept.parsed
    columns_file(table).unlink()
    parsed = _cell(table)
    assert parsed.parsed
    assert kept.rows.to_pylist() == parsed.rows.to_pylist()
    assert kept.read == parsed.read


def _rewrite(table: Path) -> None:
    _write(table, hits=5)


def _rewrite_in_the_same_size(table: Path) -> None:
    table.write_text(table.read_text().replace('"t8"', '"t1"').replace('"t1"', '"t8"', 1))


def _touch(table: Path) -> None:
    os.utime(table, ns=(0, table.stat().st_mtime_ns + 1))


def _damage(table: Path) -> None:
    kept = columns_file(table)
    kept.write_bytes(kept.read_bytes()[:-200])


def _empty(table: Path) -> None:
    columns_file(table).write_bytes(b"")


def _lock(table: Path) -> None:
    columns_file(table).unlink()
    columns_file(table).mkdir()


@pytest.mark.parametrize("change", [_rewrite, _rewrite_in_the_same_size, _touch, _damage, _empty, _lock])
def test_when_columns_do_not_match_the_table_is_read(table: Path, change: Callable[[Path], None]) -> None:
    change(table)
    cell = _cell(table)
    assert cell.parsed
    assert _hits(cell) == table.read_text().count("true")


def test_who_wants_another_column_reads_the_table(table: Path) -> None:
    assert _cell(table, (*COUNT_COLUMNS, "reward_gap")).parsed
    assert read_columns(table, EVAL.fields) is None


def test_columns_that_are_not_known_for_every_row_are_not_kept(table: Path) -> None:
    kept = ColumnsWriter(table)
    whole = read_jsonl(table, FIELDS, EVAL.required)
    for part in (whole.slice(0, 4), None, whole.slice(4)):
        kept.add(part)
    kept.write()
    assert not columns_file(table).exists()


def test_a_small_table_has_none(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "WORTH_BYTES", table.stat().st_size + 1)
    _keep(table)
    assert not columns_file(table).exists()
