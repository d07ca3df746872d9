"""The keys that analysis reads from each kind of row, and how strictly.

A small set of keys is required, everything else is optional and becomes null, so that files written by other tools
are read as they are; but a key that is present with the wrong type is an error, never silently a null.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import pyarrow as pa

from foreshock.jobs.records.rows import (
    ATTEMPT,
    CHANNEL,
    CODE_STATUS,
    ERROR,
    EVAL_FIELDS,
    EXPLOIT_TYPE,
    KL_FIELDS,
    LOGPROB_FIELDS,
    PREFILL_ATTEMPT,
    PREFILL_MODEL,
    PREFILL_SHA256,
    ROLLOUT,
    TASK,
    Field,
    FieldType,
)


class TableKind(StrEnum):
    """A family of JSONL files; the value is the folder's name inside a run directory."""

    EVAL = "evals"
    GROUND_TRUTH = "ground_truth"
    EXTRA = "extra"
    LOGPROB = "logprob"
    REF_LOGPROB = "ref_logprob"
    KL = "kl"


@dataclass(frozen=True, slots=True)
class RowSchema:
    """Keys of one kind of row. `outcome` is the key without which a row carries no information."""

    fields: pa.Schema
    required: tuple[str, ...]
    outcome: str

    @property
    def is_eval(self) -> bool:
        """Whether rows are sampled attempts (as opposed to scores of a prefix)."""
        return self.outcome == "exploit_success"


_ARROW = {
    FieldType.TEXT: pa.string(),
    FieldType.WHOLE: pa.int64(),
    FieldType.NUMBER: pa.float64(),
    FieldType.FLAG: pa.bool_(),
}
_IDENTITY = (TASK, EXPLOIT_TYPE, ATTEMPT, PREFILL_SHA256, PREFILL_MODEL, PREFILL_ATTEMPT, ROLLOUT)
"""Read from every kind of row, since other tools write them everywhere."""

IDENTITY_KEYS = (
    "task_id",
    "attempt_idx",
    "prefill_sha256",
    "prefill_model_id",
    "prefill_attempt_idx",
    "rollout",
)
"""Within a cell, rows that agree on all of these are one and the same observation."""


def row_schema(fields: Sequence[Field], required: tuple[str, ...]) -> RowSchema:
    """Columns of rows of these fields: who they are, then whatever else is read, in its order. The last of `required`
    is the outcome. A name stands there once: two columns of one name make pyarrow's JSON reader write beyond its
    memory."""
    columns = {field.name: _ARROW[field.type] for field in (*_IDENTITY, *(f for f in fields if f.read), ERROR)}
    return RowSchema(pa.schema(list(columns.items())), required, required[-1])


_EVAL = row_schema(EVAL_FIELDS, ("task_id", "exploit_success"))  # or both verdicts, from which it follows
_LOGPROB = row_schema(LOGPROB_FIELDS, ("task_id", "prefill_logprob_sum"))
_KL = row_schema(KL_FIELDS, ("task_id", "kl_divergence"))

SCHEMAS: dict[TableKind, RowSchema] = {
    TableKind.EVAL: _EVAL,
    TableKind.GROUND_TRUTH: _EVAL,
    TableKind.EXTRA: _EVAL,
    TableKind.LOGPROB: _LOGPROB,
    TableKind.REF_LOGPROB: _LOGPROB,
    TableKind.KL: _KL,
}

DESCRIPTIVE_KEYS = ("model_id", "sandbox_tier")
"""Keys whose few distinct values say how a cell was made."""

COUNT_COLUMNS = (
    *(field.name for field in _IDENTITY),
    *DESCRIPTIVE_KEYS,
    CODE_STATUS.name,
    CHANNEL.name,
    "exploit_success",
    "error",
)
"""All that counting successes needs; the rest of an eval row is skipped while parsing."""

FINAL = "final"


def checkpoint_label(step: float) -> str:
    """`90` for step 90, `final` for the checkpoint that sorts last (held as infinity)."""
    return FINAL if step == float("inf") else f"{step:.0f}"
