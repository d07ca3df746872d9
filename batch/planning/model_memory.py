"""GPU memory that a model needs: weights as stored, KV cache a sequence, sequences at once, tensor parallel size.

Everything is counted from config.json and the headers of the weight files, so that a plan on a login node can say in
milliseconds that a model will not fit. What cannot be counted (activations, graphs, the allocator) is a stated
allowance. Pure, apart from reading those files.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foreshock.errors import InputError
from foreshock.jobs.model_files.fingerprint import stated_dtype

GIB = 2**30
ALLOWANCE_GIB = 2.0
"""Activations, CUDA context and graphs, a GPU."""

WANTED_SEQUENCES = 8
"""Full-length sequences at once below which a GPU idles between memory reads; more GPUs are then suggested."""

_TENSOR_PARALLEL = (1, 2, 4, 8, 16)
_BITS = {"F64": 64, "F32": 32, "I32": 32, "U32": 32, "I64": 64, "U64": 64, "F16": 16, "BF16": 16, "I16": 16, "U16": 16}
_FLOATS = frozenset({"F64", "F32", "F16", "BF16"})
_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True, slots=True)
class ModelMemory:
    """What a checkpoint's files say. `windows`: one entry a layer with a KV cache, tokens kept or None for all."""

    weight_bytes: int
    float_params: int
    float_bytes: int
    quantised: bool
    n_heads: int
    n_kv_heads: int
    head_dim: int
    windows: tuple[int | None, ...]
    dtype: str
    latent_width: int | None = None
    """Numbers a token and layer of a compressed cache (multi-head latent attention), which is not split over GPUs."""

    def weights(self, dtype: str = "auto") -> int:
        """Bytes of the weights once loaded; a quantised checkpoint keeps its stored form."""
        if dtype == "auto" or self.quantised:
            return self.weight_bytes
        return self.weight_bytes - self.float_bytes + self.float_params * _BYTES[dtype]

    def kv_bytes(self, n_tokens: int, bytes_each: int, *, windowed: bool = True, n_gpus: int = 1) -> int:
        """Bytes of one sequence's cache on each of `n_gpus`. `windowed`: sliding layers drop what left the window."""
        if self.latent_width is not None:
            width = self.latent_width
        else:
            width = 2 * math.ceil(self.n_kv_heads / n_gpus) * self.head_dim
        kept = sum(n_tokens if w is None or not windowed else min(n_tokens, w) for w in self.windows)
        return width * bytes_each * kept


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """How a model fits. Null with a reason where the GPU's memory is unknown."""

    weights_gib: float
    kv_mib_per_sequence: float
    tokens_per_sequence: int
    gpu_memory_gib: float | None
    tensor_parallel: int
    sequences_at_once: int | None
    fits: bool | None
    suggested_tensor_parallel: int | None
    note: str


def plan_memory(
    model: ModelMemory,
    n_tokens: int,
    gpu_memory_gib: float | None,
    *,
    tensor_parallel: int = 1,
    dtype: str = "auto",
    kv_bytes_each: int | None = None,
    share: float = 0.9,
    windowed: bool = True,
) -> MemoryPlan:
    """Sequences of `n_tokens` (prompt and continuation) that fit beside the weights.

    gpu_memory_gib: one GPU's; share: part of it that the engine takes. The suggested tensor parallel size is the
    smallest at which 8 full-length sequences fit, else at which one does, else None.
    """
    bytes_each = kv_bytes_each or _BYTES.get(model.dtype if dtype == "auto" else dtype, 2)
    weights = model.weights(dtype)

    def room(n_gpus: int) -> int:
        assert gpu_memory_gib is not None
        free = gpu_memory_gib * GIB * share - ALLOWANCE_GIB * GIB - weights / n_gpus
        each = max(1, model.kv_bytes(n_tokens, bytes_each, windowed=windowed, n_gpus=n_gpus))
        return -1 if free < 0 else int(free // each)

    kv = model.kv_bytes(n_tokens, bytes_each, windowed=windowed)
    facts = (round(weights / GIB, 2), round(kv / 2**20, 2), n_tokens, gpu_memory_gib, tensor_parallel)
    if gpu_memory_gib is None:
        note = "no GPU here and no gpu_memory_gib in the Slurm profile, so whether it fits is unknown"
        return MemoryPlan(*facts, None, None, None, note)
    sizes = [n for n in _TENSOR_PARALLEL if model.n_heads % n == 0]
    enough = [n for n in sizes if room(n) >= WANTED_SEQUENCES] or [n for n in sizes if room(n) >= 1]
    suggested = enough[0] if enough else None
    now = room(tensor_parallel)
    return MemoryPlan(*facts, max(0, now), now >= 1, suggested, _note(now, tensor_parallel, suggested, n_tokens))


def _note(room: int, now: int, suggested: int | None, n_tokens: int) -> str:
    here = f"on {now} GPU{'s' if now > 1 else ''}"
    if suggested is None:
        return f"it does not fit even on {_TENSOR_PARALLEL[-1]} GPUs; use a quantised checkpoint or shorter sequences"
    advice = f"; engine.options.tensor_parallel_size: {suggested} fits (engine vllm)"
    if room < 0:
        return f"the weights do not fit {here}" + advice
    if room < 1:
        return f"not even one sequence of {n_tokens} tokens fits {here} beside the weights" + advice
    if room < WANTED_SEQUENCES and suggested > now:
        return f"only {room} sequences of {n_tokens} tokens fit at once {here}" + advice.replace("fits", "gives more")
    return f"{room} sequences of {n_tokens} tokens fit at once {here}"


def read_model_memory(path: Path, weight_files: Sequence[Path]) -> ModelMemory:
    """Read a checkpoint's config.json and the headers of its weight files. Raises InputError if it lacks sizes."""
    config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    return model_memory(config, *_stored(weight_files), path=path)


def model_memory(
    config: Mapping[str, Any], weight_bytes: int, float_params: int, float_bytes: int, path: Path | None = None
) -> ModelMemory:
    """From a parsed config.json and what the weight files hold."""
    text = config.get("text_config")
    inner = {**config, **text} if isinstance(text, Mapping) else dict(config)
    n_layers = int(inner.get("num_hidden_layers") or inner.get("n_layer") or 0)
    n_heads = int(inner.get("num_attention_heads") or inner.get("n_head") or 0)
    hidden = int(inner.get("hidden_size") or inner.get("n_embd") or 0)
    if min(n_layers, n_heads, hidden) < 1:
        raise InputError("config.json does not say how many layers and heads the model has", path=path)
    latent = inner.get("kv_lora_rank")
    return ModelMemory(
        weight_bytes=weight_bytes,
        float_params=float_params,
        float_bytes=float_bytes,
        quantised=bool(inner.get("quantization_config")),
        n_heads=n_heads,
        n_kv_heads=inner.get("num_key_value_heads") or n_heads,
        head_dim=inner.get("head_dim") or hidden // n_heads,
        windows=_windows(inner, n_layers),
        dtype=stated_dtype(config),
        latent_width=latent + inner.get("qk_rope_head_dim", 0) if isinstance(latent, int) else None,
    )


def _windows(config: Mapping[str, Any], n_layers: int) -> tuple[int | None, ...]:
    """Tokens that each layer's cache keeps; layers without a cache that grows (linear attention) are left out."""
    window = config.get("sliding_window")
    kinds = config.get("layer_types")
    if isinstance(kinds, list):
        return tuple(window if kind == "sliding_attention" else None for kind in kinds if "linear" not in str(kind))
    if window is None or config.get("use_sliding_window") is False:
        return (None,) * n_layers
    if config.get("model_type") in ("gpt_oss", "gemma2"):  # every other layer, the first one slides
        return tuple(window if i % 2 == 0 else None for i in range(n_layers))
    return (window,) * n_layers


def _stored(files: Sequence[Path]) -> tuple[int, int, int]:
    """(bytes of all tensors, numbers in floating-point tensors, their bytes); whole files for other formats."""
    total = params = floats = 0
    for file in files:
        if file.suffix != ".safetensors":
            total += file.stat().st_size
            continue
        with file.open("rb") as stream:
            header = json.loads(stream.read(struct.unpack("<Q", stream.read(8))[0]))
        for name, tensor in header.items():
            if name == "__metadata__":
                continue
            start, end = tensor["data_offsets"]
            total += end - start
            if tensor["dtype"] in _FLOATS:
                params += (end - start) * 8 // _BITS[tensor["dtype"]]
                floats += end - start
    return total, params, floats
