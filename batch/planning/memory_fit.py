"""Memory planning of a run: its largest checkpoint, its longest prompt, its GPUs.

The sequence planned for is the longest prompt that the run will send plus `max_tokens`, since an engine that runs out
in the middle of a sweep stops sequences and computes them again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from foreshock.batch.planning.make_plan import RunPlan
from foreshock.batch.planning.model_memory import ModelMemory, plan_memory, read_model_memory
from foreshock.batch.site import Site
from foreshock.errors import InputError
from foreshock.jobs.model_files.adapters import base_of, is_adapter
from foreshock.jobs.model_files.fingerprint import check_weights, read_config

_HYBRID_BLOCK = (528, 816)
"""Tokens of a block, as vLLM chose them for hybrid models of 1 to 9 billion parameters."""


def memory_summary(plan: RunPlan, site: Site) -> dict[str, Any] | None:
    """The memory plan as plain data; None where no GPU holds the model (servers, the fake engine, a CPU run)."""
    config = plan.config
    if not site.uses_gpus:
        return None
    checkpoint = plan.checkpoints[-1]
    if is_adapter(checkpoint.path):
        return None
    try:
        model = read_model_memory(checkpoint.path, check_weights(checkpoint.path))
    except (InputError, KeyError, TypeError, ValueError):
        return None  # whether it can be loaded at all is checked elsewhere
    options = config.engine.options
    fp8 = str(options.get("kv_cache_dtype", "")).startswith("fp8")
    share = options.get("gpu_memory_utilization", 0.9)
    found = plan_memory(
        model,
        longest_prompt(plan) + config.sampling.max_tokens,
        site.gpu_memory_gib,
        tensor_parallel=site.gpus_per_worker,
        dtype=config.engine.dtype,
        kv_bytes_each=1 if fp8 else None,
        share=share if isinstance(share, float) else 0.9,
        windowed=site.engine.drops_positions,
    )
    return asdict(found) | {"checkpoint": checkpoint.name, "layers": _layers(model)}


def hybrid_notes(plan: RunPlan) -> list[str]:
    """A warning where vLLM's prefix cache cannot save anything: it keeps whole blocks, and those of hybrid models are
    hundreds of tokens long, as long as a layer's state is large."""
    if plan.file.settings.engine != "vllm":
        return []
    path = plan.checkpoints[-1].path
    try:
        config = read_config((base_of(path) if is_adapter(path) else path) / "config.json")
    except (InputError, OSError, ValueError):
        return []
    longest = longest_prompt(plan)
    if not is_hybrid(config) or longest >= _HYBRID_BLOCK[1]:
        return []
    few = "no" if longest < _HYBRID_BLOCK[0] else "hardly any"
    return [
        "the model has layers with a recurrent state (Mamba, linear attention): vLLM then caches prefixes in blocks of "
        f"{_HYBRID_BLOCK[0]} to {_HYBRID_BLOCK[1]} tokens, and the longest prompt here has {longest}, so nested "
        f"prefills save {few} time; longer array tasks (`execution.max_minutes`) save loads instead"
    ]


def is_hybrid(config: Mapping[str, Any]) -> bool:
    """Whether a model mixes attention with layers that keep a recurrent state, by its config.json."""
    inner = config.get("text_config")
    inner = {**config, **inner} if isinstance(inner, Mapping) else config
    kinds = [*(inner.get("layer_types") or ()), *(inner.get("layers_block_type") or ())]
    if any(word in str(kind) for kind in kinds for word in ("linear", "mamba", "recurrent", "conv")):
        return True
    pattern = inner.get("hybrid_override_pattern") or ""  # Nemotron-H: M is a Mamba layer
    return "M" in str(pattern) or any(str(key).startswith("mamba_") for key in inner)


def _layers(model: ModelMemory) -> dict[str, int]:
    sliding = sum(window is not None for window in model.windows)
    return {"full_attention": len(model.windows) - sliding, "sliding_attention": sliding}


def longest_prompt(plan: RunPlan) -> int:
    """Tokens of the longest prompt that the run will send."""
    return int(plan.file.extra["lengths"]["longest_prompt"])
