"""The entries of foreshock's own engines."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from foreshock.jobs.engines.base import Engine
from foreshock.jobs.engines.spec import EngineSpec
from foreshock.jobs.records.spec import Checkpoint


def _transformers() -> Callable[..., Engine]:
    from foreshock.jobs.engines.transformers import TransformersEngine

    return TransformersEngine


def _fake() -> Callable[..., Engine]:
    from foreshock.jobs.engines.fake import FakeEngine

    return FakeEngine


def _vllm() -> Callable[..., Engine]:
    from foreshock.jobs.engines.vllm.engine import VllmEngine

    return VllmEngine


def _openai() -> Callable[..., Engine]:
    from foreshock.jobs.engines.endpoint.engine import OpenAIEngine

    return OpenAIEngine


def _transformers_model(path: Path, options: Mapping[str, Any]) -> None:
    from foreshock.jobs.engines.known_quantisation import require_known_quantisation

    require_known_quantisation(path)


def _vllm_model(path: Path, options: Mapping[str, Any]) -> None:
    from foreshock.jobs.engines.vllm.alike import require_alike

    require_alike(path, options.get("max_model_len"))


def _served_scoring(checkpoint: Checkpoint, options: Mapping[str, Any], temperature: float) -> str | None:
    """Ask the server once, without patience: it may not be up yet, which is no fault of the plan's."""
    from foreshock.errors import ForeshockError
    from foreshock.jobs.engines.endpoint.engine import OpenAIEngine

    with OpenAIEngine(**{**options, "retries": 0, "timeout": min(float(options.get("timeout", 10.0)), 10.0)}) as engine:
        try:
            engine.load(checkpoint)
            return engine.scoring_problem(temperature)
        except ForeshockError as error:
            return f"the server could not be asked now ({str(error).splitlines()[0]})"


def _served_context(checkpoint: Checkpoint, options: Mapping[str, Any]) -> int | None:
    """The same patience; a server that is not up, or serves another model, is found when work starts."""
    from foreshock.errors import ForeshockError
    from foreshock.jobs.engines.endpoint.engine import OpenAIEngine

    with OpenAIEngine(**{**options, "retries": 0, "timeout": min(float(options.get("timeout", 10.0)), 10.0)}) as engine:
        try:
            return engine.served_context(checkpoint)
        except ForeshockError:
            return None


TRANSFORMERS = EngineSpec(
    "transformers",
    "Hugging Face transformers in process",
    _transformers,
    halved=("batch_size", "max_batch_tokens"),
    folds_adapters=True,
    require_model=_transformers_model,
    own_options=("device", "dtype", "batch_size", "max_batch_tokens", "max_logits", "threads"),
    preload=("foreshock.jobs.engines.transformers",),
)
VLLM = EngineSpec(
    "vllm",
    "vLLM in process",
    _vllm,
    batch_option="max_num_seqs",
    default_batch=256,
    halved=("max_num_seqs",),
    gpus_option="tensor_parallel_size",
    drops_positions=True,
    one_without_gpu=True,
    forked=False,
    require_model=_vllm_model,
    load_s=60.0,
    swap_s=2.0,
)
OPENAI = EngineSpec(
    "openai",
    "a running server with OpenAI's interface",
    _openai,
    on_device=False,
    batch_option=None,
    halved=(),
    one_without_gpu=True,
    scoring_problem=_served_scoring,
    served_context=_served_context,
    checked_when_built=True,
)
FAKE = EngineSpec("fake", "no model: hashes, for trying things out", _fake, on_device=False, batch_option=None)
