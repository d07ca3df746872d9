"""Log-probabilities of a prompt from a server: by which of its ways, and from how many of the likeliest tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from foreshock.jobs.engines.base import ScoreRequest
from foreshock.jobs.engines.endpoint.http import EndpointClient, RefusedError
from foreshock.jobs.engines.endpoint.protocol import (
    PromptScores,
    ScoreWay,
    echo_body,
    read_echo,
    read_prompt_logprobs,
    score_body,
)

_TOO_FEW = (
    "raise the server's --max-logprobs (and engine.options.score_top_k, if it is set), or score in process with "
    "`foreshock logprob`"
)
_WIDTHS = (20, 100, 500)
"""Likeliest tokens asked for, by turns; a prompt of 1,000 tokens answers with 25 MB at the widest."""

_SMALL_VOCABULARY = 4096
"""Of which all tokens are asked for at last."""


@dataclass
class Scorer:
    """Scores prompts of one served model. `widths`: how many of the likeliest tokens are asked for, ever more until
    they settle a score; -1 is all."""

    client: EndpointClient
    path: str
    model: str
    answers_as: str | None
    vocab_size: int
    top_k: int | None
    max_uncertainty: float
    way: ScoreWay
    widths: list[int] = field(init=False)

    def __post_init__(self) -> None:
        if self.top_k is not None:
            self.widths = [self.top_k]
        else:
            all_of_them = [-1] if self.vocab_size <= _SMALL_VOCABULARY else []
            self.widths = [k for k in _WIDTHS if k < self.vocab_size] + all_of_them

    def unable(self, temperature: float) -> str | None:
        """Why no request can be scored at this temperature, or None."""
        if self.way is ScoreWay.NONE:
            return (
                f"{self.client.base_url} gives no log-probabilities of a prompt (neither prompt_logprobs nor echo "
                "with logprobs, or not those that it draws by); score with `foreshock logprob` in process, or serve "
                "with vLLM"
            )
        if self.way is ScoreWay.ECHO and temperature != 1:
            return (
                f"{self.client.base_url} gives log-probabilities at temperature 1 only, and the run samples at "
                f"{temperature:g}; score with `foreshock logprob` in process, or serve with vLLM"
            )
        return None

    async def score(self, request: ScoreRequest, prompt: Mapping[str, Any], temperature: float) -> PromptScores:
        """Raises ValueError where no width that the server gives settles the score."""
        if self.way is ScoreWay.ECHO:
            n, start = len(request.token_ids), request.prefill_start
            body = echo_body(self.model, prompt)
            return await self.client.post(self.path, body, lambda answer: read_echo(answer, self.answers_as, n, start))
        if temperature == 1:
            return await self._with(request, prompt, temperature, 1)
        found: PromptScores | None = None
        last = 0
        for width in list(self.widths):
            try:
                found = await self._with(request, prompt, temperature, width)
            except RefusedError:
                if self.top_k is not None:
                    raise
                self.widths = [k for k in self.widths if k != width]  # more than the server gives
                continue
            last = width
            if found.uncertainty <= self.max_uncertainty:
                return found
        if found is None:
            raise ValueError(f"the server gives none of its likeliest tokens' log-probabilities; {_TOO_FEW}")
        raise ValueError(
            f"the {last} likeliest tokens settle log P at temperature {temperature:g} only to "
            f"{found.uncertainty:.3g} nats a token (allowed: {self.max_uncertainty:g}); {_TOO_FEW}"
        )

    async def _with(
        self, request: ScoreRequest, prompt: Mapping[str, Any], temperature: float, width: int
    ) -> PromptScores:
        ids, start = request.token_ids, request.prefill_start
        found = await self.client.post(
            self.path,
            score_body(self.model, prompt, width),
            lambda answer: read_prompt_logprobs(
                answer, self.answers_as, ids, start, temperature, self.vocab_size, width
            ),
        )
        return replace(found, partial=temperature != 1 and width != -1)
