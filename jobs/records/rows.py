"""Row keys of every file and the identity of a row.

Rows are plain JSON objects with the keys of the tools that came before, plus foreshock's own; the key tuples here fix
their order on disk. Identity is (checkpoint, prefill level, task, attempt, prefill text), so a row can be recognised
in any file, whoever wrote it and in whatever order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

SCHEMA_VERSION = 1

Row = dict[str, Any]

PROVENANCE_KEYS = (
    "schema_version",
    "checkpoint",
    "prefill_level",
    "prefill_sha256",
    "finish_reason",
    "seed",
    "template_sha256",
    "sandbox_tier",
    "secure_outcome",
    "insecure_outcome",
)

EVAL_KEYS = (
    "model_id",
    "task_id",
    "attempt_idx",
    "exploit_type",
    "secure_pass",
    "insecure_pass",
    "exploit_success",
    "reward_gap",
    "output_tokens",
    "insecure_suspect",
    "insecure_suspect_patterns",
    "reasoning",
    "prefill_applied",
    "prefill_tokens",
    "prefill_reasoning",
    "prefill_model_id",
    "prefill_attempt_idx",
    "prefill_source",
    *PROVENANCE_KEYS,
)

SAMPLE_KEYS = (*EVAL_KEYS, "system", "prompt", "response", "code")

LOGPROB_KEYS = (
    "task_id",
    "exploit_type",
    "attempt_idx",
    "prefill_tokens",
    "prefill_applied",
    "exploit_success",
    "prefill_logprob_sum",
    "prefill_logprob_mean",
    "prefill_num_tokens",
    "token_logprobs",
    "schema_version",
    "checkpoint",
    "prefill_level",
    "prefill_sha256",
    "template_sha256",
    "logprob_temperature",
    "logprob_method",
)

KL_KEYS = (
    "task_id",
    "exploit_type",
    "attempt_idx",
    "prefill_tokens",
    "exploit_success",
    "kl_divergence",
    "kl_per_token",
    "kl_num_tokens",
    "eval_logprob_sum",
    "ref_logprob_sum",
    "kl_method",
    "schema_version",
    "checkpoint",
    "prefill_level",
    "prefill_sha256",
)

ERROR_KEY = "error"


class RowIdentity(NamedTuple):
    """What makes two rows the same measurement."""

    checkpoint: str
    prefill_level: int
    task_id: str
    attempt_idx: int
    prefill_sha256: str


def row_identity(row: Mapping[str, Any]) -> RowIdentity:
    """Identity of a row that foreshock wrote. Raises KeyError if a field of it is missing."""
    return RowIdentity(
        row["checkpoint"], row["prefill_level"], row["task_id"], row["attempt_idx"], row["prefill_sha256"]
    )


def text_sha256(text: str) -> str:
    """sha256 of UTF-8 text, 64 hex digits; of "" for an empty prefill."""
    return hashlib.sha256(text.encode()).hexdigest()


def select_keys(row: Mapping[str, Any], keys: Iterable[str]) -> Row:
    """The row restricted to `keys`, in that order, absent ones as null; `error` is kept when present."""
    chosen = {key: row.get(key) for key in keys}
    if row.get(ERROR_KEY) is not None:
        chosen[ERROR_KEY] = row[ERROR_KEY]
    return chosen
