"""The columns of lines that are being written, made from their JSON texts.

They are what reading the lines again would give; where only reading can tell, they are None.
"""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from foreshock.analysis.aggregate.lines import SampleLines
from foreshock.analysis.aggregate.scores import KL_METHOD, Divergences, Scores
from foreshock.analysis.aggregate.texts import as_column
from foreshock.analysis.tables.jsonl import parse_block
from foreshock.analysis.tables.schema import COUNT_COLUMNS, SCHEMAS, TableKind

_EVAL = SCHEMAS[TableKind.EVAL]
_COUNTED = pa.schema([field for field in _EVAL.fields if field.name in COUNT_COLUMNS])
_IN_KL = {"kl_num_tokens": "prefill_num_tokens", "eval_logprob_sum": "prefill_logprob_sum"}
"""Columns of a KL row that a score has under another name."""


def eval_columns(lines: SampleLines) -> pa.Table | None:
    """What counting reads of eval lines."""
    if lines.texts is None:
        return parse_block(bytes(lines.eval_lines), _COUNTED, _EVAL.required)
    return _table(_COUNTED, lines.texts, {}, lines.n_rows)


def score_columns(scores: Scores, outcomes: pa.BinaryArray) -> pa.Table | None:
    """Of lines of a logprob/ or ref_logprob/ table: scores with their outcomes."""
    texts = {**scores.texts, "exploit_success": outcomes}
    return _table(SCHEMAS[TableKind.LOGPROB].fields, texts, {}, scores.n_rows)


def kl_columns(scores: pa.Table | None, differing: Divergences) -> pa.Table | None:
    """Of lines of a kl/ table: what `score_columns` made of the same rows, and what their two scores differ by."""
    if scores is None:
        return None
    fields = SCHEMAS[TableKind.KL].fields
    known = {"kl_divergence": differing.kl, "kl_per_token": differing.per_token, "ref_logprob_sum": differing.ref_sums}
    values = {name: pa.array(column, pa.float64(), from_pandas=True) for name, column in known.items()}
    values["kl_method"] = pa.array([KL_METHOD] * scores.num_rows).dictionary_encode()
    for field in fields:
        if field.name not in values and (name := _IN_KL.get(field.name, field.name)) in scores.column_names:
            values[field.name] = scores[name]
    return _table(fields, {}, values, scores.num_rows)


def _table(
    fields: pa.Schema,
    texts: Mapping[str, pa.BinaryArray],
    values: Mapping[str, pa.Array | pa.ChunkedArray],
    n_rows: int,
) -> pa.Table | None:
    """Columns that are neither among the texts nor the values are null."""
    columns = {}
    try:
        for field in fields:
            if field.name in texts:
                columns[field.name] = as_column(texts[field.name], field)
            elif field.name in values:
                columns[field.name] = values[field.name]
            elif pa.types.is_string(field.type) and field.name != "error":
                columns[field.name] = pa.nulls(n_rows, pa.dictionary(pa.int32(), field.type))
            else:
                columns[field.name] = pa.nulls(n_rows, field.type)
    except (ValueError, pa.ArrowException):
        return None
    return pa.table(columns)
