"""Score all levels of a trace with as few forward passes as their token ids allow.

Sharing is decided by token ids alone. A level whose ids are a prefix of a longer level's ids is read off that level's
scores; one that is tokenised differently at its cut gets its own request. Equal ids are scored once, however many
levels, attempts or traces ask for them. Pure: no engine, no tokenizer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from foreshock.jobs.engines.base import LogprobTemperature, PromptLogprobs, ScoreRequest
from foreshock.jobs.prompts.base import RenderedPrompt
from foreshock.jobs.records.rows import ERROR_KEY, LOGPROB_KEYS, SCHEMA_VERSION, Row, select_keys

K = TypeVar("K", bound=Hashable)


def scoring_temperature(temperature: float) -> float:
    """The temperature at which log P is taken: the sampling temperature, or 1 for greedy sampling."""
    return temperature if temperature > 0 else 1.0


@dataclass(frozen=True, slots=True)
class ScoredPrefill:
    """What a row says of a prefill besides its score. `exploit_success` is its continuation's, where that is known."""

    task_id: str
    exploit_type: str | None
    attempt_idx: int
    words: int
    level: int
    sha256: str
    checkpoint: str
    template_sha256: str
    temperature: float
    exploit_success: bool | None = None
    channel: str | None = "reasoning"


@dataclass(frozen=True, slots=True)
class LevelScore:
    """log P(prefill | prompt) of one level, in nats. `error` set: there is no score, and the sum is None."""

    level: int
    token_ids: tuple[int, ...]
    token_logprobs: tuple[float, ...]
    error: str | None = None
    method: LogprobTemperature = LogprobTemperature.FULL_SOFTMAX

    @property
    def num_tokens(self) -> int:
        """Tokens of the prefill."""
        return len(self.token_ids)

    @property
    def logprob_sum(self) -> float | None:
        """Sequence log-probability: exactly 0 for level 0, where nothing is forced; None after an error."""
        return None if self.error is not None else math.fsum(self.token_logprobs)

    @property
    def logprob_mean(self) -> float | None:
        """Mean per token; None where there are no tokens or no score."""
        total = self.logprob_sum
        return None if total is None or not self.token_ids else total / self.num_tokens


@dataclass(frozen=True, slots=True)
class _Source:
    """Where a level's scores are read: the first `n_tokens` of request `request_id`; None for level 0."""

    request_id: int | None
    token_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ScoringPlan(Generic[K]):
    """The requests that score every level of every trace, and how to read the levels back."""

    requests: tuple[ScoreRequest, ...]
    sources: Mapping[K, Mapping[int, _Source]]

    def collect(self, results: Iterable[PromptLogprobs]) -> dict[K, dict[int, LevelScore]]:
        """Scores by trace key and level. Raises ValueError when a request has no result."""
        by_id = {result.request_id: result for result in results}
        missing = sorted(request.request_id for request in self.requests if request.request_id not in by_id)
        if missing:
            raise ValueError(f"no scores came back for requests {missing[:10]} of {len(self.requests)}")
        return {
            key: {level: _read(level, source, by_id) for level, source in levels.items()}
            for key, levels in self.sources.items()
        }


def plan_scoring(
    traces: Mapping[K, Mapping[int, RenderedPrompt]], covers: Callable[[int, int], bool] = lambda n, longer: True
) -> ScoringPlan[K]:
    """Plan the scoring of `traces`: trace key -> level (words) -> the level's own rendering. `covers(n, longer)` says
    whether `n` tokens score alike alone and as the beginning of `longer`.

    Level 0 may be present and costs nothing. Raises ValueError for a level above 0 whose prefill is empty: a
    missing prefill is missing, never probability 1.
    """
    requests: list[ScoreRequest] = []
    seen: dict[tuple[int, tuple[int, ...]], int] = {}
    sources: dict[K, dict[int, _Source]] = {}
    for key, levels in traces.items():
        sources[key] = {}
        own: list[ScoreRequest] = []
        for level, prompt in sorted(levels.items(), key=lambda item: -len(item[1].token_ids)):
            prefill = prompt.token_ids[prompt.prefill_start :]
            if not prefill:
                if level != 0:
                    raise ValueError(f"level {level} of {key!r} has no prefill tokens; leave it out, it is missing")
                sources[key][level] = _Source(None, ())
                continue
            request = _covering(own, prompt, covers)
            if request is None:
                identity = (prompt.prefill_start, prompt.token_ids)
                request_id = seen.setdefault(identity, len(requests))
                request = ScoreRequest(request_id, prompt.token_ids, prompt.prefill_start, prompt.conversation)
                own.append(request)
                if request_id == len(requests):
                    requests.append(request)
            sources[key][level] = _Source(request.request_id, prefill)
    return ScoringPlan(tuple(requests), sources)


def _covering(
    requests: list[ScoreRequest], prompt: RenderedPrompt, covers: Callable[[int, int], bool]
) -> ScoreRequest | None:
    """A request of the same trace whose ids begin with the prompt's ids, if there is one."""
    n = len(prompt.token_ids)
    for request in requests:
        begins = request.prefill_start == prompt.prefill_start and request.token_ids[:n] == prompt.token_ids
        if begins and covers(n, len(request.token_ids)):
            return request
    return None


def _read(level: int, source: _Source, by_id: Mapping[int, PromptLogprobs]) -> LevelScore:
    if source.request_id is None:
        return LevelScore(level, (), ())
    result = by_id[source.request_id]
    if result.error is not None:
        return LevelScore(level, source.token_ids, (), result.error, result.method)
    return LevelScore(level, source.token_ids, result.logprobs[: len(source.token_ids)], method=result.method)


def logprob_row(prefill: ScoredPrefill, score: LevelScore, token_logprobs: bool = False) -> Row:
    """The row of one score, with each token's log-probability if asked for."""
    row: Row = {
        "task_id": prefill.task_id,
        "exploit_type": prefill.exploit_type,
        "attempt_idx": prefill.attempt_idx,
        "prefill_tokens": prefill.words,
        "prefill_applied": True,
        "exploit_success": prefill.exploit_success,
        "prefill_logprob_sum": score.logprob_sum,
        "prefill_logprob_mean": score.logprob_mean,
        "prefill_num_tokens": score.num_tokens,
        "token_logprobs": list(score.token_logprobs) if token_logprobs else None,
        "schema_version": SCHEMA_VERSION,
        "checkpoint": prefill.checkpoint,
        "prefill_level": prefill.level,
        "prefill_sha256": prefill.sha256,
        "template_sha256": prefill.template_sha256,
        "logprob_temperature": prefill.temperature,
        "logprob_method": score.method.value,
        "prefill_channel": prefill.channel,
    }
    if score.error is not None:
        row[ERROR_KEY] = f"scoring: {score.error}"
    return select_keys(row, LOGPROB_KEYS)
