"""Decode one chunk of requests to the end.

The one hard decision: equal prompts are read once and their cache rows are copied, because the attempts of a task
share the prompt, and reading prompts is most of the work for short completions. Finished rows stay in the batch
until a quarter of it is done, then the batch is compacted: copying the cache at every finish costs more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers.cache_utils import DynamicCache

from foreshock.jobs.engines.base import FinishReason, GenerationRequest
from foreshock.jobs.engines.forward import LogitsModel
from foreshock.jobs.engines.ragged_cache import RaggedCache, decode_mask
from foreshock.jobs.engines.sampling import UniformStreams, pick_tokens

_VISIBLE_STEP = 16  # attended slots grow in these steps
_GROWTH = 128  # slots are added in these steps, so that a limit of 32k tokens is not allocated at once
_COMPACT_BELOW = 0.75


@dataclass(frozen=True, slots=True)
class DecodedRow:
    """The tokens of one request, without the stop token."""

    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    error: str | None = None


class Decoder:
    """Decodes one chunk. `ragged` False needs prompts of one length and uses the model's own cache."""

    def __init__(
        self,
        model: LogitsModel,
        requests: Sequence[GenerationRequest],
        context_length: int | None,
        *,
        ragged: bool,
    ) -> None:
        device = model.device
        self._model = model
        self._ragged = ragged
        prompts = [request.prompt_token_ids for request in requests]
        unique = {prompt: i for i, prompt in enumerate(dict.fromkeys(prompts))} if ragged else None
        self._unique = list(unique) if unique is not None else prompts
        index = [unique[p] for p in prompts] if unique is not None else list(range(len(prompts)))
        self._source = torch.tensor(index, device=device)
        self._cache: Any = RaggedCache(model.n_layers) if ragged else DynamicCache(config=model.config)
        room = context_length or 2**62
        self._limits = np.array([min(r.max_tokens, room - len(r.prompt_token_ids)) for r in requests])
        self._uniforms = UniformStreams([request.seed for request in requests])
        self._temperature = torch.tensor([r.temperature for r in requests], dtype=torch.float64, device=device)
        self._top_p = torch.tensor([r.top_p for r in requests], dtype=torch.float64, device=device)
        width = max(1, *(len(r.stop_token_ids) for r in requests))
        self._stops = torch.full((len(requests), width), -1, device=device)
        for row, request in enumerate(requests):
            for column, token in enumerate(request.stop_token_ids):
                self._stops[row, column] = token
        self._lengths = torch.tensor([len(p) for p in prompts], device=device)
        self._tokens: list[list[int]] = [[] for _ in requests]
        self._finish: list[DecodedRow | None] = [None] * len(requests)

    @torch.inference_mode()
    def run(self) -> list[DecodedRow]:
        """One DecodedRow per request, in order."""
        logits = self._read_prompts()
        rows = np.arange(len(self._tokens))  # batch row -> request
        alive = self._limits[rows] > 0
        for row in rows[~alive]:
            self._end(row, FinishReason.LENGTH)
        step = 0
        while alive.any():
            tokens = self._sample(logits, rows)
            alive &= self._record(logits, tokens, rows, alive, step)
            step += 1
            n_alive = int(alive.sum())
            if n_alive == 0:
                break
            if self._ragged and n_alive <= _COMPACT_BELOW * len(rows):
                keep = torch.from_numpy(np.flatnonzero(alive)).to(self._model.device)
                rows, alive, tokens = rows[alive], alive[alive], tokens[keep]
                self._cache.remap(keep, self._cache.slots)
            logits = self._advance(tokens, rows, step)
        return [row for row in self._finish if row is not None]

    def _read_prompts(self) -> torch.Tensor:
        """Logits after each request's prompt; fills the cache."""
        ids, lengths = pad_prompts(self._unique, self._model.device)
        at = torch.arange(len(self._unique), device=self._model.device)
        logits = self._model.prompt_logits(ids, at, lengths - 1, self._cache)
        if self._ragged:
            self._cache.remap(self._source, self._slots_for(int(lengths.max()) + 1))
        return logits[self._source.to(logits.device)]

    def _sample(self, logits: torch.Tensor, rows: np.ndarray) -> torch.Tensor:
        at = torch.from_numpy(rows).to(self._model.device)
        uniforms = torch.from_numpy(self._uniforms.next(rows)).to(self._model.device)
        return pick_tokens(logits.to(uniforms.device), self._temperature[at], self._top_p[at], uniforms)

    def _record(
        self, logits: torch.Tensor, tokens: torch.Tensor, rows: np.ndarray, alive: np.ndarray, step: int
    ) -> np.ndarray:
        """Note this step's tokens; returns which batch rows go on."""
        at = torch.from_numpy(rows).to(self._model.device)
        stopped = (tokens[:, None] == self._stops[at]).any(-1)
        finite = torch.isfinite(logits).all(-1).to(tokens.device)
        drawn, stop, good = tokens.tolist(), stopped.tolist(), finite.tolist()
        full = step + 1 >= self._limits[rows]
        goes_on = alive.copy()
        for i in np.flatnonzero(alive):
            row = rows[i]
            if not good[i]:
                self._end(row, FinishReason.ERROR, "the model's logits are not finite")
            elif stop[i]:
                self._end(row, FinishReason.STOP)
            else:
                self._tokens[row].append(drawn[i])
                if full[i]:
                    self._end(row, FinishReason.LENGTH)
            goes_on[i] = self._finish[row] is None
        return goes_on

    def _advance(self, tokens: torch.Tensor, rows: np.ndarray, step: int) -> torch.Tensor:
        """Feed this step's tokens; returns the next logits."""
        at = torch.from_numpy(rows).to(self._model.device)
        positions = self._lengths[at] + (step - 1)
        if not self._ragged:
            return self._model.step_logits(tokens, positions, None, self._cache)
        longest = int(positions.max()) + 1
        if longest > self._cache.slots:
            self._cache.remap(torch.arange(len(rows), device=self._model.device), self._slots_for(longest))
        visible = min(self._cache.slots, -(-longest // _VISIBLE_STEP) * _VISIBLE_STEP)
        self._cache.place(positions, visible)
        return self._model.step_logits(tokens, positions, self._masks(positions, visible), self._cache)

    def _masks(self, positions: torch.Tensor, visible: int) -> Any:
        """The mask that the model's layers expect: one, or one per kind of layer."""
        config, dtype = self._model.config, self._model.dtype
        window = getattr(config, "sliding_window", None)
        kinds = set(getattr(config, "layer_types", None) or ())
        if "sliding_attention" not in kinds:
            only = window if not kinds and getattr(config, "use_sliding_window", True) else None
            return decode_mask(positions, visible, only, dtype)
        return {
            "full_attention": decode_mask(positions, visible, None, dtype),
            "sliding_attention": decode_mask(positions, visible, window, dtype),
        }

    def _slots_for(self, n: int) -> int:
        return -(-n // _GROWTH) * _GROWTH

    def _end(self, row: int, reason: FinishReason, error: str | None = None) -> None:
        tokens = () if error is not None else tuple(self._tokens[row])
        self._finish[row] = DecodedRow(tokens, reason, error)


def pad_prompts(prompts: Sequence[Sequence[int]], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Right-padded ids [n, longest] (pad id 0: never attended) and lengths [n]."""
    lengths = [len(prompt) for prompt in prompts]
    ids = np.zeros((len(prompts), max(lengths)), dtype=np.int64)
    for row, prompt in enumerate(prompts):
        ids[row, : len(prompt)] = prompt
    return torch.from_numpy(ids).to(device), torch.tensor(lengths, device=device)


@torch.inference_mode()
def probe_ragged(model: LogitsModel) -> bool:
    """Whether ragged decoding reproduces plain forward passes on this model.

    Decided by behaviour, because a model class does not say whether its cache can hold rows of different lengths
    (recurrent states, chunked attention and position schemes without position ids cannot).
    """
    kinds = set(getattr(model.config, "layer_types", None) or ())
    if kinds - {"full_attention", "sliding_attention"}:
        return False
    prompts = [tuple(1 + (7 * i) % (model.vocab_size - 1) for i in range(n)) for n in (3, 9)]
    requests = [GenerationRequest(i, p, 0, 3, temperature=0.0) for i, p in enumerate(prompts)]
    before = model.calls
    try:
        decoder = Decoder(model, requests, None, ragged=True)
        first = decoder._read_prompts().float()
        tokens = torch.tensor([2 % model.vocab_size, 1], device=model.device)
        second = decoder._advance(tokens, np.arange(2), 1).float()
        for row, prompt in enumerate(prompts):
            ids = torch.tensor([[*prompt, int(tokens[row])]], device=model.device)
            at = torch.tensor([len(prompt) - 1, len(prompt)], device=model.device)
            plain = model.prompt_logits(ids, torch.zeros_like(at), at).float()
            scale = float(plain.abs().max()) + 1.0
            tolerance = (1e-3 if model.dtype == torch.float32 else 5e-2) * scale
            if not torch.allclose(torch.stack([first[row], second[row]]), plain, rtol=0.0, atol=tolerance):
                return False
    except (TypeError, ValueError, RuntimeError, AttributeError, IndexError, KeyError):
        return False
    finally:
        model.calls = before
    return True
