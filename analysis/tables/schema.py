"""The keys that analysis reads from each kind of row, and how strictly.

A small set of keys is required, everything else is optional and becomes null, so that files written by other tools
are read as they are; but a key that is present with the wrong type is an error, never silently a null.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import pyarrow as pa


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


_IDENTITY = (
    ("task_id", pa.string()),
    ("exploit_type", pa.string()),
    ("attempt_idx", pa.int64()),
    ("prefill_sha256", pa.string()),
    ("prefill_model_id", pa.string()),
    ("prefill_attempt_idx", pa.int64()),
    ("rollout", pa.int64()),
)
IDENTITY_KEYS = (
    "task_id",
    "attempt_idx",
    "prefill_sha256",
    "prefill_model_id",
    "prefill_attempt_idx",
    "rollout",
)
"""Within a cell, rows that agree on all of these are one and the same observation."""

_EVAL = RowSchema(
    pa.schema(
        [
            *_IDENTITY,
            ("model_id", pa.string()),
            ("sandbox_tier", pa.string()),
            ("secure_pass", pa.bool_()),
            ("insecure_pass", pa.bool_()),
            ("exploit_success", pa.bool_()),
            ("reward_gap", pa.float64()),
            ("output_tokens", pa.int64()),
            ("insecure_suspect", pa.bool_()),
            ("prefill_tokens", pa.int64()),
            ("error", pa.string()),
        ]
    ),
    required=("task_id", "exploit_success"),  # or both verdicts, from which it follows
    outcome="exploit_success",
)
_LOGPROB = RowSchema(
    pa.schema(
        [
            *_IDENTITY,
            ("prefill_tokens", pa.int64()),
            ("prefill_applied", pa.bool_()),
            ("exploit_success", pa.bool_()),
            ("prefill_logprob_sum", pa.float64()),
            ("prefill_logprob_mean", pa.float64()),
            ("prefill_num_tokens", pa.int64()),
            ("error", pa.string()),
        ]
    ),
    required=("task_id", "prefill_logprob_sum"),
    outcome="prefill_logprob_sum",
)
_KL = RowSchema(
    pa.schema(
        [
            *_IDENTITY,
            ("prefill_tokens", pa.int64()),
            ("exploit_success", pa.bool_()),
            ("kl_divergence", pa.float64()),
            ("kl_per_token", pa.float64()),
            ("kl_num_tokens", pa.int64()),
            ("eval_logprob_sum", pa.float64()),
            ("ref_logprob_sum", pa.float64()),
            ("kl_method", pa.string()),
            ("error", pa.string()),
        ]
    ),
    required=("task_id", "kl_divergence"),
    outcome="kl_divergence",
)

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

COUNT_COLUMNS = (*(name for name, _ in _IDENTITY), *DESCRIPTIVE_KEYS, "exploit_success", "error")
"""All that counting successes needs; the rest of an eval row is skipped while parsing."""

FINAL = "final"


def checkpoint_label(step: float) -> str:
    """`90` for step 90, `final` for the checkpoint that sorts last (held as infinity)."""
    return FINAL if step == float("inf") else f"{step:.0f}"
