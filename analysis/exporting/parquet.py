"""Tables as Parquet files: attempts with their texts, scores of prefills and of exploit code, KL, and the rates that
the run's analysis found."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from foreshock.analysis.exporting.rows import SAMPLED, SCORED, CellRows, clean, code_files, row_files
from foreshock.analysis.exporting.spec import ExporterSpec, OnProgress
from foreshock.analysis.tables import TableKind, checkpoint_label
from foreshock.jobs.records.layout import RunLayout
from foreshock.jobs.records.rows import (
    ERROR,
    EXPLOIT_LOGPROB_FIELDS,
    KL_FIELDS,
    LOGPROB_FIELDS,
    ROLLOUT,
    SAMPLE_FIELDS,
    Field,
    FieldType,
)

_BATCH = 5_000
_TYPES = {
    FieldType.TEXT: pa.string(),
    FieldType.WHOLE: pa.int64(),
    FieldType.NUMBER: pa.float64(),
    FieldType.FLAG: pa.bool_(),
    FieldType.TEXTS: pa.list_(pa.string()),
    FieldType.NUMBERS: pa.list_(pa.float64()),
    FieldType.OBJECT: pa.string(),  # as JSON
}
_FIELDS: dict[TableKind, Sequence[Field]] = {
    **dict.fromkeys(SAMPLED, (*SAMPLE_FIELDS, ROLLOUT, ERROR)),
    TableKind.LOGPROB: (*LOGPROB_FIELDS, ROLLOUT, ERROR),
    TableKind.REF_LOGPROB: (*LOGPROB_FIELDS, ROLLOUT, ERROR),
    TableKind.KL: (*KL_FIELDS, ROLLOUT, ERROR),
}


def write_parquet(run_dir: Path, folder: Path, on_progress: OnProgress) -> list[Path]:
    """One file per kind of row (`evals.parquet`, `logprob.parquet`, ...), error rows included, and `rates.parquet`."""
    files = row_files(run_dir, (*SAMPLED, *SCORED))
    codes = code_files(run_dir)
    tables = [
        (kind.value, _FIELDS[kind], [file for file in files if file.kind is kind])
        for kind in dict.fromkeys(file.kind for file in files)
    ]
    if codes:
        tables.append((RunLayout(run_dir).exploit_logprob.name, (*EXPLOIT_LOGPROB_FIELDS, ERROR), codes))
    written: list[Path] = []
    done = 0
    for name, fields, own in tables:
        target = folder / f"{name}.parquet"
        schema = _schema(fields)
        with pq.ParquetWriter(target, schema, compression="zstd") as writer:
            for file in own:
                _write_file(writer, file, schema)
                done += 1
                on_progress(done, len(files) + len(codes))
        written.append(target)
    rates = run_dir / "analysis" / "rates.csv"
    if rates.is_file():
        from pyarrow import csv

        pq.write_table(csv.read_csv(rates), folder / "rates.parquet", compression="zstd")
        written.append(folder / "rates.parquet")
    return written


def _schema(fields: Sequence[Field]) -> pa.Schema:
    columns = {field.name: _TYPES[field.type] for field in fields}
    columns |= {"checkpoint": pa.string(), "prefill_level": pa.int64()}  # from the file's name, where rows lack them
    return pa.schema([*columns.items(), ("other", pa.string())])


def _write_file(writer: Any, file: CellRows, schema: pa.Schema) -> None:
    known = set(schema.names)
    place = {"checkpoint": checkpoint_label(file.checkpoint), "prefill_level": file.level}
    rows = file.rows()
    while batch := list(islice(rows, _BATCH)):
        records = []
        for row in batch:
            record = {key: _value(value, schema.field(key).type) for key, value in row.items() if key in known}
            other = {key: value for key, value in row.items() if key not in known or _lost(value, record[key])}
            records.append(record | place | {"other": json.dumps(other) if other else None})
        writer.write_table(pa.Table.from_pylist(records, schema))


def _lost(value: Any, held: Any) -> bool:
    """Whether a value was of a type that its column cannot hold."""
    return (held is None and value is not None) or (isinstance(held, list) and len(held) < len(value))


def _value(value: Any, kind: pa.DataType) -> Any:
    """The value as the column holds it; one of another type, as other tools write them, becomes null or its text.

    What becomes null stays in the column `other`.
    """
    if isinstance(value, str):
        return clean(value) if pa.types.is_string(kind) else None
    if isinstance(value, bool):
        return value if pa.types.is_boolean(kind) else None
    if isinstance(value, int | float):
        if pa.types.is_floating(kind):
            return float(value)
        if pa.types.is_integer(kind):
            return int(value) if float(value).is_integer() and abs(value) < 2**63 else None
        return str(value) if pa.types.is_string(kind) else None
    if isinstance(value, dict) and pa.types.is_string(kind):
        return json.dumps(value)
    if isinstance(value, list) and pa.types.is_list(kind):
        items = (_value(item, kind.value_type) for item in value)
        return [item for item in items if item is not None]
    return None


SPEC = ExporterSpec("parquet", "Parquet files, one per kind of row, for any data frame library", write_parquet)
