"""Lines of shards as lines of tables, without parsing them where that is not needed.

The one hard decision: a line that foreshock wrote under the present schema version is cut, not decoded. A quotation
mark inside a JSON string is always escaped, so a key between bare quotation marks is a key wherever it is found, and
the columns of a table follow each other on disk as in its key tuple. Any other line is decoded and written anew.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import NamedTuple

from foreshock.jobs.records.jsonl import encode_rows
from foreshock.jobs.records.rows import (
    ERROR_KEY,
    EVAL_KEYS,
    SAMPLE_KEYS,
    SCHEMA_VERSION,
    Row,
    select_keys,
)

STRING = rb'"[^"\\]*(?:\\.[^"\\]*)*"'
TEXT = rb"(?:null|" + STRING + rb")"
FLAG = rb"(?:true|false|null)"
NULL = b"null"

VERSION = b', "schema_version": %d, "checkpoint": ' % SCHEMA_VERSION
_TAIL_BEGINS = b', "prefill_model_id": '
_AFTER_EVAL = b', "%s": ' % SAMPLE_KEYS[len(EVAL_KEYS)].encode()
ERROR = b', "%s": ' % ERROR_KEY.encode()

_HEAD = re.compile(
    rb'\{"model_id": (' + TEXT + rb'), "task_id": (' + STRING + rb'), "attempt_idx": ([0-9]+), "exploit_type": ('
    + TEXT + rb'), "secure_pass": ' + FLAG + rb', "insecure_pass": ' + FLAG + rb', "exploit_success": (' + FLAG
    + rb'), "'
)  # fmt: skip
_HEAD_COLUMNS = ("model_id", "task_id", "attempt_idx", "exploit_type", "exploit_success")
_TAIL_KEYS = EVAL_KEYS[EVAL_KEYS.index("prefill_model_id") :]
_TAIL_COLUMNS = ("prefill_model_id", "prefill_attempt_idx", "prefill_sha256", "sandbox_tier")
_BRACE = ord("}")
_KEY_END = b'": '  # inside a string no quotation mark is bare, and behind a string comes no colon
_PLACES = tuple(_TAIL_KEYS.index(name) + 1 for name in _TAIL_COLUMNS)
_VERSION_PLACE = _TAIL_KEYS.index("schema_version") + 1
AFTER = {name: b', "%b' % _TAIL_KEYS[place].encode() for name, place in zip(_TAIL_COLUMNS, _PLACES, strict=True)}
"""What follows a tail column's value up to the next key's end."""

Texts = dict[str, tuple[bytes, ...]]
"""Columns of lines that were cut, as JSON has them; those named in `AFTER` still with what follows them."""


class Outcomes(NamedTuple):
    """Whether attempts exploited, column by column, as JSON has them: a score's row is found again by these bytes."""

    task_id: Sequence[bytes]
    attempt_idx: Sequence[bytes]
    exploit_success: Sequence[bytes]


class SampleLines(NamedTuple):
    """Rows of an eval spec, as its two tables have them. `texts` is None where a line had to be decoded."""

    n_rows: int
    n_errors: int
    eval_lines: bytes
    sample_lines: bytes
    outcomes: Outcomes
    texts: Texts | None


def read_samples(block: bytes, attempts_of_rollout: int | None = None) -> SampleLines:
    """Whole lines of an eval shard.

    With `attempts_of_rollout`, attempt indices beyond it are further rollouts of the same attempt, and the tables' rows
    say which; the indices of the outcomes are the shard's.
    """
    cut = _cut_samples(block) if attempts_of_rollout is None else None
    return cut or _decode_samples(block, attempts_of_rollout)


def _cut_samples(block: bytes) -> SampleLines | None:
    """None if a line is not as this version writes it."""
    if block.find(ERROR) >= 0:
        return None
    eval_lines: list[bytes] = []
    texts: list[tuple[bytes, ...]] = []
    model, source, sha, tier = _PLACES
    version = b'%d, "checkpoint' % SCHEMA_VERSION
    at, match, find = 0, _HEAD.match, block.find
    while at < len(block):
        head = match(block, at)
        if head is None:
            return None
        line_end = find(b"\n", head.end())
        tail = find(_TAIL_BEGINS, head.end(), line_end)
        end = find(_AFTER_EVAL, tail, line_end)
        if line_end < 0 or tail < 0 or end < 0 or block[line_end - 1] != _BRACE:
            return None
        values = block[tail:end].split(_KEY_END)
        if len(values) != len(_TAIL_KEYS) + 1 or values[_VERSION_PLACE] != version:
            return None
        eval_lines.append(block[at:end])
        texts.append((*head.groups(), values[model], values[source], values[sha], values[tier]))
        at = line_end + 1
    eval_lines.append(b"")
    columns: Texts = dict(zip(_HEAD_COLUMNS + _TAIL_COLUMNS, zip(*texts, strict=True), strict=True)) if texts else {}
    tasks, attempts, told = (columns.get(name, ()) for name in ("task_id", "attempt_idx", "exploit_success"))
    outcomes = Outcomes(_all_plain(tasks), attempts, told)
    return SampleLines(len(texts), 0, b"}\n".join(eval_lines), block, outcomes, columns)


def _decode_samples(block: bytes, attempts_of_rollout: int | None) -> SampleLines:
    n_errors = 0
    outcomes: list[tuple[bytes, ...]] = []
    eval_rows: list[Row] = []
    sample_rows: list[Row] = []
    more = () if attempts_of_rollout is None else ("rollout",)
    for line in block.splitlines():
        row: Row = json.loads(line)
        n_errors += row.get(ERROR_KEY) is not None
        outcomes.append(tuple(to_json(row.get(key)) for key in ("task_id", "attempt_idx", "exploit_success")))
        if attempts_of_rollout is not None:
            row["rollout"], row["attempt_idx"] = divmod(row["attempt_idx"], attempts_of_rollout)
        eval_rows.append(select_keys(row, (*EVAL_KEYS, *more)))
        sample_rows.append(select_keys(row, (*SAMPLE_KEYS, *more)))
    told = Outcomes(*zip(*outcomes, strict=True)) if outcomes else Outcomes((), (), ())
    return SampleLines(len(outcomes), n_errors, encode_rows(eval_rows), encode_rows(sample_rows), told, None)


def to_json(value: object) -> bytes:
    try:
        return json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:  # a lone surrogate
        return json.dumps(value).encode()


def _all_plain(quoted: Sequence[bytes]) -> Sequence[bytes]:
    return list(map(plain, quoted)) if b"\\" in b"".join(quoted) else quoted


def plain(quoted: bytes) -> bytes:
    """A JSON string as `_json` has it: in a row with a lone surrogate, what is not ASCII is escaped."""
    return to_json(json.loads(quoted)) if b"\\" in quoted else quoted
