"""The columns of lines that are being written: JSON texts to Arrow, each distinct text decoded once.

They are what reading the lines again would give; where only reading can tell, they are None.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import chain
from types import MappingProxyType
from typing import Any

import pyarrow as pa

from foreshock.analysis.aggregate.lines import AFTER, SampleLines, Texts
from foreshock.analysis.aggregate.scores import KL_METHOD, SCORE_COLUMNS, Divergence, ScoreLine
from foreshock.analysis.tables.columns import ColumnsWriter
from foreshock.analysis.tables.jsonl import parse_block
from foreshock.analysis.tables.schema import COUNT_COLUMNS, SCHEMAS, TableKind

_EVAL = SCHEMAS[TableKind.EVAL]
_COUNTED = pa.schema([field for field in _EVAL.fields if field.name in COUNT_COLUMNS])
_ROWS_AT_ONCE = 1 << 13
_IN_KL = {"prefill_num_tokens": "kl_num_tokens", "prefill_logprob_sum": "eval_logprob_sum"}
"""Columns of a score that a KL row has under another name."""


class EvalColumns:
    """What counting reads of eval lines: collected, since Arrow is faster with many rows at a time."""

    def __init__(self, kept: ColumnsWriter) -> None:
        self._kept = kept
        self._waiting: list[Texts] = []
        self._n_waiting = 0

    def add(self, lines: SampleLines) -> None:
        """The next lines."""
        if lines.texts is None:
            self.flush()
            self._kept.add(parse_block(lines.eval_lines, _COUNTED, _EVAL.required))
            return
        self._waiting.append(lines.texts)
        self._n_waiting += lines.n_rows
        if self._n_waiting >= _ROWS_AT_ONCE:
            self.flush()

    def flush(self) -> None:
        """Before the table is finished."""
        if not self._waiting:
            return
        names = self._waiting[0]
        texts = {name: list(chain.from_iterable(block[name] for block in self._waiting)) for name in names}
        self._kept.add(_table(_COUNTED, texts, {}, self._n_waiting, AFTER))
        self._waiting.clear()
        self._n_waiting = 0


def score_columns(scores: Sequence[ScoreLine], outcomes: Sequence[bytes]) -> pa.Table | None:
    """Lines of a logprob/ or ref_logprob/ table: scores with their outcomes."""
    columns = zip(*(score.texts for score in scores), strict=True)
    texts: dict[str, Sequence[bytes]] = dict(zip(SCORE_COLUMNS, columns, strict=True))
    return _table(SCHEMAS[TableKind.LOGPROB].fields, texts | {"exploit_success": outcomes}, {}, len(scores))


def kl_columns(scores: pa.Table | None, divergences: Sequence[Divergence | None]) -> pa.Table | None:
    """Lines of a kl/ table: what `score_columns` made of scores, and what those that have a second one differ by."""
    if scores is None:
        return None
    known = [differing for differing in divergences if differing is not None]
    if len(known) < len(divergences):
        scores = scores.filter(pa.array([differing is not None for differing in divergences]))
    kl, per_token, ref_sum = zip(*known, strict=True)
    values = {"kl_divergence": kl, "kl_per_token": per_token, "ref_logprob_sum": ref_sum}
    values["kl_method"] = (KL_METHOD,) * len(known)
    for name in scores.column_names:
        values[_IN_KL.get(name, name)] = scores[name]
    return _table(SCHEMAS[TableKind.KL].fields, {}, values, len(known))


def _table(
    fields: pa.Schema,
    texts: Mapping[str, Sequence[bytes]],
    values: Mapping[str, Any],
    n_rows: int,
    after: Mapping[str, bytes] = MappingProxyType({}),
) -> pa.Table | None:
    """Columns that are neither among the texts nor the values are null."""
    columns = {}
    try:
        for field in fields:
            if field.name in texts:
                columns[field.name] = _column(texts[field.name], field, after.get(field.name, b""))
            elif isinstance(column := values.get(field.name), pa.ChunkedArray):
                columns[field.name] = column
            elif column is not None:
                column = pa.array(column, field.type)
                columns[field.name] = column.dictionary_encode() if pa.types.is_string(field.type) else column
            elif pa.types.is_string(field.type) and field.name != "error":
                columns[field.name] = pa.nulls(n_rows, pa.dictionary(pa.int32(), field.type))
            else:
                columns[field.name] = pa.nulls(n_rows, field.type)
    except (ValueError, pa.ArrowException):
        return None
    return pa.table(columns)


def _column(texts: Sequence[bytes], field: pa.Field, after: bytes) -> pa.Array:
    if pa.types.is_floating(field.type):  # seldom the same twice
        return pa.array([None if text == b"null" else float(text) for text in texts], field.type)
    coded = pa.array(texts, pa.binary()).dictionary_encode()
    values = pa.array(_decoded(coded.dictionary.to_pylist(), after), field.type)
    if not pa.types.is_string(field.type) or field.name == "error":  # read as they are
        return values.take(coded.indices)
    if values.null_count:  # null is no entry of the dictionary, but a row without one
        return values.take(coded.indices).dictionary_encode()
    return pa.DictionaryArray.from_arrays(coded.indices, values)


def _decoded(texts: Sequence[bytes], after: bytes) -> list[Any]:
    """Values of JSON texts with `after` at their ends. Raises ValueError if one ends otherwise."""
    quoted_end = b'"' + after
    if b"\\" not in b"".join(texts) and all(t[:1] == b'"' and t.endswith(quoted_end) for t in texts):
        return [text[1 : -len(quoted_end)].decode() for text in texts]
    if not all(text.endswith(after) for text in texts):
        raise ValueError("not the column that was expected")
    return [json.loads(text[: len(text) - len(after)]) for text in texts]
