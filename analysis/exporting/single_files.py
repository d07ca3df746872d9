"""The tables of a run as files of their own, under the names that they have in every run: what a large run keeps in
archives, for tools that look for these names."""

from __future__ import annotations

import shutil
from pathlib import Path

from foreshock.analysis.exporting.spec import ExporterSpec, OnProgress
from foreshock.analysis.tables import TableKind
from foreshock.analysis.tables.files import find_run_files
from foreshock.jobs.records.layout import RunLayout
from foreshock.jobs.records.table_files import open_raw, table_names


def write_files(run_dir: Path, folder: Path, on_progress: OnProgress) -> list[Path]:
    """Every table, and config.yaml, so that the folder can be analysed like a run."""
    find_run_files(run_dir, TableKind.EVAL)  # a folder that is not a run is an error
    layout = RunLayout(run_dir)
    tables = [
        source / name for source in layout.table_folders for name in table_names(source) if name.endswith(".jsonl")
    ]
    written = []
    for number, table in enumerate(tables, start=1):
        copy = folder / table.parent.name / table.name
        copy.parent.mkdir(exist_ok=True)
        with open_raw(table) as lines, copy.open("xb") as target:
            shutil.copyfileobj(lines, target, 1 << 20)
        written.append(copy)
        on_progress(number, len(tables))
    if layout.config.is_file():
        written.append(Path(shutil.copyfile(layout.config, folder / layout.config.name)))
    return written


SPEC = ExporterSpec("files", "each table as a file of its own, which large runs keep in archives", write_files)
