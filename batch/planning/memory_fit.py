"""Memory planning of a run: its largest checkpoint, its longest prompt, its GPUs.

The sequence planned for is the longest prompt that the run will send plus `max_tokens`, since an engine that runs out
in the middle of a sweep stops sequences and computes them again.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from foreshock.batch.planning.make_plan import RunPlan
from foreshock.batch.planning.model_memory import ModelMemory, plan_memory, read_model_memory
from foreshock.batch.site import Site
from foreshock.errors import InputError
from foreshock.jobs.adapters import is_adapter
from foreshock.jobs.fingerprint import check_weights


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


def _layers(model: ModelMemory) -> dict[str, int]:
    sliding = sum(window is not None for window in model.windows)
    return {"full_attention": len(model.windows) - sliding, "sliding_attention": sliding}


def longest_prompt(plan: RunPlan) -> int:
    """Tokens of the longest prompt that the run will send."""
    return int(plan.file.extra["lengths"]["longest_prompt"])
