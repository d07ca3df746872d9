"""The transformers engine: batched generation and scoring in process, on CPU or GPU.

Its own decode loop instead of `generate()`. Rows keep their own positions in a ragged cache, equal prompts (attempts
of one task) are read once, finished rows are dropped, and each row samples from its own seed. A row's numbers then
depend on its chunk at most, and chunks depend on the requests alone (`batching`), so a resumed run repeats an
uninterrupted one bit for bit on CPU. Where rows are measured not to depend on their chunk either (`invariance`),
requests of different batch keys share chunks.
"""

from __future__ import annotations

import gc
import logging
import math
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any
from weakref import ReferenceType

import torch

from foreshock.errors import InputError
from foreshock.jobs.closing import Closing
from foreshock.jobs.engines.base import (
    NOT_FINITE,
    GenerationRequest,
    GenerationResult,
    PromptLogprobs,
    ScoreRequest,
    Stop,
    never,
)
from foreshock.jobs.engines.batching import generation_chunks, length_sorted_chunks
from foreshock.jobs.engines.causality import require_causal
from foreshock.jobs.engines.cpu_memory import keep_freed_memory
from foreshock.jobs.engines.decoding import DecodeMode, Decoder, choose_mode, pad_prompts, require_finite
from foreshock.jobs.engines.forward import LogitsModel
from foreshock.jobs.engines.invariance import rows_are_independent
from foreshock.jobs.engines.odd_numbers import odd_numbers
from foreshock.jobs.engines.request_checks import (
    ModelLimits,
    failed_generation,
    failed_score,
    require_scoring_temperature,
)
from foreshock.jobs.engines.stopping import ends_here, finished
from foreshock.jobs.engines.weights import (
    build_model,
    is_swappable,
    read_model_config,
    same_architecture,
    swap_weights,
)
from foreshock.jobs.prompts.tokenizer import decode, load_tokenizer
from foreshock.jobs.records.spec import Checkpoint

_log = logging.getLogger(__name__)
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class TransformersEngine(Closing):
    """Implements `Engine`.

    device: auto (first GPU, else CPU), cpu, cuda, cuda:N. dtype: auto (float32 on CPU; the checkpoint's own on GPU),
    float32, bfloat16, float16. batch_size: rows of a chunk. max_batch_tokens: rows x (prompt + max_tokens) of a
    chunk, which bounds the cache; it also bounds a scoring batch. max_logits: rows x vocabulary held at once when
    scoring. threads: torch's intra-op threads; None leaves the process's setting.

    Counters for tests and reports: forward_count (model calls), scored_sequences, generated_tokens, builds, swaps.
    """

    name = "transformers"

    def __init__(
        self,
        device: str = "auto",
        dtype: str = "auto",
        batch_size: int = 512,
        max_batch_tokens: int = 2**18,
        max_logits: int = 2**27,
        threads: int | None = None,
    ) -> None:
        if dtype != "auto" and dtype not in _DTYPES:
            raise InputError(f"unknown dtype {dtype!r}; valid: auto, {', '.join(_DTYPES)}")
        for option, value in (
            ("batch_size", batch_size),
            ("max_batch_tokens", max_batch_tokens),
            ("max_logits", max_logits),
        ):
            if value < 1:
                raise InputError(f"{option} is {value}; it must be at least 1")
        self.device = _device(device)
        if self.device.type == "cpu":
            keep_freed_memory()
        self._dtype_name = dtype
        self.batch_size = batch_size
        self.max_batch_tokens = max_batch_tokens
        self.max_logits = max_logits
        if threads is not None:
            torch.set_num_threads(threads)
        self.scored_sequences = self.generated_tokens = self.builds = self.swaps = 0
        self._forwards_of_closed = 0
        self._model: LogitsModel | None = None
        self._config: Any = None
        self._tokenizer: Any = None
        self._mode = DecodeMode.RAGGED
        self._independent = False
        self._swappable = False
        self._path: Path | None = None
        self._adopted: ReferenceType[Any] | None = None
        """The model that mode and independence of rows were found out of, where it was adopted and not loaded."""
        self.notes: list[str] = []
        """What is worth knowing of the weights now loaded."""

    @property
    def forward_count(self) -> int:
        """Calls of the model's forward pass since the engine was made."""
        return self._forwards_of_closed + (self._model.calls if self._model else 0)

    @property
    def decode_mode(self) -> DecodeMode:
        """`ragged` (prompts of any lengths in one batch) or `uniform` (equal lengths only, for other caches)."""
        return self._mode

    @property
    def batch_rows(self) -> int | None:
        """Rows of the batches that resume must rebuild; None where a row is known not to depend on its batch."""
        return None if self._independent else self.batch_size

    # -- loading

    def load(self, checkpoint: Checkpoint) -> None:
        """Serve `checkpoint`: weights are swapped in place when the architecture is the one already loaded."""
        old, old_config = self._model, self._config
        self._release()  # whatever fails below must not leave another checkpoint's model in service
        config = read_model_config(checkpoint.path)
        dtype = self.dtype_of(config)
        swapped = False
        if old is not None and self._swappable and old.dtype == dtype and same_architecture(old_config, config):
            swapped = swap_weights(old.model, checkpoint.path)
        if swapped and old is not None:
            self._model = LogitsModel(old.model, self.device)
            self.swaps += 1
        else:
            old = None  # freed before the next model is built
            built = build_model(checkpoint.path, config, dtype, self.device)
            self._swappable = is_swappable(built, checkpoint.path)
            self._model = LogitsModel(built, self.device)
            self._adopted = None
            self._prepare(self._model)
            self.builds += 1
        try:
            require_finite(self._model, checkpoint.path)
            self.notes = odd_numbers(self._model.model)
            self._tokenizer = load_tokenizer(checkpoint.tokenizer_path)
        except BaseException:
            self._release()
            raise
        self._config, self._path = config, checkpoint.path
        for note in self.notes:
            _log.warning("%s: %s", checkpoint.path, note)

    def adopt(self, model: Any, checkpoint: Checkpoint) -> None:
        """Serve a model that is in memory, as one in training, on this engine's device, with the checkpoint's tokenizer
        until `close`, which leaves the model to its owner."""
        self._release()
        self._swappable, served = False, LogitsModel(model, self.device)
        try:
            if self._adopted is None or self._adopted() is not model:
                self._prepare(served)
                self._adopted = ReferenceType(model)
            require_finite(served, checkpoint.path)
            self._tokenizer = load_tokenizer(checkpoint.tokenizer_path)
        except BaseException:
            served.detach()
            raise
        self._model, self._config, self._path, self.notes = served, model.config, checkpoint.path, []

    def close(self) -> None:
        """Free the model and the GPU memory it held."""
        self._release()
        self._tokenizer = self._config = None
        if self.device.type == "cuda":  # on a CPU, what is no longer referred to is free already
            gc.collect()
            torch.cuda.empty_cache()

    # -- generation

    def generate(self, requests: Sequence[GenerationRequest], stop: Stop = never) -> Iterator[GenerationResult]:
        """Every request once, chunk by chunk. A request that cannot run comes back with `error`."""
        model = self._loaded()
        runnable = []
        for request in requests:
            problem = self._limits(model).refuse_generation(request)
            if problem is None:
                runnable.append(request)
            else:
                yield failed_generation(request, problem)
        for mode, group in self._by_regime(model, runnable):
            uniform = mode is DecodeMode.UNIFORM
            chunks = generation_chunks(group, self.batch_size, self.max_batch_tokens, by_exact_length=uniform)
            for chunk in chunks:
                if stop():
                    return
                yield from self._generate_chunk(model, chunk, mode)

    def _by_regime(
        self, model: LogitsModel, requests: list[GenerationRequest]
    ) -> Iterator[tuple[DecodeMode, list[GenerationRequest]]]:
        """Requests that may share batches: those whose rotary frequencies change on the way only with their like."""
        switch = model.switch
        if switch is None:
            yield self._mode, requests
            return
        groups: dict[tuple[DecodeMode, int], list[GenerationRequest]] = {}
        for request in requests:
            n = len(request.prompt_token_ids)
            most = min(n + request.max_tokens, model.context_length or 2**62)
            crosses = switch.crosses(n, most)
            mode = DecodeMode.UNIFORM if crosses else self._mode
            groups.setdefault((mode, 2 if crosses else switch.group(n)), []).append(request)
        for (mode, _), group in groups.items():
            yield mode, group

    def _generate_chunk(
        self, model: LogitsModel, chunk: list[GenerationRequest], mode: DecodeMode
    ) -> Iterator[GenerationResult]:
        """Decode one chunk; on CUDA out-of-memory, its halves."""
        try:
            ragged = mode is DecodeMode.RAGGED
            rows = Decoder(model, chunk, model.context_length, ragged=ragged, ends_here=self._ends_here).run()
        except torch.cuda.OutOfMemoryError as error:
            if len(chunk) == 1:
                yield failed_generation(chunk[0], f"out of GPU memory with a single row: {str(error).splitlines()[0]}")
                return
            rows = None
        if rows is None:  # outside the except block: its traceback would keep the tensors alive
            torch.cuda.empty_cache()
            half = len(chunk) // 2
            yield from self._generate_chunk(model, chunk[:half], mode)
            yield from self._generate_chunk(model, chunk[half:], mode)
            return
        for request, row in zip(chunk, rows, strict=True):
            self.generated_tokens += len(row.token_ids)
            if row.error is not None:
                yield failed_generation(request, row.error)
            else:
                yield finished(request, self._decode, row.token_ids, row.finish_reason)

    def _ends_here(self, request: GenerationRequest, token_ids: Sequence[int]) -> bool:
        return ends_here(self._decode, request, token_ids)

    def _decode(self, token_ids: tuple[int, ...]) -> str:
        return decode(self._tokenizer, token_ids)

    # -- scoring

    def score(self, requests: Sequence[ScoreRequest], temperature: float) -> Iterator[PromptLogprobs]:
        """log softmax(logits / temperature) of each prefill token, in float64 from the model's logits."""
        require_scoring_temperature(temperature)
        model = self._loaded()
        runnable = []
        for request in requests:
            problem = self._limits(model).refuse_scoring(request)
            if problem is None:
                runnable.append(request)
            else:
                yield failed_score(request, problem)
        by_group: dict[int, list[ScoreRequest]] = {}
        for request in runnable:
            by_group.setdefault(model.switch.group(len(request.token_ids)) if model.switch else 0, []).append(request)
        for group in by_group.values():
            chunks = length_sorted_chunks(group, lambda r: len(r.token_ids), self.batch_size, self.max_batch_tokens)
            for chunk in chunks:
                for part in _split_by_prefill(chunk, max(1, self.max_logits // model.vocab_size)):
                    yield from self._score_chunk(model, part, temperature)

    def covers(self, n_tokens: int, longer: int) -> bool:
        """Whether a prompt of `n_tokens` scores alike alone and as the beginning of one of `longer` tokens."""
        switch = self._loaded().switch
        return switch is None or switch.covers(n_tokens, longer)

    def _score_chunk(
        self, model: LogitsModel, chunk: list[ScoreRequest], temperature: float
    ) -> Iterator[PromptLogprobs]:
        """Score one chunk in one forward pass; on CUDA out-of-memory, its halves."""
        try:
            values: list[list[float]] | None = _score(model, chunk, temperature)
        except torch.cuda.OutOfMemoryError as error:
            if len(chunk) == 1:
                yield failed_score(chunk[0], f"out of GPU memory with a single row: {str(error).splitlines()[0]}")
                return
            values = None
        if values is None:
            torch.cuda.empty_cache()
            half = len(chunk) // 2
            yield from self._score_chunk(model, chunk[:half], temperature)
            yield from self._score_chunk(model, chunk[half:], temperature)
            return
        self.scored_sequences += len(chunk)
        for request, logprobs in zip(chunk, values, strict=True):
            ids, start = request.token_ids, request.prefill_start
            if all(math.isfinite(value) for value in logprobs):
                yield PromptLogprobs(request.request_id, ids, tuple(logprobs), start)
            else:
                yield PromptLogprobs(request.request_id, ids, (), start, NOT_FINITE)

    # -- helpers

    def _prepare(self, model: LogitsModel) -> None:
        """Find out how this architecture can be batched; a model that cannot be decoded is not kept."""
        try:
            require_causal(model)
            self._mode = choose_mode(model)
        except ValueError:
            self._release()
            raise
        self._independent = self._mode is DecodeMode.RAGGED and rows_are_independent(model)

    def _loaded(self) -> LogitsModel:
        if self._model is None:
            raise RuntimeError("no checkpoint is loaded; call load(checkpoint) first")
        return self._model

    def _release(self) -> None:
        if self._model is not None:
            self._forwards_of_closed += self._model.calls
            self._model.detach()
        self._model = None

    def dtype_of(self, config: Any) -> torch.dtype:
        """The type that a model of this configuration is loaded in."""
        if self._dtype_name != "auto":
            return _DTYPES[self._dtype_name]
        own = getattr(config, "dtype", None)
        if self.device.type == "cpu" or not isinstance(own, torch.dtype):
            return torch.float32
        return own

    @staticmethod
    def _limits(model: LogitsModel) -> ModelLimits:
        return ModelLimits(model.vocab_size, model.context_length)


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"unknown device {name!r}; valid: auto, cpu, cuda, cuda:N") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"device {name!r} asked for, but torch sees no GPU here; valid: auto, cpu")
    return device


def _split_by_prefill(chunk: list[ScoreRequest], max_positions: int) -> Iterator[list[ScoreRequest]]:
    """Cut a chunk so that the scored positions of a part stay within `max_positions` (or one row)."""
    part: list[ScoreRequest] = []
    total = 0
    for request in chunk:
        n = len(request.token_ids) - request.prefill_start
        if part and total + n > max_positions:
            yield part
            part, total = [], 0
        part.append(request)
        total += n
    if part:
        yield part


@torch.inference_mode()
def _score(model: LogitsModel, chunk: list[ScoreRequest], temperature: float) -> list[list[float]]:
    """Logits at the needed positions only: position i-1 predicts token i. Right padding is never attended."""
    width = model.padded(max(len(request.token_ids) for request in chunk))
    ids, _ = pad_prompts([request.token_ids for request in chunk], width, model.device)
    rows: list[int] = []
    columns: list[int] = []
    counts: list[int] = []
    for row, request in enumerate(chunk):
        n = len(request.token_ids) - request.prefill_start
        rows += [row] * n
        columns += range(request.prefill_start - 1, len(request.token_ids) - 1)
        counts.append(n)
    at_row = torch.tensor(rows, device=model.device)
    at_column = torch.tensor(columns, device=model.device)
    logits = model.prompt_logits(ids, at_row, at_column)
    targets = ids[at_row, at_column + 1]
    picked = []
    for start in range(0, len(targets), step := max(1, 2**24 // model.vocab_size)):  # float64 in slices
        block = logits[start : start + step].double() / temperature
        chosen = block.gather(-1, targets[start : start + step, None].to(block.device)).squeeze(-1)
        picked.append(chosen - block.logsumexp(-1))
    values: list[float] = torch.cat(picked).tolist()
    ends = list(accumulate(counts))
    return [values[end - n : end] for n, end in zip(counts, ends, strict=True)]
