"""Decode one chunk of requests to the end.

Equal prompts are read once and their cache rows are copied, because the attempts of a task share the prompt, and
reading prompts is most of the work for short completions.

Shapes are chosen so that a row's numbers do not depend on its neighbours on CPU (measured, one thread, dense
models): a prompt is padded to a length that depends on itself alone, since attention kernels block by length;
the slots attended in a step are a multiple of 16, the vector width; and no matrix has fewer than 8 rows, since
smaller ones take another kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import torch

from foreshock.jobs.engines.base import NOT_FINITE, FinishReason, GenerationRequest
from foreshock.jobs.engines.exhausted import is_exhaustion
from foreshock.jobs.engines.forward import MIN_ROWS, LogitsModel
from foreshock.jobs.engines.model_classes import DynamicCache
from foreshock.jobs.engines.ragged_cache import RaggedCache, decode_mask
from foreshock.jobs.engines.rope import LONGROPE, recomputes_at_switch
from foreshock.jobs.engines.sampling import UniformStreams, pick_tokens
from foreshock.jobs.engines.stopping import looks_back
from foreshock.jobs.model_files.fingerprint import CheckpointError

_SLOT_STEP = 16
_AHEAD = 256  # slots made at the start for tokens to come; more are added by half when they run out
_COMPACT_BELOW = 0.75


@dataclass(frozen=True, slots=True)
class DecodedRow:
    """The tokens of one request, without the stop token."""

    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    error: str | None = None


class Decoder:
    """Decodes one chunk. `ragged` False needs prompts of one length and uses the model's own cache. `ends_here` tells
    whether a row's last token ended it, stop tokens apart."""

    def __init__(
        self,
        model: LogitsModel,
        requests: Sequence[GenerationRequest],
        context_length: int | None,
        *,
        ragged: bool,
        ends_here: Callable[[GenerationRequest, Sequence[int]], bool] = lambda request, token_ids: False,
    ) -> None:
        device = model.device
        self._model = model
        self._ragged = ragged
        self._requests = requests
        self._ends_here = ends_here
        prompts = [request.prompt_token_ids for request in requests]
        longest = max(model.padded(len(p)) for p in prompts)
        ahead = max(request.max_tokens for request in requests)
        self._n_rows = max(len(prompts), MIN_ROWS) if ragged else len(prompts)
        self._cache: Any = (
            RaggedCache(model.n_layers, self._n_rows, _round_up(longest + min(ahead, _AHEAD)), device)
            if ragged
            else DynamicCache(config=model.config)
        )
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
        logits = self.read_prompts()
        rows = np.arange(self._n_rows)  # batch row -> request; rows beyond the requests only fill the batch
        rows[len(self._requests) :] = 0
        alive = self._limits[rows] > 0
        alive[len(self._requests) :] = False
        for row in np.flatnonzero(self._limits <= 0):
            self._end(int(row), FinishReason.LENGTH)
        step = 0
        while alive.any():
            tokens = self._sample(logits, rows)
            alive &= self._record(logits, tokens, rows, alive, step)
            step += 1
            if not alive.any():
                break
            if self._ragged:
                keep = _survivors(alive)
                if len(keep) < len(rows):
                    index = torch.from_numpy(keep).to(self._model.device)
                    rows, alive, tokens = rows[keep], alive[keep], tokens[index]
                    self._cache.remap(index, self._cache.slots)
            logits = self.advance(tokens, rows, step)
        return [row for row in self._finish if row is not None]

    def read_prompts(self) -> torch.Tensor:
        """Logits [batch rows, vocab] after each row's prompt; fills the cache. One pass per padded length."""
        device = self._model.device
        prompts = [r.prompt_token_ids for r in self._requests]
        prompts += prompts[:1] * (self._n_rows - len(prompts))
        if not self._ragged:
            ids, lengths = pad_prompts(prompts, len(prompts[0]), device)
            at = torch.arange(len(prompts), device=device)
            return self._model.prompt_logits(ids, at, lengths - 1, self._cache)
        by_length: dict[int, dict[tuple[int, ...], list[int]]] = {}
        for row, prompt in enumerate(prompts):
            width = self._model.padded(len(prompt))
            by_length.setdefault(width, {}).setdefault(prompt, []).append(row)
        logits: torch.Tensor | None = None
        for width, group in sorted(by_length.items()):
            ids, lengths = pad_prompts(list(group), width, device)
            targets = torch.tensor([row for rows in group.values() for row in rows], device=device)
            origins = torch.tensor([i for i, rows in enumerate(group.values()) for _ in rows], device=device)
            self._cache.fill(targets, origins)
            at = torch.arange(len(group), device=device)
            part = self._model.prompt_logits(ids, at, lengths - 1, self._cache)
            if logits is None:
                logits = part.new_empty((len(prompts), part.shape[-1]))
            logits[targets.to(part.device)] = part[origins.to(part.device)]
        assert logits is not None
        return logits

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
        finite = torch.isfinite(logits.amax(-1)).to(tokens.device)  # -inf alone is a token ruled out by the model
        drawn, stop, good = tokens.tolist(), stopped.tolist(), finite.tolist()
        full = step + 1 >= self._limits[rows]
        goes_on = alive.copy()
        for i in np.flatnonzero(alive):
            row = rows[i]
            if not good[i]:
                self._end(row, FinishReason.ERROR, NOT_FINITE)
            elif stop[i]:
                self._end(row, FinishReason.STOP)
            else:
                self._tokens[row].append(drawn[i])
                request = self._requests[row]
                if looks_back(request) and self._ends_here(request, self._tokens[row]):
                    self._end(row, FinishReason.STOP)
                elif full[i]:
                    self._end(row, FinishReason.LENGTH)
            goes_on[i] = self._finish[row] is None
        return goes_on

    def advance(self, tokens: torch.Tensor, rows: np.ndarray, step: int) -> torch.Tensor:
        """Feed this step's tokens; returns the next logits."""
        at = torch.from_numpy(rows).to(self._model.device)
        positions = self._lengths[at] + (step - 1)
        if not self._ragged:
            if self._must_read_anew(int(positions[0])):
                return self._read_anew(tokens)
            return self._model.step_logits(tokens, positions, None, self._cache)
        longest = int(positions.max()) + 1
        if longest > self._cache.slots:
            more = _round_up(max(longest, self._cache.slots * 3 // 2))
            self._cache.remap(torch.arange(len(rows), device=self._model.device), more)
        visible = _round_up(longest)
        self._cache.place(positions, visible)
        return self._model.step_logits(tokens, positions, self._masks(positions, visible), self._cache)

    def _must_read_anew(self, position: int) -> bool:
        """Whether this step is the first beyond a switch of rotary frequencies that the model reads anew."""
        switch = self._model.switch
        passes = switch is not None and switch.kind == LONGROPE and position == switch.at
        return passes and recomputes_at_switch(self._model.model)

    def _read_anew(self, tokens: torch.Tensor) -> torch.Tensor:
        """Everything so far once more, into a new cache, under the frequencies that hold from here on."""
        step = len(max(self._tokens, key=len))
        rows = [  # what a row that has ended would have said is read by nobody
            (*request.prompt_token_ids, *own, *[0] * (step - len(own)))
            for request, own in zip(self._requests, self._tokens, strict=True)
        ]
        ids, lengths = pad_prompts(rows, len(rows[0]), self._model.device)
        self._cache = DynamicCache(config=self._model.config)
        return self._model.prompt_logits(ids, torch.arange(len(rows), device=ids.device), lengths - 1, self._cache)

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

    def _end(self, row: int, reason: FinishReason, error: str | None = None) -> None:
        tokens = () if error is not None else tuple(self._tokens[row])
        self._finish[row] = DecodedRow(tokens, reason, error)


def pad_prompts(
    prompts: Sequence[Sequence[int]], width: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids [n, width], padded on the right with 0 (never attended), and lengths [n]."""
    ids = np.zeros((len(prompts), width), dtype=np.int64)
    for row, prompt in enumerate(prompts):
        ids[row, : len(prompt)] = prompt
    return torch.from_numpy(ids).to(device), torch.tensor([len(p) for p in prompts], device=device)


def _round_up(n: int) -> int:
    return -(-n // _SLOT_STEP) * _SLOT_STEP


def _survivors(alive: np.ndarray) -> np.ndarray:
    """Batch rows to keep: all, until a quarter is done (copying the cache at every finish costs more)."""
    n = max(int(alive.sum()), MIN_ROWS)
    if n > _COMPACT_BELOW * len(alive):
        return np.arange(len(alive))
    dead = np.flatnonzero(~alive)[: n - int(alive.sum())]
    return np.concatenate([np.flatnonzero(alive), dead])


@torch.inference_mode()
def require_finite(model: LogitsModel, path: Path) -> None:
    """Raise CheckpointError if the model's logits after a short prompt are NaN or infinite, or the same for all tokens:
    every row's would be."""
    before = model.calls
    ids = torch.tensor([[1 + 7 * i % max(1, model.vocab_size - 1) for i in range(8)]], device=model.device)
    at = torch.arange(8, device=model.device)
    try:
        logits = model.prompt_logits(ids.clamp_(max=model.vocab_size - 1), torch.zeros_like(at), at)
        most, least = logits.float().amax(-1), logits.float().amin(-1)
    finally:
        model.calls = before
    if not bool(torch.isfinite(most).all()):
        raise CheckpointError(
            f"{path}: {NOT_FINITE} after any prompt (NaN or infinity): training has diverged, or the weights overflow "
            f"in {str(model.dtype).removeprefix('torch.')}; try engine.dtype: float32"
        )
    if model.vocab_size > 1 and bool((most == least).all()):
        raise CheckpointError(
            "the model gives every token the same logit after any prompt, as one whose weights were never filled",
            path=path,
            fix="save the checkpoint again; sharded trainers must gather the weights before they save",
        )


class DecodeMode(StrEnum):
    """Which prompts may share a batch: of any lengths, or of one length only."""

    RAGGED = "ragged"
    UNIFORM = "uniform"


def choose_mode(model: LogitsModel) -> DecodeMode:
    """The first mode whose steps reproduce plain forward passes on this model.

    Decided by behaviour, because a model class does not say whether its cache can hold rows of different lengths
    (recurrent states, chunked attention and position schemes without position ids cannot). Raises
    CheckpointError when no mode does.
    """
    kinds = set(getattr(model.config, "layer_types", None) or ())
    simple = not kinds - {"full_attention", "sliding_attention"}
    if simple and _steps_differ(model, (3, 9), ragged=True) is None:
        return DecodeMode.RAGGED
    problem = _steps_differ(model, (9, 9), ragged=False)
    if problem is None:
        return DecodeMode.UNIFORM
    raise CheckpointError(
        f"the transformers engine cannot decode {type(model.model).__name__} step by step: {problem}; use another "
        "engine for this model"
    )


@torch.inference_mode()
def _steps_differ(model: LogitsModel, lengths: Sequence[int], *, ragged: bool) -> str | None:
    """Why the logits after prompts of `lengths` and after two more tokens are not those of uncached passes; None if
    they are. An error that says that a model cannot take such a cache is an answer; one of the machine is raised."""
    prompts = [tuple(1 + (7 * i + k) % (model.vocab_size - 1) for i in range(n)) for k, n in enumerate(lengths)]
    requests = [GenerationRequest(i, p, 0, 3, temperature=0.0) for i, p in enumerate(prompts)]
    before = model.calls
    try:
        decoder = Decoder(model, requests, None, ragged=ragged)
        steps = [decoder.read_prompts()]
        rows = np.arange(len(steps[0]))
        rows[len(prompts) :] = 0
        forced = (2 % model.vocab_size, 1)
        for step, token in enumerate(forced, start=1):
            tokens = torch.full((len(rows),), token, dtype=torch.long, device=model.device)
            steps.append(decoder.advance(tokens, rows, step))
        cached = torch.stack(steps, dim=1).float()
        for row, prompt in enumerate(prompts):
            ids = torch.tensor([[*prompt, *forced]], device=model.device)
            at = torch.arange(len(prompt) - 1, len(prompt) + 2, device=model.device)
            plain = model.prompt_logits(ids, torch.zeros_like(at), at).float()
            tolerance = (1e-3 if model.dtype == torch.float32 else 5e-2) * (float(plain.abs().max()) + 1.0)
            if not bool(torch.isfinite(plain.amax(-1)).all()):
                return None  # told by `require_finite`
            if not torch.allclose(cached[row], plain, rtol=0.0, atol=tolerance):
                return "cached steps differ from plain forward passes"
    except (TypeError, ValueError, RuntimeError, AttributeError, IndexError, KeyError) as error:
        if is_exhaustion(error):
            raise
        return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    finally:
        model.calls = before
    return None
