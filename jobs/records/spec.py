"""What work is: checkpoints, cells, sampling parameters and job specs.

A spec's `key()` covers everything that can change its rows (model fingerprint, prompt template, prefill text,
sampling, verifier) and nothing that cannot (GPU, batch size, node). A retry on a bigger GPU is the same work; a
changed setting is other work and is never mixed with the old.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, fields
from enum import StrEnum
from functools import total_ordering
from pathlib import Path
from typing import Any

from foreshock.jobs.records.checkpoint_names import result_name


@total_ordering
@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A saved model of one training run.

    `step` is the optimiser step, or None for `final`, which sorts last. `path` is the directory that holds config and
    weights, whatever its trainer called it; `tokenizer` another directory that holds the tokenizer.
    """

    run: str
    step: int | None
    path: Path
    revision: str | None = None
    tokenizer: Path | None = None

    @property
    def name(self) -> str:
        """The name in results: `checkpoint-N` or `final`."""
        return result_name(self.step)

    @property
    def tokenizer_path(self) -> Path:
        """The directory that holds the tokenizer."""
        return self.path if self.tokenizer is None else self.tokenizer

    def _order(self) -> tuple[str, float]:
        return (self.run, float("inf") if self.step is None else float(self.step))

    def __lt__(self, other: Checkpoint) -> bool:
        return self._order() < other._order()


@dataclass(frozen=True, slots=True, order=True)
class Cell:
    """One (checkpoint, prefill level); `prefill_words` counts whitespace-separated words."""

    checkpoint: Checkpoint
    prefill_words: int


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How continuations are drawn; names as in vLLM. `n` is the number of attempts, `stop` strings that end one."""

    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = 2048
    n: int = 3
    seed: int = 0
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    """Ids that end a continuation, beside those that the model's own files and template name."""


class JobKind(StrEnum):
    """What a spec computes."""

    EVAL = "eval"
    LOGPROB = "logprob"
    REF_LOGPROB = "ref_logprob"
    GROUND_TRUTH = "ground_truth"
    EXTRA = "extra"
    """Further level-0 attempts that an adaptive run asked for, kept apart from the sweep's own."""
    EXPLOIT_LOGPROB = "exploit_logprob"
    """Log-probability of the problems' own exploit code after empty reasoning."""
    HONEST_LOGPROB = "honest_logprob"
    """The same after honest reasoning; its rows stand in the same tables."""


SAMPLED_KINDS = frozenset({JobKind.EVAL, JobKind.GROUND_TRUTH, JobKind.EXTRA})
"""Kinds whose rows are sampled attempts, one level a spec; the others score prefills."""


def canonical_json(data: Any) -> str:
    """The one text of `data` that is hashed: sorted keys, no spaces, ASCII."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


@dataclass(frozen=True, slots=True)
class JobSpec:
    """A contiguous slice of tasks of one checkpoint: the unit that becomes one shard.

    An EVAL, GROUND_TRUTH or EXTRA spec has one level. A LOGPROB spec spans all levels of its tasks, because one
    forward pass of the longest prefill scores them all; its shard is split by level on aggregation.

    `attempts` lists the attempt indices to sample; `prefill_sha256` digests the exact prefill texts used, and
    `sampling.n` is not read here (attempts rule).
    """

    kind: JobKind
    checkpoint: Checkpoint
    levels: tuple[int, ...]
    task_ids: tuple[str, ...]
    attempts: tuple[int, ...]
    sampling: SamplingParams
    prompt_format: str
    template_sha256: str
    model_fingerprint: str
    prefill_sha256: str
    problems_sha256: str
    verifier: str
    schema_version: int
    shard_index: int = 0
    _key: str | None = field(default=None, init=False, repr=False, compare=False)

    def identity(self) -> dict[str, Any]:
        """What `key()` hashes: everything but where the checkpoint happens to lie on disk."""
        values = _values(self)
        values["kind"] = self.kind.value
        values["checkpoint"] = {"run": self.checkpoint.run, "name": self.checkpoint.name}
        values["sampling"] = {k: v for k, v in _values(self.sampling).items() if k != "n" and v != ()}
        return values

    def key(self) -> str:
        """sha256 over `identity()` as canonical JSON; 64 hex digits."""
        if self._key is None:
            self.know_key(hashlib.sha256(canonical_json(self.identity()).encode()).hexdigest())
        assert self._key is not None
        return self._key

    def know_key(self, key: str) -> None:
        """Take `key()` from somebody who has computed it from the same identity."""
        object.__setattr__(self, "_key", key)

    @property
    def n_rows(self) -> int:
        """Rows a complete shard holds if no task is skipped."""
        return len(self.task_ids) * len(self.attempts) * len(self.levels)

    def to_json(self) -> dict[str, Any]:
        """Everything, path included; `from_json` is its inverse."""
        return self.identity() | {
            "checkpoint": {
                "run": self.checkpoint.run,
                "step": self.checkpoint.step,
                "path": str(self.checkpoint.path),
                "revision": self.checkpoint.revision,
                "tokenizer": None if self.checkpoint.tokenizer is None else str(self.checkpoint.tokenizer),
            },
            "sampling": _values(self.sampling),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> JobSpec:
        """Rebuild a spec written by `to_json`."""
        point = data["checkpoint"]
        tokenizer = point.get("tokenizer")
        return cls(
            **data
            | {
                "kind": JobKind(data["kind"]),
                "checkpoint": Checkpoint(
                    point["run"],
                    point["step"],
                    Path(point["path"]),
                    point["revision"],
                    None if tokenizer is None else Path(tokenizer),
                ),
                "levels": tuple(data["levels"]),
                "task_ids": tuple(data["task_ids"]),
                "attempts": tuple(data["attempts"]),
                "sampling": _sampling(data["sampling"]),
            }
        )


def _sampling(data: dict[str, Any]) -> SamplingParams:
    tuples = {name: tuple(data.get(name, ())) for name in ("stop", "stop_token_ids")}
    return SamplingParams(**data | tuples)


def _values(record: JobSpec | SamplingParams) -> dict[str, Any]:
    """Field values as they are; `dataclasses.asdict` copies deeply, and a large plan asks for many thousand keys."""
    return {part.name: getattr(record, part.name) for part in fields(record) if part.init}


@dataclass(frozen=True, slots=True)
class ArrayTask:
    """Specs that one worker process runs in order; neighbours that share a checkpoint share its loaded model."""

    index: int
    specs: tuple[JobSpec, ...]
    estimated_minutes: float


def row_seed(base_seed: int, checkpoint: str, level: int, task_id: str, attempt_idx: int, prefill_sha256: str) -> int:
    """Sampling seed of one row, from its identity alone: resumed and uninterrupted runs draw the same numbers.

    Returns a non-negative int below 2**63 (torch and vLLM accept it).
    """
    text = json.dumps([base_seed, checkpoint, level, task_id, attempt_idx, prefill_sha256])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
