"""What a user may set for the vLLM engine, and what vLLM is started with.

A short list of options under vLLM's own names is checked here, and everything else goes through `extra` untouched,
except the few settings that the engine's correctness rests on. Pure: vLLM is not imported.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from foreshock.errors import InputError

DTYPES = ("auto", "float32", "bfloat16", "float16")
LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""The ranks that vLLM 0.32 reserves room for."""

_OURS = frozenset(
    {
        "disable_log_stats",
        "generation_config",
        "logprobs_mode",
        "model",
        "seed",
        "skip_tokenizer_init",
        "worker_extension_cls",
    }
)
_CPU_CACHE_BYTES = 2 * 2**30


@dataclass(frozen=True)
class VllmOptions:
    """Options of the vLLM engine, by vLLM's names.

    device: auto (a GPU if there is one) or cpu or cuda; which GPU is chosen with CUDA_VISIBLE_DEVICES. dtype: auto is
    the checkpoint's own on a GPU (vLLM's own "auto" would make bfloat16 of float32) and float32 on a CPU.
    quantization: None reads it from the checkpoint (fp8, mxfp4, ...). max_model_len: None is the model's own context,
    or what fits the memory if that is less. enforce_eager: None compiles the model on a GPU only; on a CPU compiling
    takes longer than it ever gives back. batch_invariant: on a GPU, vLLM's own mode of that name; without
    it a seeded row drawn again there, in other company, can differ.
    """

    device: str = "auto"
    dtype: str = "auto"
    max_num_seqs: int = 256
    gpu_memory_utilization: float = 0.9
    tensor_parallel_size: int = 1
    max_model_len: int | None = None
    max_num_batched_tokens: int | None = None
    quantization: str | None = None
    kv_cache_dtype: str = "auto"
    kv_cache_memory_bytes: int | None = None
    enable_prefix_caching: bool = True
    enforce_eager: bool | None = None
    batch_invariant: bool = False
    threads: int | None = None
    serve_adapters: bool = True
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise InputError(f"unknown dtype {self.dtype!r}; valid: {', '.join(DTYPES)}")
        if self.device.partition(":")[0] not in ("auto", "cpu", "cuda"):
            raise InputError(f"unknown device {self.device!r}; valid: auto, cpu, cuda")
        if not 0 < self.gpu_memory_utilization <= 1:
            raise InputError(
                f"gpu_memory_utilization is {self.gpu_memory_utilization}; valid: above 0, at most 1 (share of the GPU)"
            )
        for name in (
            "max_num_seqs",
            "tensor_parallel_size",
            "max_model_len",
            "max_num_batched_tokens",
            "kv_cache_memory_bytes",
            "threads",
        ):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < 1):
                raise InputError(f"{name} is {value!r}; it must be a whole number of at least 1")
        clash = sorted(_OURS & set(self.extra)) or sorted({f.name for f in fields(self)} & set(self.extra))
        if clash:
            raise InputError(
                f"extra holds {clash[0]!r}, which the engine sets itself; valid: vLLM's other EngineArgs"
                if clash[0] in _OURS
                else f"extra holds {clash[0]!r}, which is an option of its own; give it outside extra"
            )

    @property
    def window(self) -> int:
        """Requests submitted at once: enough that vLLM always has the next ones waiting, and no more, so that
        memory stays bounded however many samples there are."""
        return 2 * self.max_num_seqs + 64

    def engine_args(self, model: Path, own_dtype: str, on_cpu: bool, lora_rank: int | None) -> dict[str, Any]:
        """Keyword arguments of vLLM's EngineArgs for a model directory whose config states `own_dtype`."""
        auto = "float32" if on_cpu or own_dtype == "float32" else "auto"
        args: dict[str, Any] = {
            "model": str(model),
            "skip_tokenizer_init": True,  # prompts are ids and texts are decoded by foreshock, alike in every engine
            "generation_config": "vllm",  # the checkpoint's own defaults (top_k, ...) must not enter silently
            "disable_log_stats": False,  # its counters of tokens and of the prefix cache go into manifests
            "seed": 0,
            "worker_extension_cls": "foreshock.jobs.engines.vllm.worker.WorkerExtension",
            "dtype": auto if self.dtype == "auto" else self.dtype,
            "max_num_seqs": self.max_num_seqs,
            "gpu_memory_utilization": self.gpu_memory_utilization,
            "tensor_parallel_size": self.tensor_parallel_size,
            "kv_cache_dtype": self.kv_cache_dtype,
            "enable_prefix_caching": self.enable_prefix_caching,
            "enforce_eager": on_cpu if self.enforce_eager is None else self.enforce_eager,
            "max_model_len": -1 if self.max_model_len is None else self.max_model_len,  # -1: what fits
        }
        if on_cpu:  # a prompt cut in two ends vLLM 0.32 there: it rewinds a seeded row's generator, which CPUs cannot
            args["enable_chunked_prefill"] = False
        if self.quantization is not None:
            args["quantization"] = self.quantization
        if self.max_num_batched_tokens is not None:
            args["max_num_batched_tokens"] = self.max_num_batched_tokens
        if self.kv_cache_memory_bytes is not None:
            args["kv_cache_memory_bytes"] = self.kv_cache_memory_bytes
        elif on_cpu and not os.environ.get("VLLM_CPU_KVCACHE_SPACE"):
            args["kv_cache_memory_bytes"] = _CPU_CACHE_BYTES  # vLLM would take most of the machine's memory
        if lora_rank is not None:
            args |= {"enable_lora": True, "max_loras": 1, "max_lora_rank": lora_rank}
        return args | dict(self.extra)

    def environment(self, dtype: str, on_cpu: bool) -> dict[str, str]:
        """Variables that vLLM and Triton read when they start on a model in `dtype`; the user's own settings win."""
        values = {
            "VLLM_NO_USAGE_STATS": "1",
            "VLLM_LOGGING_LEVEL": "WARNING",
            "VLLM_WORKER_MULTIPROC_METHOD": "spawn",  # this process has threads, and torch may have touched the GPU
            "VLLM_ENABLE_V1_MULTIPROCESSING": "1",  # generation goes on while this process verifies
        }
        if on_cpu and self.threads is not None:
            # vLLM's default binds every worker's threads to the same first cores
            values |= {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": str(self.threads)}
        if not on_cpu and dtype == "float32":  # attention in TF32 put prefill sums 8e-3 nats a token off (H100)
            values["TRITON_F32_DEFAULT"] = "ieee"
        if not on_cpu and self.batch_invariant:
            values["VLLM_BATCH_INVARIANT"] = "1"
        return {name: value for name, value in values.items() if not os.environ.get(name)}


def lora_rank_for(rank: int, already: int | None = None) -> int | None:
    """The smallest rank vLLM can reserve that holds `rank` (and `already`); None if there is none."""
    return next((held for held in LORA_RANKS if held >= max(rank, already or 0)), None)
