"""The vLLM engine: continuous batching in process, one start for many checkpoints.

The step loop is ours. All levels and attempts of a checkpoint are one stream of requests, sorted so that nested
prefills follow each other through the prefix cache; a bounded window of them lies in vLLM's queue, results go out as
they finish, and between two micro-batches the engine can be stopped. A core that dies takes only the requests in
flight with it: they come back as errors, and the rest goes on in a new core.
"""

from __future__ import annotations

import itertools
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from foreshock.errors import ForeshockError
from foreshock.jobs.closing import Closing
from foreshock.jobs.engines.base import (
    NOT_FINITE,
    FinishReason,
    GenerationRequest,
    GenerationResult,
    PromptLogprobs,
    ScoreRequest,
    Stop,
    never,
)
from foreshock.jobs.engines.request_checks import failed_generation, failed_score, require_scoring_temperature
from foreshock.jobs.engines.stopping import ends_here, finished, looks_back
from foreshock.jobs.engines.vllm.alike import require_alike
from foreshock.jobs.engines.vllm.core import Core, CoreDiedError, CoreRequest, CoreResult, StartCore, start_core
from foreshock.jobs.engines.vllm.death import stopped_soon
from foreshock.jobs.engines.vllm.identity import Identity, WrongModelError, divide_logits, mislabelled
from foreshock.jobs.engines.vllm.options import VllmOptions, lora_rank_for
from foreshock.jobs.model_files.adapters import Adapter, is_adapter, read_adapter
from foreshock.jobs.model_files.fingerprint import model_fingerprint, read_config
from foreshock.jobs.prompts.tokenizer import decode, load_tokenizer
from foreshock.jobs.records.spec import Checkpoint

_CONFIG_KEYS_WITHOUT_EFFECT = ("_name_or_path", "transformers_version")
_LEAST_TEMPERATURE, _MOST_TEMPERATURE = 0.01, 2.0
"""vLLM draws at these; below it would silently raise the temperature, above it refuses."""

Request = TypeVar("Request", GenerationRequest, ScoreRequest)
Result = TypeVar("Result", GenerationResult, PromptLogprobs)


class VllmEngine(Closing):
    """Implements `Engine`; the options are `VllmOptions`'s.

    Counters for tests and reports: forward_count (micro-batches), scored_sequences, generated_tokens, builds (core
    starts), swaps (weights replaced in a running core, adapters included).
    """

    name = "vllm"
    start_core: StartCore = staticmethod(start_core)
    """How a core is started; tests put their own here."""

    def __init__(
        self,
        device: str = "auto",
        dtype: str = "auto",
        max_num_seqs: int = 256,
        gpu_memory_utilization: float = 0.9,
        tensor_parallel_size: int = 1,
        max_model_len: int | None = None,
        max_num_batched_tokens: int | None = None,
        quantization: str | None = None,
        kv_cache_dtype: str = "auto",
        kv_cache_memory_bytes: int | None = None,
        enable_prefix_caching: bool = True,
        enforce_eager: bool | None = None,
        batch_invariant: bool = False,
        threads: int | None = None,
        serve_adapters: bool = True,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        self.options = VllmOptions(
            device=device,
            dtype=dtype,
            max_num_seqs=max_num_seqs,
            gpu_memory_utilization=gpu_memory_utilization,
            tensor_parallel_size=tensor_parallel_size,
            max_model_len=max_model_len,
            max_num_batched_tokens=max_num_batched_tokens,
            quantization=quantization,
            kv_cache_dtype=kv_cache_dtype,
            kv_cache_memory_bytes=kv_cache_memory_bytes,
            enable_prefix_caching=enable_prefix_caching,
            enforce_eager=enforce_eager,
            batch_invariant=batch_invariant,
            threads=threads,
            serve_adapters=serve_adapters,
            extra=extra or {},
        )
        self.forward_count = self.scored_sequences = self.generated_tokens = self.builds = self.swaps = 0
        self._core: Core | None = None
        self._identity = Identity()
        self._base_config: dict[str, Any] = {}
        self._base: str | None = None  # fingerprint of the full model in the core
        self._lora_rank: int | None = None
        self._scores = False  # prompts have been scored, which a core that serves adapters cannot do
        self._checkpoint: Checkpoint | None = None
        self._fingerprint = ""
        self._tokenizer: Any = None
        self._scratch: tempfile.TemporaryDirectory[str] | None = None
        self._keys = itertools.count()

    @property
    def batch_rows(self) -> int | None:
        """None: rows are batched continuously."""
        return None

    def counters(self) -> dict[str, int]:
        """What the running core counts of its own work; see `Core.counters`."""
        return {} if self._core is None else self._core.counters()

    # -- loading

    def load(self, checkpoint: Checkpoint) -> None:
        """Serve `checkpoint`: its weights go into the running core where the architecture is the same."""
        self._checkpoint = None  # whatever fails below must not leave another checkpoint's model in service
        fingerprint = model_fingerprint(checkpoint.path)
        adapter = read_adapter(checkpoint.path) if is_adapter(checkpoint.path) else None
        self._tokenizer = load_tokenizer(checkpoint.tokenizer_path)
        require_alike(checkpoint.path if adapter is None else adapter.base, self.options.max_model_len)
        if adapter is not None and not self._can_serve(adapter):
            self._serve_merged(adapter, fingerprint)
        elif adapter is not None:
            rank = lora_rank_for(adapter.max_rank, self._lora_rank)
            self._serve_full(adapter.base, model_fingerprint(adapter.base), rank)
            self._serve_adapter(adapter, fingerprint)
        else:
            self._serve_full(checkpoint.path, fingerprint)
        if model_fingerprint(checkpoint.path) != fingerprint:
            raise WrongModelError(f"{checkpoint.path}: the files changed while they were loaded")
        self._running().label_weights(fingerprint)
        self._checkpoint, self._fingerprint = checkpoint, fingerprint

    def _serve_full(self, folder: Path, fingerprint: str, lora_rank: int | None = None) -> None:
        """Have the core serve a full model: leave it, swap its weights, or start it anew."""
        config = {k: v for k, v in read_config(folder / "config.json").items() if k not in _CONFIG_KEYS_WITHOUT_EFFECT}
        fits = config == self._base_config and (lora_rank is None or lora_rank == self._lora_rank)
        if self._core is not None and fits:
            try:
                self._core.serve_adapter(None)
                if self._base != fingerprint:
                    self._base = None
                    self._core.reload(folder)
                    self._identity.require_swapped(self._core, folder, fingerprint)
                    self.swaps += 1
            except ForeshockError:
                self._end_core()  # a fresh start settles it, and if that fails too its message is the one that helps
            else:
                self._base = fingerprint
                return
        self._end_core()
        core = self.start_core(self.options, folder, lora_rank)
        self._core, self._lora_rank, self._base_config = core, lora_rank, config
        self.builds += 1
        self._identity = Identity()
        self._identity.started(core, folder, fingerprint)
        self._base = fingerprint

    def _can_serve(self, adapter: Adapter) -> bool:
        """Whether vLLM applies the adapter exactly as peft does; otherwise it is merged. It knows no other embeddings
        or output layer than the base's, and its matching of rank patterns is its own."""
        return (
            self.options.serve_adapters
            and not self._scores
            and adapter.uniform
            and lora_rank_for(adapter.max_rank) is not None
        )

    def _serve_adapter(self, adapter: Adapter, fingerprint: str) -> None:
        core = self._running()
        try:
            core.serve_adapter(adapter)
        except CoreDiedError:
            raise
        except ForeshockError:  # vLLM does not apply adapters to all modules; folded in, it can be any
            self._serve_merged(adapter, fingerprint)
            return
        self._identity.require_probe(core, adapter.path, fingerprint)
        self.swaps += 1

    def _serve_merged(self, adapter: Adapter, fingerprint: str) -> None:
        """The base with the adapter folded in: other weights than base and adapter, as sums are rounded elsewhere."""
        from foreshock.jobs.engines.merging import write_merged

        previous, self._scratch = self._scratch, tempfile.TemporaryDirectory(prefix="foreshock-merged-")
        try:
            folder = write_merged(adapter, Path(self._scratch.name) / fingerprint[:16])
            self._serve_full(folder, f"{fingerprint} merged")
        finally:
            if previous is not None:
                previous.cleanup()

    def covers(self, n_tokens: int, longer: int) -> bool:
        """Always: vLLM takes one set of rotary frequencies for all rows."""
        return True

    def close(self) -> None:
        """End vLLM's processes."""
        self._checkpoint = self._tokenizer = None
        self._end_core()
        if self._scratch is not None:
            self._scratch.cleanup()
            self._scratch = None

    # -- generation

    def generate(self, requests: Sequence[GenerationRequest], stop: Stop = never) -> Iterator[GenerationResult]:
        """Every request once, as each finishes. One that cannot run comes back with `error`."""
        self._loaded()
        runnable = []
        for request in requests:
            problem = self._refuse(request)
            if problem is not None:
                yield failed_generation(request, problem)
            elif request.max_tokens == 0:
                yield GenerationResult(request.request_id, (), "", FinishReason.LENGTH)
            else:
                runnable.append(request)
        runnable.sort(key=lambda request: (request.prompt_token_ids, request.seed))
        yield from self._stream(runnable, self._to_core, self._generated, failed_generation, stop)

    def _refuse(self, request: GenerationRequest) -> str | None:
        problem = self._running().limits.refuse_generation(request)
        drawable = request.temperature == 0 or _LEAST_TEMPERATURE <= request.temperature <= _MOST_TEMPERATURE
        if problem is None and not drawable:
            valid = f"0, or {_LEAST_TEMPERATURE} to {_MOST_TEMPERATURE}"
            problem = f"vLLM does not draw at temperature {request.temperature}; valid: {valid}"
        return problem

    def _to_core(self, key: str, request: GenerationRequest) -> CoreRequest:
        room = (self._running().limits.context_length or math.inf) - len(request.prompt_token_ids)
        return CoreRequest(
            key,
            request.prompt_token_ids,
            max_tokens=int(min(request.max_tokens, room)),
            temperature=request.temperature,
            top_p=request.top_p,
            seed=request.seed,
            stop_token_ids=request.stop_token_ids,
            until=(lambda token_ids: ends_here(self._decode, request, token_ids)) if looks_back(request) else None,
        )

    def _decode(self, token_ids: tuple[int, ...]) -> str:
        return decode(self._tokenizer, token_ids)

    def _generated(self, request: GenerationRequest, result: CoreResult) -> GenerationResult:
        if not result.finite:
            return failed_generation(request, NOT_FINITE)
        tokens = result.token_ids
        if result.stopped and tokens and tokens[-1] in request.stop_token_ids:
            tokens = tokens[:-1]
        self.generated_tokens += len(tokens)
        reason = FinishReason.STOP if result.stopped else FinishReason.LENGTH
        return finished(request, self._decode, tokens, reason)

    # -- scoring

    def score(self, requests: Sequence[ScoreRequest], temperature: float) -> Iterator[PromptLogprobs]:
        """log softmax(logits / temperature) over the whole vocabulary; one request of vLLM each."""
        require_scoring_temperature(temperature)
        self._loaded()
        runnable = []
        for request in requests:
            limits = self._running().limits
            problem = limits.refuse_scoring(request)
            if problem is None and len(request.token_ids) == limits.context_length:
                problem = f"{len(request.token_ids)} tokens fill the context; vLLM scores at most one less"
            if problem is None:
                runnable.append(request)
            else:
                yield failed_score(request, problem)
        if not runnable:
            return

        def to_core(key: str, request: ScoreRequest) -> CoreRequest:
            return CoreRequest(key, request.token_ids, score=True)

        self._require_no_lora()
        divide_logits(self._running(), temperature)
        try:
            yield from self._stream(
                runnable, to_core, self._scored, failed_score, never, lambda core: divide_logits(core, temperature)
            )
        finally:
            if temperature != 1:
                self._undivide()

    def _require_no_lora(self) -> None:
        """Exchange a core that serves adapters, now and for good: vLLM lays an adapter over the output layer by the
        rows that it is about to sample, and with the logits of a whole prompt, adapter or not, it ends (0.32, CPU)."""
        self._scores = True
        if self._lora_rank is not None:
            self._restart()

    def _undivide(self) -> None:
        """Nothing may be drawn from divided logits: a core that does not take them back is ended."""
        try:
            self._running().call("foreshock_divide_logits", 1.0)
        except CoreDiedError:
            self._end_core()

    def _scored(self, request: ScoreRequest, result: CoreResult) -> PromptLogprobs:
        values = (result.prompt_logprobs or ())[request.prefill_start :]
        if len(values) != len(request.token_ids) - request.prefill_start or None in values:
            return failed_score(request, f"vLLM gave {len(values)} log-probabilities, some of them missing")
        known = tuple(value for value in values if value is not None)
        if not all(math.isfinite(value) for value in known):
            return failed_score(request, NOT_FINITE)
        self.scored_sequences += 1
        return PromptLogprobs(request.request_id, request.token_ids, known, request.prefill_start)

    # -- the step loop

    def _stream(
        self,
        requests: Sequence[Request],
        to_core: Callable[[str, Request], CoreRequest],
        finish: Callable[[Request, CoreResult], Result],
        fail: Callable[[Request, str], Result],
        stop: Stop,
        prepare: Callable[[Core], None] = lambda _: None,
    ) -> Iterator[Result]:
        """Keep a window of requests in the core until all are done; `prepare` a core that replaces a dead one."""
        waiting = iter(requests)
        flying: dict[str, Request] = {}
        progress = True
        try:
            while not stop():
                try:
                    for request in itertools.islice(waiting, self.options.window - len(flying)):
                        key = str(next(self._keys))
                        flying[key] = request
                        self._running().add(to_core(key, request))
                    if not flying:
                        return
                    results = self._running().step()
                    self.forward_count += 1
                except CoreDiedError as error:
                    lost, flying = flying, {}
                    if stopped_soon(stop):
                        return
                    for request in lost.values():
                        yield fail(request, f"lost with vLLM's engine core: {error}")
                    if not progress:
                        raise ForeshockError(
                            f"vLLM's engine core died twice without finishing a request: {error}"
                        ) from error
                    progress = False
                    self._restart()
                    prepare(self._running())
                    continue
                for result in results:
                    done = flying.pop(result.key, None)
                    if done is None:
                        continue  # of a stream that was abandoned
                    progress = True
                    problem = result.error or mislabelled(result, self._fingerprint)
                    yield fail(done, problem) if problem else finish(done, result)
        finally:
            if flying and self._core is not None:
                self._abandon(list(flying))

    def _abandon(self, keys: list[str]) -> None:
        try:
            self._running().abort(keys)
        except CoreDiedError:
            self._end_core()

    def _restart(self) -> None:
        """A new core for the loaded checkpoint, which the one until now served."""
        checkpoint = self._loaded()
        self._end_core()
        self.load(checkpoint)

    def _end_core(self) -> None:
        core, self._core = self._core, None
        self._base, self._base_config, self._lora_rank = None, {}, None
        if core is not None:
            core.close()

    def _loaded(self) -> Checkpoint:
        if self._checkpoint is None:
            raise RuntimeError("no checkpoint is loaded; call load(checkpoint) first")
        if self._core is None:  # it died at the end of an earlier stream
            self.load(self._checkpoint)
        return self._checkpoint

    def _running(self) -> Core:
        if self._core is None:
            raise CoreDiedError("vLLM's engine core is not running")
        return self._core
