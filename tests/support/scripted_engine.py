"""An engine whose words are known: what it writes is a function of the text so far, drawn by each request's seed."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from foreshock.jobs.closing import Closing
from foreshock.jobs.engines.base import (
    FinishReason,
    GenerationRequest,
    GenerationResult,
    PromptLogprobs,
    ScoreRequest,
    Stop,
    never,
)
from foreshock.jobs.engines.stopping import finished
from foreshock.jobs.prompts.tokenizer import decode, encode_prompt, load_tokenizer
from foreshock.jobs.records.spec import Checkpoint

Writes = Callable[[str, random.Random], str]
"""The rest of a turn after the prompt and what is forced, as text; the turn's end is added."""
Scores = Callable[[str, str], float]
"""log P(text | text before it), in nats."""


class ScriptedEngine(Closing):
    """Implements `Engine`."""

    name = "scripted"

    def __init__(self, writes: Writes, scores: Scores = lambda before, text: -1.0, batch_rows: int = 4) -> None:
        self._writes, self._scores, self.batch_rows = writes, scores, batch_rows
        self.tokenizer: Any = None
        self.requests: list[GenerationRequest] = []
        self._known: dict[str, tuple[int, ...]] = {}

    def load(self, checkpoint: Checkpoint) -> None:
        self.tokenizer = load_tokenizer(checkpoint.tokenizer_path)

    def generate(self, requests: Sequence[GenerationRequest], stop: Stop = never) -> Iterator[GenerationResult]:
        for request in requests:
            self.requests.append(request)
            text = self._writes(decode(self.tokenizer, request.prompt_token_ids), random.Random(request.seed))
            ids, reason = self._by_letter(text), FinishReason.STOP
            if len(ids) > request.max_tokens:
                ids, reason = ids[: request.max_tokens], FinishReason.LENGTH
            yield finished(request, lambda tokens: decode(self.tokenizer, tokens), ids, reason)

    def _by_letter(self, text: str) -> tuple[int, ...]:
        """A letter is the same tokens wherever it stands, so that a text can be written in parts."""
        parts = re.findall(r"</?think>|<\|[a-z_]+\|>|.", text, re.S)
        for part in set(parts) - self._known.keys():
            self._known[part] = tuple(encode_prompt(self.tokenizer, part))
        return tuple(token for part in parts for token in self._known[part])

    def score(self, requests: Sequence[ScoreRequest], temperature: float) -> Iterator[PromptLogprobs]:
        for request in requests:
            ids, start = request.token_ids, request.prefill_start
            total = self._scores(decode(self.tokenizer, ids[:start]), decode(self.tokenizer, ids[start:]))
            yield PromptLogprobs(request.request_id, ids, (total / (len(ids) - start),) * (len(ids) - start), start)

    def covers(self, n_tokens: int, longer: int) -> bool:
        return True

    def close(self) -> None:
        pass
