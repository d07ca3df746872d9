"""Memory planning: known models by the figures of their config.json, real files by their headers, the plan's words."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from foreshock.batch.planning.make_plan import make_plan
from foreshock.batch.planning.memory_fit import is_hybrid, longest_prompt, memory_summary
from foreshock.batch.planning.model_memory import GIB, ModelMemory, model_memory, plan_memory, read_model_memory
from foreshock.batch.site import resolve_site
from foreshock.errors import InputError
from foreshock.jobs.model_files.fingerprint import check_checkpoint
from foreshock.jobs.records.spec import Checkpoint

GPT_OSS_20B: dict[str, Any] = {
    "model_type": "gpt_oss",
    "num_hidden_layers": 24,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "hidden_size": 2880,
    "head_dim": 64,
    "sliding_window": 128,
    "layer_types": ["sliding_attention", "full_attention"] * 12,
    "dtype": "bfloat16",
    "quantization_config": {"quant_method": "mxfp4"},
}
QWEN3_8B: dict[str, Any] = {
    "model_type": "qwen3",
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "hidden_size": 4096,
    "head_dim": 128,
    "sliding_window": None,
    "use_sliding_window": False,
    "torch_dtype": "bfloat16",
}
LLAMA_31_8B: dict[str, Any] = {
    "model_type": "llama",
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "hidden_size": 4096,
    "torch_dtype": "bfloat16",
}


def model(config: dict[str, Any], gib: float) -> ModelMemory:
    size = int(gib * GIB)
    return model_memory(config, size, size // 2, size)


@pytest.mark.parametrize(
    ("config", "kib_per_token"),
    [(LLAMA_31_8B, 128), (QWEN3_8B, 144), (GPT_OSS_20B, 48)],  # 2 x 8 heads x head_dim x 2 bytes x layers
)
def test_the_cache_of_one_token(config: dict[str, Any], kib_per_token: int) -> None:
    found = model(config, 15.0)
    assert found.kv_bytes(1, 2) == kib_per_token * 1024
    assert found.kv_bytes(1000, 2, windowed=False) == kib_per_token * 1024 * 1000


def test_sliding_layers_keep_their_window_only() -> None:
    found = model(GPT_OSS_20B, 12.8)
    assert found.windows == (128, None) * 12
    assert found.kv_bytes(32768, 2) == 2 * 8 * 64 * 2 * 12 * (32768 + 128)
    without_types = {k: v for k, v in GPT_OSS_20B.items() if k != "layer_types"}
    assert model(without_types, 12.8).windows == found.windows
    assert model({**LLAMA_31_8B, "sliding_window": 4096}, 1.0).windows == (4096,) * 32


def test_the_cache_is_split_over_gpus_by_heads_and_a_latent_one_is_not() -> None:
    assert model(QWEN3_8B, 1.0).kv_bytes(10, 2, n_gpus=4) == model(QWEN3_8B, 1.0).kv_bytes(10, 2) // 4
    assert model(QWEN3_8B, 1.0).kv_bytes(10, 2, n_gpus=16) == model(QWEN3_8B, 1.0).kv_bytes(10, 2) // 8
    latent = model({**LLAMA_31_8B, "kv_lora_rank": 512, "qk_rope_head_dim": 64}, 1.0)
    assert latent.kv_bytes(10, 2, n_gpus=8) == 576 * 2 * 32 * 10


def test_llama_8b_on_one_80_gib_gpu() -> None:
    found = plan_memory(model(LLAMA_31_8B, 14.96), 2500, 80.0)
    assert found.kv_mib_per_sequence == pytest.approx(312.5)
    assert found.sequences_at_once == int((72 - 2 - 14.96) * 1024 / 312.5)
    assert (found.fits, found.suggested_tensor_parallel) == (True, 1)


def test_gpt_oss_20b_as_stored_fits_a_24_gib_gpu_with_long_reasoning() -> None:
    found = plan_memory(model(GPT_OSS_20B, 12.8), 33000, 24.0)
    assert found.fits
    assert found.sequences_at_once == 8
    assert plan_memory(model(GPT_OSS_20B, 12.8), 33000, 24.0, windowed=False).sequences_at_once == 4


def test_what_does_not_fit_is_said_with_the_size_that_does() -> None:
    big = model({**LLAMA_31_8B, "num_hidden_layers": 80, "num_attention_heads": 64, "hidden_size": 8192}, 131.0)
    found = plan_memory(big, 2048, 80.0)
    assert (found.fits, found.sequences_at_once, found.suggested_tensor_parallel) == (False, 0, 2)
    assert found.note == "the weights do not fit on 1 GPU; engine.options.tensor_parallel_size: 2 fits (engine vllm)"
    assert plan_memory(big, 4096, 80.0, tensor_parallel=4).fits
    assert plan_memory(big, 4096, 8.0).suggested_tensor_parallel is None
    few = plan_memory(model(QWEN3_8B, 15.3), 34000, 24.0)
    assert few.note.startswith("not even one sequence of 34000 tokens fits on 1 GPU")
    some = plan_memory(model(QWEN3_8B, 15.3), 8000, 24.0)
    assert some.note.startswith("only 3 sequences of 8000 tokens fit at once on 1 GPU")
    assert some.suggested_tensor_parallel == 2


def test_an_unknown_gpu_gives_null_and_a_reason_not_a_number() -> None:
    found = plan_memory(model(QWEN3_8B, 15.3), 2000, None)
    assert (found.sequences_at_once, found.fits, found.suggested_tensor_parallel) == (None, None, None)
    assert "gpu_memory_gib" in found.note


def test_a_dtype_asked_for_changes_float_weights_and_cache_but_not_quantised_ones() -> None:
    assert model(LLAMA_31_8B, 15.0).weights("float32") == pytest.approx(30 * GIB, rel=1e-6)
    assert model(GPT_OSS_20B, 12.8).weights("float32") == int(12.8 * GIB)
    wide = plan_memory(model(LLAMA_31_8B, 15.0), 1000, 80.0, dtype="float32")
    assert wide.kv_mib_per_sequence == 2 * plan_memory(model(LLAMA_31_8B, 15.0), 1000, 80.0).kv_mib_per_sequence
    assert plan_memory(model(LLAMA_31_8B, 15.0), 1000, 80.0, kv_bytes_each=1).kv_mib_per_sequence == pytest.approx(62.5)


@pytest.mark.parametrize("architecture", ["llama", "qwen3", "gpt_oss", "mistral", "gemma2", "gpt2"])
def test_sizes_of_real_files_are_those_of_the_loaded_model(
    make_checkpoint: Callable[..., Checkpoint], architecture: str
) -> None:
    from transformers import AutoModelForCausalLM

    checkpoint = make_checkpoint(architecture)
    found = read_model_memory(checkpoint.path, check_checkpoint(checkpoint.path))
    loaded = AutoModelForCausalLM.from_pretrained(checkpoint.path)
    assert found.weight_bytes == sum(p.numel() * p.element_size() for p in loaded.parameters())
    assert found.weights("bfloat16") == found.weight_bytes // 2
    config = loaded.config
    assert len(found.windows) == config.num_hidden_layers
    kinds = getattr(config, "layer_types", None) or ["sliding_attention" if architecture == "mistral" else ""] * 2
    assert sum(w is not None for w in found.windows) == kinds.count("sliding_attention")


def test_a_config_without_sizes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "new"}))
    with pytest.raises(InputError, match="how many layers"):
        read_model_memory(tmp_path, [])


def test_a_plan_carries_it(make_config: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    config = make_config(engine={"device": "auto"})
    plan = make_plan(config)
    monkeypatch.setattr("foreshock.batch.site._from_torch", lambda: 40.0)
    found = memory_summary(plan, resolve_site(config))
    assert found is not None
    assert found["fits"] is True
    assert found["tokens_per_sequence"] == longest_prompt(plan) + 12
    assert found["layers"] == {"full_attention": 2, "sliding_attention": 0}
    assert math.isclose(
        found["kv_mib_per_sequence"], 2 * 2 * 16 * 4 * 2 * found["tokens_per_sequence"] / 2**20, abs_tol=0.01
    )
    for engine in ({"device": "cpu"}, {"name": "fake", "device": "auto"}):
        config = make_config(engine=engine)
        assert memory_summary(make_plan(config), resolve_site(config)) is None


@pytest.mark.parametrize(
    ("config", "hybrid"),
    [
        ({"layer_types": ["linear_attention", "full_attention"]}, True),  # Qwen3-Next
        ({"text_config": {"layer_types": ["linear_attention", "full_attention"]}}, True),
        ({"hybrid_override_pattern": "M-M*-"}, True),  # Nemotron-H
        ({"mamba_d_state": 128, "attn_layer_indices": [9]}, True),  # Bamba
        ({"layers_block_type": ["mamba", "attention"]}, True),  # Jamba, Zamba2
        ({"layer_types": ["sliding_attention", "full_attention"]}, False),
        ({"num_hidden_layers": 32}, False),
    ],
)
def test_hybrid_models_are_known_by_their_configuration(config: dict[str, object], hybrid: bool) -> None:
    assert is_hybrid(config) is hybrid
