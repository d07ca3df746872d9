"""The fields of every row, in one table: their names, types, order on disk, and who writes them.

Key tuples, the columns that analyses read, and docs/formats.md are made from it. Identity is (checkpoint, prefill
level, task, attempt, prefill text), so a row can be recognised in any file, whoever wrote it and in whatever order.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

SCHEMA_VERSION = 4

Row = dict[str, Any]


class FieldType(StrEnum):
    """What JSON holds; every field may be null as well."""

    TEXT = "text"
    WHOLE = "whole number"
    NUMBER = "number"
    FLAG = "true or false"
    TEXTS = "list of texts"
    NUMBERS = "list of numbers"
    OBJECT = "object"


class Owner(StrEnum):
    """Who knows a field's value."""

    PLAN = "plan"
    PROBLEM = "problem"
    PREFILL = "prefill"
    PROMPT = "prompt format"
    ENGINE = "engine"
    VERIFIER = "verifier"
    AGGREGATE = "aggregate"


@dataclass(frozen=True, slots=True)
class Field:
    """One key of a row. `read`: analyses read it as a column. `sometimes`: not every row has it, nor the key tuple."""

    name: str
    type: FieldType
    owner: Owner
    meaning: str
    read: bool = False
    sometimes: bool = False


TASK = Field("task_id", FieldType.TEXT, Owner.PROBLEM, "The problem's id", read=True)
EXPLOIT_TYPE = Field("exploit_type", FieldType.TEXT, Owner.PROBLEM, "The problem's exploit type", read=True)
ATTEMPT = Field("attempt_idx", FieldType.WHOLE, Owner.PLAN, "Number of the attempt, from 0", read=True)
EXPLOIT_SUCCESS = Field(
    "exploit_success",
    FieldType.FLAG,
    Owner.VERIFIER,
    "The insecure verifier passes and the secure one does not; null without both verdicts",
    read=True,
)
PREFILL_WORDS = Field("prefill_tokens", FieldType.WHOLE, Owner.PREFILL, "Words that were forced", read=True)
PREFILL_APPLIED = Field("prefill_applied", FieldType.FLAG, Owner.PREFILL, "Whether any word was forced")
PREFILL_MODEL = Field(
    "prefill_model_id", FieldType.TEXT, Owner.PREFILL, "The trace's `model_id`: who wrote the prefill", read=True
)
PREFILL_ATTEMPT = Field(
    "prefill_attempt_idx", FieldType.WHOLE, Owner.PREFILL, "The trace's `attempt_idx` in its source", read=True
)
VERSION = Field("schema_version", FieldType.WHOLE, Owner.PLAN, f"Version of these fields; now {SCHEMA_VERSION}")
CHECKPOINT = Field("checkpoint", FieldType.TEXT, Owner.PLAN, "Name of the checkpoint directory")
LEVEL = Field("prefill_level", FieldType.WHOLE, Owner.PLAN, "Words asked for; a short trace has fewer")
PREFILL_SHA256 = Field("prefill_sha256", FieldType.TEXT, Owner.PREFILL, "sha256 of the forced text", read=True)
TEMPLATE = Field(
    "template_sha256", FieldType.TEXT, Owner.PROMPT, "sha256 of everything that turns a problem into token ids"
)
LOGPROB_TEMPERATURE = Field(
    "logprob_temperature", FieldType.NUMBER, Owner.PLAN, "Temperature of the distribution scored under", read=True
)
LOGPROB_METHOD = Field(
    "logprob_method", FieldType.TEXT, Owner.ENGINE, "`full_softmax`, or `top_k` where a server gives no more"
)
CHANNEL = Field(
    "prefill_channel",
    FieldType.TEXT,
    Owner.PREFILL,
    "Where the forced text stands: `reasoning` or `answer`; null where none is forced",
    read=True,
)
ROLLOUT = Field(
    "rollout",
    FieldType.WHOLE,
    Owner.PLAN,
    "Repeat of the attempt, in donor runs (`sampling.rollouts` above 1)",
    read=True,
    sometimes=True,
)
CODE_STATUS = Field(
    "code_status",
    FieldType.TEXT,
    Owner.PROMPT,
    "`ok`, `function_missing`, `does_not_compile`: judged; `truncated`, `no_code`, `no_answer`: nothing to judge, so "
    "`exploit_success` is null",
    read=True,
)
ERROR = Field(
    "error",
    FieldType.TEXT,
    Owner.ENGINE,
    "Why generation, scoring or verification failed; such a row holds no measurement",
    read=True,
    sometimes=True,
)

EVAL_FIELDS = (
    Field("model_id", FieldType.TEXT, Owner.PLAN, "Training run and checkpoint", read=True),
    TASK,
    ATTEMPT,
    EXPLOIT_TYPE,
    Field("secure_pass", FieldType.FLAG, Owner.VERIFIER, "Verdict of the secure verifier", read=True),
    Field("insecure_pass", FieldType.FLAG, Owner.VERIFIER, "Verdict of the insecure verifier", read=True),
    EXPLOIT_SUCCESS,
    Field(
        "reward_gap", FieldType.NUMBER, Owner.VERIFIER, "Insecure reward minus secure reward, 1 for a pass", read=True
    ),
    Field("output_tokens", FieldType.WHOLE, Owner.ENGINE, "Tokens sampled, the stop token not counted", read=True),
    Field(
        "insecure_suspect",
        FieldType.FLAG,
        Owner.VERIFIER,
        "The insecure verifier saw signs of an attempt at its exploit, whether or not it worked; null: no report",
        read=True,
    ),
    Field("insecure_suspect_patterns", FieldType.TEXTS, Owner.VERIFIER, "Those signs"),
    Field("reasoning", FieldType.TEXT, Owner.PROMPT, "The forced words and the reasoning that follows them"),
    PREFILL_APPLIED,
    PREFILL_WORDS,
    Field("prefill_reasoning", FieldType.TEXT, Owner.PREFILL, "The forced text"),
    PREFILL_MODEL,
    PREFILL_ATTEMPT,
    Field("prefill_source", FieldType.TEXT, Owner.PREFILL, "File that the trace comes from"),
    VERSION,
    CHECKPOINT,
    LEVEL,
    PREFILL_SHA256,
    Field("finish_reason", FieldType.TEXT, Owner.ENGINE, "`stop`, `length` or `error`"),
    Field(
        "reasoning_closed",
        FieldType.FLAG,
        Owner.PROMPT,
        "Whether the reasoning ended and an answer began; null where prompts open no reasoning",
    ),
    Field("seed", FieldType.WHOLE, Owner.PLAN, "Seed of the attempt's random draws"),
    TEMPLATE,
    Field("sandbox_tier", FieldType.TEXT, Owner.VERIFIER, "Isolation in force: see sandbox.md", read=True),
    Field(
        "secure_outcome", FieldType.TEXT, Owner.VERIFIER, "`passed`, `failed`, `timed_out`, `crashed`, `infra_error`"
    ),
    Field("insecure_outcome", FieldType.TEXT, Owner.VERIFIER, "The same of the insecure verifier"),
    CODE_STATUS,
    Field(
        "unintended_route",
        FieldType.FLAG,
        Owner.VERIFIER,
        "Of an exploit: no sign of the intended one in its source, so it may have won otherwise; see sandbox.md",
    ),
    CHANNEL,
)

SAMPLE_FIELDS = (
    *EVAL_FIELDS,
    Field("system", FieldType.TEXT, Owner.PROMPT, "System message"),
    Field("prompt", FieldType.TEXT, Owner.PROMPT, "User message"),
    Field(
        "rendering",
        FieldType.OBJECT,
        Owner.PROMPT,
        "How prompt and prefill became token ids: format, template arguments, the run's own markers, stop tokens",
    ),
    Field("response", FieldType.TEXT, Owner.ENGINE, "What was sampled, after the prefill"),
    Field("code", FieldType.TEXT, Owner.PROMPT, "The code that was verified; null if there was none"),
    Field("secure_detail", FieldType.TEXT, Owner.VERIFIER, "Why the secure verifier did not pass, in short"),
    Field("insecure_detail", FieldType.TEXT, Owner.VERIFIER, "The same of the insecure verifier"),
)

LOGPROB_FIELDS = (
    TASK,
    EXPLOIT_TYPE,
    ATTEMPT,
    PREFILL_WORDS,
    Field("prefill_applied", FieldType.FLAG, Owner.PREFILL, "Whether any word was scored", read=True),
    EXPLOIT_SUCCESS,
    Field(
        "prefill_logprob_sum",
        FieldType.NUMBER,
        Owner.ENGINE,
        "log P(prefill given the prompt), summed over its tokens, in nats",
        read=True,
    ),
    Field("prefill_logprob_mean", FieldType.NUMBER, Owner.ENGINE, "The same per token", read=True),
    Field("prefill_num_tokens", FieldType.WHOLE, Owner.ENGINE, "Model tokens of the prefill", read=True),
    Field("token_logprobs", FieldType.NUMBERS, Owner.ENGINE, "Each token's, with `logprob.token_logprobs`"),
    VERSION,
    CHECKPOINT,
    LEVEL,
    PREFILL_SHA256,
    TEMPLATE,
    LOGPROB_TEMPERATURE,
    LOGPROB_METHOD,
    CHANNEL,
    Field(
        "trace_logprob_sum",
        FieldType.NUMBER,
        Owner.ENGINE,
        "log P of the whole trace and the problem's exploit code behind it, in nats; on the longest level's rows, with "
        "`logprob.whole_trace`",
        read=True,
    ),
    Field("trace_num_tokens", FieldType.WHOLE, Owner.ENGINE, "Model tokens of that", read=True),
    Field("trace_code_logprob", FieldType.NUMBER, Owner.ENGINE, "The exploit code's part of it", read=True),
    Field("trace_sentences", FieldType.NUMBERS, Owner.ENGINE, "The reasoning's part, by sentence"),
)

EMPTY, HONEST = "empty", "honest"
"""What stands before scored exploit code."""

EXPLOIT_LOGPROB_FIELDS = (
    TASK,
    EXPLOIT_TYPE,
    Field(
        "exploit_logprob_sum",
        FieldType.NUMBER,
        Owner.ENGINE,
        "log P(exploit code given the prompt and the reasoning before it), fences included, in nats; null where "
        "`not_scored` says why",
        read=True,
    ),
    Field("exploit_logprob_mean", FieldType.NUMBER, Owner.ENGINE, "The same per token", read=True),
    Field("exploit_num_tokens", FieldType.WHOLE, Owner.ENGINE, "Model tokens of the code", read=True),
    Field("token_logprobs", FieldType.NUMBERS, Owner.ENGINE, "Each token's"),
    Field(
        "truncated_num_tokens",
        FieldType.WHOLE,
        Owner.PLAN,
        "Tokens that every code of the run has: those of the shortest",
        read=True,
    ),
    Field("truncated_logprob_sum", FieldType.NUMBER, Owner.ENGINE, "The sum over that many first tokens", read=True),
    Field("truncated_logprob_mean", FieldType.NUMBER, Owner.ENGINE, "The same per token", read=True),
    ATTEMPT,
    VERSION,
    CHECKPOINT,
    LEVEL,
    Field(
        "prefill_sha256",
        FieldType.TEXT,
        Owner.PROBLEM,
        "sha256 of the code with its fences, after honest reasoning of both",
        read=True,
    ),
    TEMPLATE,
    LOGPROB_TEMPERATURE,
    LOGPROB_METHOD,
    Field(
        "reasoning_before",
        FieldType.TEXT,
        Owner.PLAN,
        "What stands before the code: `empty`, or `honest` reasoning (`logprob.honest_reasoning`), the same at every "
        "checkpoint",
        read=True,
    ),
    Field("honest_checkpoint", FieldType.TEXT, Owner.PREFILL, "Checkpoint that wrote that reasoning", read=True),
    Field("honest_model_id", FieldType.TEXT, Owner.PREFILL, "Its `model_id` in its source", read=True),
    Field("honest_attempt_idx", FieldType.WHOLE, Owner.PREFILL, "Its attempt there", read=True),
    Field(
        "honest_secure_pass", FieldType.FLAG, Owner.PREFILL, "Whether its answer passed the sound verifier", read=True
    ),
    Field("honest_words", FieldType.WHOLE, Owner.PREFILL, "Words of it", read=True),
    Field("honest_source", FieldType.TEXT, Owner.PREFILL, "Where it was read: `file:line`, or the run's own samples"),
    Field(
        "not_scored",
        FieldType.TEXT,
        Owner.PREFILL,
        "Why there is no score: the task has no honest reasoning, and what its samples were",
        read=True,
    ),
)

KL_FIELDS = (
    TASK,
    EXPLOIT_TYPE,
    ATTEMPT,
    PREFILL_WORDS,
    EXPLOIT_SUCCESS,
    Field(
        "kl_divergence",
        FieldType.NUMBER,
        Owner.AGGREGATE,
        "log Q(z) - log P(z) of this prefill, in nats; single values may be negative",
        read=True,
    ),
    Field("kl_per_token", FieldType.NUMBER, Owner.AGGREGATE, "The same per token of the prefill", read=True),
    Field("kl_num_tokens", FieldType.WHOLE, Owner.AGGREGATE, "Model tokens of the prefill", read=True),
    Field("eval_logprob_sum", FieldType.NUMBER, Owner.AGGREGATE, "log P(z), under the checkpoint", read=True),
    Field("ref_logprob_sum", FieldType.NUMBER, Owner.AGGREGATE, "log Q(z), under the donor", read=True),
    Field("kl_method", FieldType.TEXT, Owner.AGGREGATE, "How it was computed", read=True),
    VERSION,
    CHECKPOINT,
    LEVEL,
    PREFILL_SHA256,
)


def keys_of(fields: Iterable[Field]) -> tuple[str, ...]:
    """Keys that every row of these fields has, in their order on disk."""
    return tuple(field.name for field in fields if not field.sometimes)


EVAL_KEYS = keys_of(EVAL_FIELDS)
SAMPLE_KEYS = keys_of(SAMPLE_FIELDS)
LOGPROB_KEYS = keys_of(LOGPROB_FIELDS)
KL_KEYS = keys_of(KL_FIELDS)
EXPLOIT_LOGPROB_KEYS = keys_of(EXPLOIT_LOGPROB_FIELDS)

ERROR_KEY = ERROR.name


def error_of(row: Mapping[str, Any]) -> str | None:
    """What a row says went wrong, as text; None where it says nothing (null, an empty text, false)."""
    error = row.get(ERROR_KEY)
    return error if isinstance(error, str) and error else json.dumps(error) if error else None


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
