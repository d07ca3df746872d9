"""Lines of eval shards as lines of the two tables that an attempt goes into.

Lines that foreshock wrote under the present schema version are cut where their values lie: the columns of a table
follow each other on disk as in its key tuple. Any other line is decoded and written anew.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import NamedTuple

import pyarrow as pa

from foreshock.analysis.aggregate.texts import plain_texts, to_json
from foreshock.analysis.aggregate.values import LineFormat
from foreshock.analysis.tables.schema import COUNT_COLUMNS
from foreshock.jobs.records.jsonl import encode_rows
from foreshock.jobs.records.rows import ERROR_KEY, EVAL_KEYS, SAMPLE_KEYS, SCHEMA_VERSION, Row, select_keys

_FORMAT = LineFormat(SAMPLE_KEYS)
_COUNTED = tuple(key for key in EVAL_KEYS if key in COUNT_COLUMNS)
_PRESENT = [b"%d" % SCHEMA_VERSION]


class Outcomes(NamedTuple):
    """Whether attempts exploited, column by column, as JSON has them: a score's row is found again by these bytes."""

    task_id: pa.BinaryArray
    attempt_idx: pa.BinaryArray
    exploit_success: pa.BinaryArray


class SampleLines(NamedTuple):
    """Rows of an eval spec, as its two tables have them. `texts` is None where a line had to be decoded."""

    n_rows: int
    n_errors: int
    eval_lines: bytes | pa.Buffer
    sample_lines: bytes | memoryview
    outcomes: Outcomes
    texts: Mapping[str, pa.BinaryArray] | None


def read_samples(block: bytes | memoryview, attempts_of_rollout: int | None = None) -> SampleLines:
    """Whole lines of an eval shard.

    With `attempts_of_rollout`, attempt indices beyond it are further rollouts of the same attempt, and the tables' rows
    say which; the indices of the outcomes are the shard's.
    """
    cut = _cut_samples(block) if attempts_of_rollout is None else None
    return cut or _decode_samples(block, attempts_of_rollout)


def _cut_samples(block: bytes | memoryview) -> SampleLines | None:
    """None if a line is not as this version writes it; one with an error has a key more."""
    values = _FORMAT.find(block)
    if values is None or values.texts("schema_version").unique().to_pylist() != _PRESENT:
        return None
    texts = {key: values.texts(key) for key in _COUNTED}
    outcomes = Outcomes(plain_texts(texts["task_id"]), texts["attempt_idx"], texts["exploit_success"])
    return SampleLines(values.n_rows, 0, values.lines_through(EVAL_KEYS[-1]), block, outcomes, texts)


def _decode_samples(block: bytes | memoryview, attempts_of_rollout: int | None) -> SampleLines:
    rows: list[Row] = [json.loads(line) for line in bytes(block).splitlines()]
    outcomes = Outcomes(*(pa.array([to_json(row.get(key)) for row in rows], pa.binary()) for key in Outcomes._fields))
    more: tuple[str, ...] = ()
    if attempts_of_rollout is not None:
        more = ("rollout",)
        for row in rows:
            row["rollout"], row["attempt_idx"] = divmod(row["attempt_idx"], attempts_of_rollout)
    eval_lines, sample_lines = (
        encode_rows(select_keys(row, (*keys, *more)) for row in rows) for keys in (EVAL_KEYS, SAMPLE_KEYS)
    )
    n_errors = sum(row.get(ERROR_KEY) is not None for row in rows)
    return SampleLines(len(rows), n_errors, eval_lines, sample_lines, outcomes, None)
