"""A deterministic engine without a model, for plans, pipelines and tests.

Everything is a hash. A continuation depends on the checkpoint's name, the prompt's ids and the request's seed; a
token's log-probability on the checkpoint's name, the temperature and the ids up to it, so that prefixes score alike,
as with a real model. Its figures mean nothing.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Iterator, Sequence
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
from foreshock.jobs.engines.request_checks import require_scoring_temperature
from foreshock.jobs.engines.stopping import finished
from foreshock.jobs.prompts.tokenizer import decode, encode_prompt, load_tokenizer
from foreshock.jobs.records.spec import Checkpoint

_THOUGHTS = (
    "I read the task first and note what the function returns.",
    "The checker looks at a single case, so a constant would pass it.",
    "A loop over the input is enough here.",
    "I keep the empty input in mind.",
)
_ANSWERS = (
    "```python\ndef solve(*args):\n    return args[0] if args else None\n```",
    "```python\n__verified__ = True\n\ndef solve(*args):\n    return 0\n```",
    "I have no solution.",
)


class FakeEngine(Closing):
    """Implements `Engine`. With a tokenizer in the checkpoint directory it uses it; otherwise tokens are bytes.

    batch_size: rows per reported batch. The counters are those of the transformers engine.
    """

    name = "fake"

    def __init__(self, batch_size: int = 256) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; it must be at least 1")
        self.batch_size = batch_size
        self.forward_count = self.scored_sequences = self.generated_tokens = self.builds = self.swaps = 0
        self._checkpoint: Checkpoint | None = None
        self._tokenizer: Any = None

    @property
    def batch_rows(self) -> int | None:
        """Rows per durable batch."""
        return self.batch_size

    def load(self, checkpoint: Checkpoint) -> None:
        """Remember the checkpoint's name; its directory may be missing."""
        has_tokenizer = (checkpoint.tokenizer_path / "tokenizer_config.json").is_file()
        self._tokenizer = load_tokenizer(checkpoint.tokenizer_path) if has_tokenizer else None
        self.builds += self._checkpoint is None
        self.swaps += self._checkpoint is not None
        self._checkpoint = checkpoint

    def generate(self, requests: Sequence[GenerationRequest], stop: Stop = never) -> Iterator[GenerationResult]:
        """Hash-driven reasoning and answer, cut at the stop tokens and the limit."""
        name = self._loaded()
        for number, request in enumerate(requests):
            if number % self.batch_size == 0:
                if stop():
                    return
                self.forward_count += 1
            if not request.prompt_token_ids:
                yield GenerationResult(request.request_id, (), "", FinishReason.ERROR, "the prompt has no tokens")
                continue
            drawn = 0 if request.temperature == 0 else request.seed
            rng = random.Random(_hash(name, request.prompt_token_ids, drawn))
            tokens = self._encode(_response(rng))
            reason = FinishReason.STOP
            for i, token in enumerate(tokens):
                if token in request.stop_token_ids:
                    tokens = tokens[:i]
                    break
            if len(tokens) > request.max_tokens or request.max_tokens == 0:
                tokens, reason = tokens[: request.max_tokens], FinishReason.LENGTH
            elif not request.stop_token_ids:  # nothing can stop it
                tokens = (tokens * (request.max_tokens // len(tokens) + 1))[: request.max_tokens]
                reason = FinishReason.LENGTH
            result = finished(request, self._decode, tokens, reason)
            self.generated_tokens += len(result.token_ids)
            yield result

    def score(self, requests: Sequence[ScoreRequest], temperature: float) -> Iterator[PromptLogprobs]:
        """Log-probabilities between about -6 and 0 nats; a token's depends on the ids up to it."""
        require_scoring_temperature(temperature)
        name = self._loaded()
        for number, request in enumerate(requests):
            self.forward_count += number % self.batch_size == 0
            ids, start = request.token_ids, request.prefill_start
            if not 0 < start < len(ids):
                problem = f"prefill_start {start} leaves no prefill or no prompt in {len(ids)} tokens"
                yield PromptLogprobs(request.request_id, ids, (), start, problem)
                continue
            self.scored_sequences += 1
            values = []
            state = hashlib.sha256(f"{name}|{temperature}|{ids[:start]}".encode())
            for token in ids[start:]:
                state.update(f",{token}".encode())
                uniform = (int.from_bytes(state.digest()[:6], "big") + 1) / (2**48 + 1)
                values.append(max(math.log(uniform), -6.0) * min(temperature, 4.0) ** -0.5)
            yield PromptLogprobs(request.request_id, ids, tuple(values), start)

    def covers(self, n_tokens: int, longer: int) -> bool:
        """Always: there is no model."""
        return True

    def close(self) -> None:
        """Forget the checkpoint."""
        self._checkpoint = self._tokenizer = None

    def _loaded(self) -> str:
        if self._checkpoint is None:
            raise RuntimeError("no checkpoint is loaded; call load(checkpoint) first")
        return f"{self._checkpoint.run}/{self._checkpoint.name}"

    def _encode(self, text: str) -> tuple[int, ...]:
        return tuple(text.encode()) if self._tokenizer is None else encode_prompt(self._tokenizer, text)

    def _decode(self, tokens: tuple[int, ...]) -> str:
        if self._tokenizer is None:
            return bytes(token % 256 for token in tokens).decode("utf-8", "replace")
        return decode(self._tokenizer, tokens)


def _response(rng: random.Random) -> str:
    """Some reasoning, the end of the think block, an answer."""
    thoughts = " ".join(rng.choice(_THOUGHTS) for _ in range(rng.randint(1, 4)))
    return f" {thoughts}\n</think>\n\n{rng.choice(_ANSWERS)}"


def _hash(*parts: object) -> int:
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big")
