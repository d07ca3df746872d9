"""The engine seam: load a checkpoint, generate continuations, score prefills.

Requests are token ids, already rendered, so that no engine can tokenise differently from another, and results come
back as an iterator, so that verification and shard writing overlap generation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import Protocol, Self

from foreshock.jobs.prompts.base import Conversation, LateStop
from foreshock.jobs.records.spec import Checkpoint

Stop = Callable[[], bool]
"""Asked between micro-batches; True ends a generation early."""


def never() -> bool:
    """The `Stop` that lets everything finish."""
    return False


NOT_FINITE = "the model's logits are not finite"
"""What every engine says of a row, or a model, whose numbers are NaN or infinite."""


class FinishReason(StrEnum):
    """Why a continuation ended."""

    STOP = "stop"
    LENGTH = "length"
    ERROR = "error"


class LogprobTemperature(StrEnum):
    """Which distribution log-probabilities were taken from: see spec trap 4."""

    FULL_SOFTMAX = "full_softmax"  # log softmax(logits / tau) over the whole vocabulary
    TOP_K = "top_k"  # renormalised over the k most likely tokens, with measured mass


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One continuation to sample. `request_id` is the caller's; `seed` alone decides the random draws."""

    request_id: int
    prompt_token_ids: tuple[int, ...]
    seed: int
    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    stop_token_ids: tuple[int, ...] = ()
    stop: tuple[str, ...] = ()
    """Strings that end the continuation; its text ends before them."""
    late_stops: tuple[LateStop, ...] = ()
    """Tokens that end the continuation in its answer only; like a stop token, the one that did is not in the result."""
    batch_key: str = ""
    """Requests with different keys are never put in one padded batch by an engine whose numbers depend on batch
    composition; the worker uses the spec's key, so that resume rebuilds the same batches."""
    conversation: Conversation | None = None
    """What the prompt says, for servers that take no token ids; engines that take them ignore it."""


@dataclass(frozen=True, slots=True)
class GenerationResult:
    """What an engine made of one request. `token_ids` excludes the prompt and the stop token; it includes the tokens of
    a stop string, which `text` does not."""

    request_id: int
    token_ids: tuple[int, ...]
    text: str
    finish_reason: FinishReason
    error: str | None = None


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """Token ids to score from `prefill_start` on: log P(token_i | token_<i) for i >= prefill_start."""

    request_id: int
    token_ids: tuple[int, ...]
    prefill_start: int
    conversation: Conversation | None = None


@dataclass(frozen=True, slots=True)
class PromptLogprobs:
    """Scores of one request. `logprobs[i]` (nats) belongs to `token_ids[prefill_start + i]`.

    Raises ValueError on an empty prefill: its probability is 1 only at level 0, which is never scored.
    """

    request_id: int
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    prefill_start: int
    error: str | None = None
    method: LogprobTemperature = LogprobTemperature.FULL_SOFTMAX

    def __post_init__(self) -> None:
        if self.error is None:
            n_prefill = len(self.token_ids) - self.prefill_start
            if n_prefill <= 0:
                raise ValueError("an empty prefill has no log-probability; score levels above 0 only")
            if len(self.logprobs) != n_prefill:
                raise ValueError(f"{len(self.logprobs)} log-probabilities for {n_prefill} prefill tokens")


class Engine(Protocol):
    """Loads one checkpoint at a time; contract suite: foreshock.testing.engines."""

    name: str

    @property
    def batch_rows(self) -> int | None:
        """Rows per padded batch when numbers depend on batch composition: the worker then calls `generate` once per
        such batch, and a resumed run rebuilds the same batches. None for engines that batch continuously, and for
        models whose rows are known not to depend on their batch. Read it after `load`."""

    def load(self, checkpoint: Checkpoint) -> None:
        """Make `checkpoint` the served model, swapping weights in place where that is possible."""

    def generate(self, requests: Sequence[GenerationRequest], stop: Stop = never) -> Iterator[GenerationResult]:
        """Every request exactly once, in any order, as each batch completes. A failed one has `error` set.

        Once `stop()` is true the iterator ends soon, and what is not finished has no result.
        """

    def score(self, requests: Sequence[ScoreRequest], temperature: float) -> Iterator[PromptLogprobs]:
        """Log-probabilities at sampling temperature `temperature`; every request exactly once.

        Each result says by which `method` its values were taken.
        """

    def covers(self, n_tokens: int, longer: int) -> bool:
        """Whether a prompt of `n_tokens` scores alike alone and as the beginning of one of `longer` tokens; not so
        where a model's rotary frequencies change in between."""

    def close(self) -> None:
        """Release the model and any worker process."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None: ...
