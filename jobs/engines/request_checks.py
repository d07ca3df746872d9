"""Which requests an engine can run at all, decided before any reaches the model.

All engines refuse the same requests in the same words, and one bad row is refused alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from foreshock.errors import InputError
from foreshock.jobs.engines.base import (
    FinishReason,
    GenerationRequest,
    GenerationResult,
    PromptLogprobs,
    ScoreRequest,
)


@dataclass(frozen=True, slots=True)
class ModelLimits:
    """What a loaded model can take. `context_length` None: unknown, so not checked."""

    vocab_size: int
    context_length: int | None

    def refuse_generation(self, request: GenerationRequest) -> str | None:
        """Why this request cannot be run, or None."""
        problem = self._refuse_tokens(request.prompt_token_ids, 1 if request.max_tokens else 0)
        if problem is None and request.temperature < 0:
            problem = f"temperature {request.temperature} is negative"
        return problem

    def refuse_scoring(self, request: ScoreRequest) -> str | None:
        """Why this request cannot be scored, or None."""
        problem = self._refuse_tokens(request.token_ids, 0)
        if problem is None and not 0 < request.prefill_start < len(request.token_ids):
            problem = (
                f"prefill_start {request.prefill_start} leaves no prefill or no prompt in "
                f"{len(request.token_ids)} tokens"
            )
        return problem

    def _refuse_tokens(self, token_ids: Sequence[int], more: int) -> str | None:
        if not token_ids:
            return "the prompt has no tokens"
        worst = max(max(token_ids), -min(token_ids))
        if worst >= self.vocab_size or min(token_ids) < 0:
            return f"token id {worst} is outside the model's vocabulary of {self.vocab_size}"
        if self.context_length is not None and len(token_ids) + more > self.context_length:
            return f"{len(token_ids)} tokens do not fit the model's context of {self.context_length}"
        return None


def require_scoring_temperature(temperature: float) -> None:
    """Raise InputError unless log-probabilities exist at this temperature."""
    if not temperature > 0:
        raise InputError(
            f"cannot score at temperature {temperature}: greedy decoding gives no log-probabilities; "
            "use the sampling temperature, above 0"
        )


def failed_generation(request: GenerationRequest, problem: str) -> GenerationResult:
    """The result of a request that gave none."""
    return GenerationResult(request.request_id, (), "", FinishReason.ERROR, problem)


def failed_score(request: ScoreRequest, problem: str) -> PromptLogprobs:
    """The result of a scoring request that gave none."""
    return PromptLogprobs(request.request_id, request.token_ids, (), request.prefill_start, problem)
