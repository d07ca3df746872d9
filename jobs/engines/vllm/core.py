"""The only place that calls vLLM: start an engine core, submit, step, abort, swap weights, stop.

LLMEngine's step loop instead of `LLM.generate`. Requests can be added while others run, results come out one by one,
and between two steps the engine can be told to stop. Everything that vLLM raises when its core is gone becomes one
error, `CoreDiedError`.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from foreshock.errors import ForeshockError, InputError
from foreshock.jobs.engines.request_checks import ModelLimits
from foreshock.jobs.engines.vllm.death import wake_on_death
from foreshock.jobs.engines.vllm.ending import Until, end_when
from foreshock.jobs.engines.vllm.options import VllmOptions
from foreshock.jobs.model_files.adapters import Adapter
from foreshock.jobs.model_files.fingerprint import read_config, stated_dtype

_RESET_PATIENCE_S = 10.0
_COUNTERS = {
    "vllm:prefix_cache_queries": "prefix_queries",
    "vllm:prefix_cache_hits": "prefix_hits",
    "vllm:prompt_tokens": "prompt_tokens",
    "vllm:generation_tokens": "engine_tokens",
}
"""vLLM's counters, in tokens, and what manifests call them."""


class CoreDiedError(ForeshockError):
    """vLLM's engine core has died; nothing it still owed will come."""


@dataclass(frozen=True, slots=True)
class CoreRequest:
    """One request in vLLM's terms. `score`: give every prompt token's log-probability; `best`: the likeliest's too.
    `until`: end the continuation when this says so of the tokens drawn so far."""

    key: str
    token_ids: tuple[int, ...]
    max_tokens: int = 1
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop_token_ids: tuple[int, ...] = ()
    until: Until | None = None
    score: bool = False
    best: bool = False


@dataclass(frozen=True, slots=True)
class CoreResult:
    """What vLLM made of a request. `token_ids` includes a stop token; `prompt_logprobs[0]` is None (no context).

    `finite` is False when a drawn token's log-probability was not: the model's logits held NaN or infinity.
    `versions` names the weights that gave each stretch of the output, as labelled by `label_weights`.
    """

    key: str
    token_ids: tuple[int, ...]
    stopped: bool
    versions: tuple[str, ...]
    prompt_logprobs: tuple[float | None, ...] | None = None
    prompt_best: tuple[float | None, ...] | None = None
    error: str | None = None
    finite: bool = True


class Core(Protocol):
    """A running engine core."""

    limits: ModelLimits

    def add(self, request: CoreRequest) -> None:
        """Queue a request."""

    def step(self) -> list[CoreResult]:
        """Wait for the next micro-batch; the requests that it finished."""

    def abort(self, keys: Sequence[str]) -> None:
        """Drop requests; they give no result."""

    def call(self, method: str, *args: Any) -> Any:
        """Call a method on every worker; the first worker's answer."""

    def reload(self, folder: Path) -> None:
        """Replace the weights by a directory's."""

    def serve_adapter(self, adapter: Adapter | None) -> None:
        """Apply this adapter to all requests from now on; None serves the base."""

    def counters(self) -> dict[str, int]:
        """Tokens and prefix-cache blocks counted since the start; empty where vLLM does not count."""

    def label_weights(self, version: str) -> None:
        """Name the present weights, and drop everything cached under earlier ones."""

    def close(self) -> None:
        """End the core's processes."""


StartCore = Callable[[VllmOptions, Path, "int | None"], Core]
"""(options, model directory, largest LoRA rank or None) -> a core that serves the model."""


def start_core(options: VllmOptions, model: Path, lora_rank: int | None) -> Core:
    """Start vLLM on a model. Raises InputError when it is not installed and ForeshockError when it does not start."""
    return VllmCore(options, model, lora_rank)


class VllmCore:
    """Implements `Core` over vLLM's LLMEngine."""

    def __init__(self, options: VllmOptions, model: Path, lora_rank: int | None) -> None:
        on_cpu = _on_cpu(options.device)
        args = options.engine_args(model, stated_dtype(read_config(model / "config.json")), on_cpu, lora_rank)
        os.environ.update(options.environment(args["dtype"], on_cpu))
        try:
            from vllm.engine.arg_utils import EngineArgs
            from vllm.v1.engine.exceptions import EngineDeadError
            from vllm.v1.engine.llm_engine import LLMEngine
        except ImportError as error:
            raise InputError(
                f"engine 'vllm' needs the vllm package, which cannot be imported here ({error})",
                fix="pip install 'foreshock[vllm]' on a GPU machine, or use engine transformers",
            ) from error
        try:
            self._engine: Any = LLMEngine.from_engine_args(EngineArgs(**args), enable_multiprocessing=True)
        except (RuntimeError, ValueError, TypeError, OSError) as error:
            raise ForeshockError(
                f"{model}: vLLM cannot serve this model: {error}\n  -> the lines above, from vLLM's own log, say why; "
                "if memory is short, lower engine.options.max_model_len or max_num_seqs"
            ) from error
        wake_on_death(self._engine.engine_core, EngineDeadError)
        config = self._engine.model_config
        self.limits = ModelLimits(int(config.get_vocab_size()), int(config.max_model_len))
        self._lora: Any = None
        self._n_adapters = 0

    def add(self, request: CoreRequest) -> None:
        """Queue a request. Raises CoreDiedError."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        params = SamplingParams(
            max_tokens=request.max_tokens,
            temperature=request.temperature,
            top_p=request.top_p,
            seed=request.seed,
            stop_token_ids=list(request.stop_token_ids),
            ignore_eos=True,  # the prompt format says what ends a continuation
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
            logprobs=None if request.score else 0,  # the drawn tokens' own: NaN where the logits were, and vLLM goes on
            prompt_logprobs=int(request.best) if request.score else None,
        )
        if request.score:
            params.skip_reading_prefix_cache = True  # cached positions have no logits to score
        with _deaths():
            prompt = {"prompt_token_ids": list(request.token_ids)}
            self._engine.add_request(request.key, prompt, params, lora_request=self._lora)
            if request.until is not None:
                end_when(self._engine, request.key, request.until)

    def step(self) -> list[CoreResult]:
        """The requests that the next micro-batch finished. Raises CoreDiedError."""
        with _deaths():
            return [_result(output) for output in self._engine.step() if output.finished]

    def abort(self, keys: Sequence[str]) -> None:
        """Drop requests. Raises CoreDiedError."""
        with _deaths():
            self._engine.abort_request(list(keys))

    def call(self, method: str, *args: Any) -> Any:
        """The first worker's answer. Raises CoreDiedError."""
        with _deaths():
            return self._engine.collective_rpc(method, args=args)[0]

    def reload(self, folder: Path) -> None:
        """Swap the weights in place. Raises ForeshockError if vLLM cannot, and the core must not be used then."""
        with _deaths():
            try:
                self._engine.collective_rpc("reload_weights", kwargs={"weights_path": str(folder)})
            except (RuntimeError, ValueError, TypeError, KeyError) as error:
                if _is_death(error):
                    raise
                raise ForeshockError(f"{folder}: vLLM cannot swap the weights in place: {error}") from error
        self.call("foreshock_repack")

    def serve_adapter(self, adapter: Adapter | None) -> None:
        """Adapters get a new number each time, so that vLLM never answers from one it read earlier."""
        from vllm.lora.request import LoRARequest

        if self._lora is not None:
            with _deaths():
                self._engine.remove_lora(self._lora.lora_int_id)
        self._lora = None
        if adapter is not None:
            self._n_adapters += 1
            request = LoRARequest(f"adapter-{self._n_adapters}", self._n_adapters, str(adapter.path))
            with _deaths():
                try:
                    self._engine.add_lora(request)
                except (RuntimeError, ValueError, TypeError, KeyError) as error:
                    if _is_death(error):
                        raise
                    raise ForeshockError(f"{adapter.path}: vLLM cannot serve this adapter: {error}") from error
            self._lora = request

    def counters(self) -> dict[str, int]:
        """From vLLM's own metrics (`LLMEngine.get_metrics`, since 0.9); summed over its engines."""
        try:
            metrics = self._engine.get_metrics()
        except (AssertionError, AttributeError, ImportError, OSError):
            return {}  # switched off, or another version's: nothing is known
        return sum_counters(metrics)

    def label_weights(self, version: str) -> None:
        """Empty the prefix cache and label what is generated from here on. Raises ForeshockError if blocks stay."""
        with _deaths():
            give_up = time.monotonic() + _RESET_PATIENCE_S
            while not self._engine.reset_prefix_cache():  # requests just aborted hold their blocks for one more step
                if time.monotonic() > give_up:
                    raise ForeshockError("vLLM's prefix cache cannot be emptied: requests still hold its blocks")
                time.sleep(0.02)
            self._engine.set_weight_version(version)

    def close(self) -> None:
        """End the core's processes; a dead core is no error."""
        with contextlib.suppress(Exception):  # whatever is left of it, the processes go with the client
            self._engine.engine_core.shutdown()


def sum_counters(metrics: Iterable[Any]) -> dict[str, int]:
    """Counters under our names, from objects with `name` and `value`; others are passed over."""
    found: dict[str, int] = {}
    for metric in metrics:
        name = _COUNTERS.get(str(getattr(metric, "name", "")).removesuffix("_total"))
        value = getattr(metric, "value", None)
        if name is not None and isinstance(value, int | float):
            found[name] = found.get(name, 0) + int(value)
    return found


def _result(output: Any) -> CoreResult:
    completion = output.outputs[0]
    reason = completion.finish_reason
    versions = tuple(span.version for span in completion.weight_versions or ())
    logprobs = best = None
    if output.prompt_logprobs is not None:
        logprobs = tuple(
            None if entry is None else float(entry[token].logprob)
            for token, entry in zip(output.prompt_token_ids, output.prompt_logprobs, strict=True)
        )
        best = tuple(
            None if entry is None else max(float(value.logprob) for value in entry.values())
            for entry in output.prompt_logprobs
        )
    error = None if reason in ("stop", "length") else f"vLLM ended the request with {reason!r}"
    tokens = tuple(completion.token_ids)
    drawn = completion.cumulative_logprob
    finite = drawn is None or math.isfinite(drawn)
    return CoreResult(output.request_id, tokens, reason == "stop", versions, logprobs, best, error, finite)


@contextlib.contextmanager
def _deaths() -> Iterator[None]:
    """Turn vLLM's ways of saying that the core is gone into CoreDiedError."""
    try:
        yield
    except Exception as error:
        if _is_death(error):
            raise CoreDiedError(f"vLLM's engine core has died ({type(error).__name__}); its log says why") from error
        raise


def _is_death(error: BaseException) -> bool:
    from vllm.v1.engine.exceptions import EngineDeadError

    return isinstance(error, EngineDeadError | ConnectionError | BrokenPipeError)


def _on_cpu(device: str) -> bool:
    if device == "cpu":
        return True
    import torch

    available = torch.cuda.is_available()
    if device != "auto" and not available:
        raise InputError(f"device {device!r} asked for, but torch sees no GPU here; valid: auto, cpu")
    return not available
