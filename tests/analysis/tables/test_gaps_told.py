"""A number over what is left of a run comes with the cells that are not in it, whoever reads."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from run_factory import ToyRun, planned_spec, write_plan, write_run
from typer.testing import CliRunner

import foreshock
from foreshock.analysis.comparison.compare import Side, compare
from foreshock.analysis.evidence.load import load_evidence
from foreshock.analysis.surfaces.cells import RunSource, load_run_cells
from foreshock.analysis.tables import read_counts, read_table
from foreshock.analysis.tables.schema import TableKind
from foreshock.batch.cli.export_command import export
from foreshock.batch.on_files.rescore import samples_files
from foreshock.batch.status import tables_there
from foreshock.batch.status.document import CellStatus
from foreshock.batch.status.tables_there import table_notes
from foreshock.errors import InputError
from foreshock.jobs.records.layout import RunLayout
from foreshock.jobs.records.table_archives import TableArchives
from foreshock.jobs.records.table_files import table_bytes

TOY = ToyRun(checkpoints=(5, 10, 20), levels=(0, 10), types=("hardcoding",), tasks_per_type=3)
LOST = "checkpoint-20 at 0, 10"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A planned run whose tables lie in two archives, with samples beside them; the second of tables is deleted."""
    layout = RunLayout(write_run(tmp_path / "run", TOY))
    write_plan(layout.root, [planned_spec(step, level) for step in (5, 10, 20) for level in TOY.levels])
    written = TableArchives()
    for lost in (False, True):
        with written:
            for file in [one for one in layout.eval_files() if (one.cell.checkpoint == "checkpoint-20") == lost]:
                written.add(layout.samples_file(*file.cell), file.path.read_bytes())
                written.add(file.path, file.path.read_bytes())
        if not lost:
            kept = set(layout.evals.glob("tables-*.zip"))
    for archive in set(layout.evals.glob("tables-*.zip")) - kept:
        archive.unlink()
    return layout.root


def exported(run: Path) -> list[str]:
    app = typer.Typer()
    app.command()(export)
    return [CliRunner().invoke(app, [str(run), "--to", "files", "--dry-run"]).stderr]


def warned(read: Callable[[], object]) -> list[str]:
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        read()
    return [str(one.message) for one in found]


READERS: dict[str, Callable[[Path], Iterable[str]]] = {
    "evidence": lambda run: load_evidence([run]).notes,
    "cells": lambda run: load_run_cells(RunSource(run)).notes,
    "counts": lambda run: read_counts(run).report.lines(),
    "evals/ itself": lambda run: read_counts(run / "evals").report.lines(),
    "table": lambda run: read_table(run, TableKind.EVAL).report.lines(),
    "compare": lambda run: compare(Side(run, 5.0), Side(run, 10.0)).notes,
    "export": exported,
    "python": lambda run: warned(lambda: foreshock.load(run).trajectory()),
}


@pytest.mark.parametrize("reader", READERS)
def test_every_reader_says_which_planned_cells_are_not_there(run: Path, reader: str) -> None:
    said = [line for line in READERS[reader](run) if "checkpoint 20" in line or LOST in line]
    assert len(said) == 1


def test_what_a_rescore_lacks_is_what_its_run_lacked(run: Path) -> None:
    rescored = RunLayout(run / "rescore" / "builtin")
    rescored.evals.mkdir(parents=True)
    for file in RunLayout(run).eval_files():
        (rescored.evals / file.path.name).write_bytes(table_bytes(file.path))
    assert [LOST in note for note in load_evidence([rescored.root]).notes if "planned" in note] == [True]


def test_status_says_which_computed_cells_have_no_table(run: Path) -> None:
    cells = [CellStatus("eval", f"checkpoint-{step}", level, state="done") for step in (5, 20) for level in (0, 10)]
    layout = RunLayout(run)
    assert [LOST in note for note in table_notes(layout, cells)] == [True]
    assert table_notes(layout, [replace(cell, state="partial") for cell in cells]) == []
    (layout.evals / "tables-000009-0123456789ab.zip").write_bytes(b"no archive")
    assert ["damaged" in note for note in table_notes(layout, cells)] == [True]


def test_status_does_not_look_into_archives_that_hold_as_many_tables_as_are_planned(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def looked(*_: object) -> None:
        raise AssertionError

    cells = [CellStatus("eval", f"checkpoint-{step}", level, state="done") for step in (5, 10) for level in (0, 10)]
    layout = RunLayout(run)
    samples = layout.samples_file("checkpoint-20", 0).name
    monkeypatch.setattr(tables_there, "find_gaps", looked)
    for archive in layout.evals.glob("samples-*.zip"):
        if samples in zipfile.ZipFile(archive).namelist():
            archive.unlink()
    assert table_notes(layout, cells) == []
    with pytest.raises(AssertionError):
        table_notes(layout, cells[1:])


def test_without_any_table_the_plan_says_what_there_was(run: Path) -> None:
    for archive in (run / "evals").glob("tables-*.zip"):
        archive.unlink()
    with pytest.raises(InputError, match=r"none of the 6 planned cells has a table(?s:.*)foreshock aggregate"):
        read_counts(run)
    with pytest.raises(InputError, match=r"6 samples but no table(?s:.*)foreshock aggregate"):
        samples_files(RunLayout(run))
