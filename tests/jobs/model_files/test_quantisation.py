"""What config.json says of quantised weights against what is stored: every pair is a model, or the true reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from foreshock.errors import InputError
from foreshock.jobs.admission.admit import admit
from foreshock.jobs.engines.weights import read_model_config
from foreshock.jobs.model_files.quantisation import quantisation_problem
from foreshock.jobs.model_files.safetensors_headers import StoredTensor
from foreshock.jobs.records.spec import Checkpoint

FP8 = {"quant_method": "fp8", "weight_block_size": [32, 32], "modules_to_not_convert": ["lm_head"]}
BNB = {"quant_method": "bitsandbytes", "load_in_4bit": True}
PLAIN = {"lm_head.weight": "BF16"} | {f"model.layers.{n}.mlp.down_proj.weight": "BF16" for n in range(2)}


def stored(tensors: dict[str, str]) -> dict[str, StoredTensor]:
    return {name: StoredTensor(Path("model.safetensors"), dtype, (64, 32), 0, 0) for name, dtype in tensors.items()}


def layers(**tensors: str) -> dict[str, str]:
    """A plain head, and each tensor of a module of both layers; `__` stands for a dot in its name."""
    inner = {
        f"model.layers.{n}.mlp.down_proj.{name.replace('__', '.')}": t for n in range(2) for name, t in tensors.items()
    }
    return {"lm_head.weight": "BF16", "model.layers.0.input_layernorm.weight": "BF16"} | inner


REAL: dict[str, tuple[Any, dict[str, str]]] = {
    "plain": (None, PLAIN),
    "fp8": (FP8, layers(weight="F8_E4M3", weight_scale_inv="F32")),
    "fp8 by tensor": ({"quant_method": "fp8"}, layers(weight="F8_E4M3", weight_scale="F32", input_scale="F32")),
    "fp8, scales of powers of two": (FP8, layers(weight="F8_E4M3", scale="F8_E8M0")),
    "gptq": ({"quant_method": "gptq", "bits": 4}, layers(qweight="I32", qzeros="I32", scales="F16", g_idx="I32")),
    "awq": ({"quant_method": "awq", "bits": 4}, layers(qweight="I32", qzeros="I32", scales="F16")),
    "bitsandbytes, 4 bits": (
        BNB,
        layers(
            weight="U8", weight__absmax="U8", weight__nested_absmax="F32", weight__quant_state__bitsandbytes__nf4="U8"
        ),
    ),
    "bitsandbytes, 8 bits": (BNB, layers(weight="I8", SCB="F32", weight_format="U8")),
    "compressed, packed": (
        {"quant_method": "compressed-tensors", "config_groups": {"group_0": {}}},
        layers(weight_packed="I32", weight_scale="BF16", weight_shape="I64"),
    ),
    "compressed, not packed yet": (
        {"quant_method": "compressed-tensors", "config_groups": {"group_0": {}}},
        layers(weight="BF16", weight_scale="BF16"),
    ),
    "a cache alone": ({"quant_method": "compressed-tensors", "config_groups": {}, "kv_cache_scheme": {}}, PLAIN),
    "nvfp4": ({"quant_method": "modelopt"}, layers(weight="U8", weight_scale="F8_E4M3", weight_scale_2="F32")),
    "mxfp4 experts": (
        {"quant_method": "mxfp4"},
        PLAIN | {f"model.layers.0.mlp.experts.gate_up_proj_{part}": "U8" for part in ("blocks", "scales")},
    ),
    "rounded in each pass": ({"quant_method": "bitnet", "quantization_mode": "online"}, PLAIN),
    "one layer plain and named": (
        FP8 | {"modules_to_not_convert": ["language_model.layers.1"]},
        layers(weight="F8_E4M3", weight_scale_inv="F32") | {"model.layers.1.mlp.down_proj.weight": "BF16"},
    ),
    "a mask of old versions": (None, PLAIN | {"transformer.h.0.attn.bias": "U8"}),
}


@pytest.mark.parametrize("kind", REAL)
def test_what_a_method_stores_is_admitted_under_its_statement_alone(kind: str) -> None:
    stated, tensors = REAL[kind]
    config = {"num_hidden_layers": 2, "quantization_config": stated}
    assert quantisation_problem(config, stored(tensors)) is None
    if tensors is not PLAIN and "mask" not in kind:
        found = quantisation_problem({"num_hidden_layers": 2}, stored(tensors))
        assert "config.json names no quantisation" in str(found)


METHODS = ("fp8", "mxfp4", "bitsandbytes", "gptq", "awq", "torchao", "hqq", "quark", "unheard-of")


@pytest.mark.parametrize("place", ["quantization_config", "compression_config", "text_config"])
@pytest.mark.parametrize("method", METHODS)
def test_any_method_stated_over_plain_weights_is_refused(method: str, place: str) -> None:
    stated: dict[str, Any] = {"quant_method": method}
    config = {place: {"quantization_config": stated} if place == "text_config" else stated}
    found = quantisation_problem(config, stored(PLAIN))
    assert f"quantised ({method})" in str(found)
    assert "'model.layers.0.mlp.down_proj.weight'" in str(found)


@pytest.mark.parametrize(
    ("stated", "tensors", "why"),
    [
        (FP8, layers(weight="F8_E4M3"), "2 quantised weights have no scale"),
        (BNB, layers(weight="U8"), "none are stored"),
        ({"quant_method": "gptq"}, layers(weight="F8_E4M3", weight_scale_inv="F32"), "gptq, which stores qweight"),
        ({"quant_method": "gptq"}, layers(qweight="I32"), "no scale"),
        (
            FP8,
            layers(weight="F8_E4M3", weight_scale_inv="F32") | {"model.layers.1.mlp.down_proj.weight": "BF16"},
            "stored as BF16, where those of other layers are quantised",
        ),
        (["fp8"], PLAIN, "valid: an object"),
    ],
)
def test_statements_that_do_not_fit_are_refused_with_the_reason(stated: Any, tensors: dict[str, str], why: str) -> None:
    found = quantisation_problem({"num_hidden_layers": 2, "quantization_config": stated}, stored(tensors))
    assert why in str(found)


def test_an_adapter_over_quantised_weights_is_refused_by_the_engine_that_folds_it_in(
    make_checkpoint: Callable[..., Checkpoint], make_adapter: Callable[..., Checkpoint]
) -> None:
    base = make_checkpoint(seed=12)
    config, weights = base.path / "config.json", base.path / "model.safetensors"
    adapter = make_adapter(base)
    tensors = {n: t.to(torch.float8_e4m3fn) if "_proj" in n else t for n, t in load_file(weights).items()}
    scales = {f"{n}_scale_inv": torch.ones(1, 1) for n in tensors if "_proj" in n}
    save_file(tensors | scales, weights, metadata={"format": "pt"})
    config.write_text(json.dumps(json.loads(config.read_text()) | {"quantization_config": FP8}))
    admit(adapter, "vllm", {}).require()
    with pytest.raises(InputError, match="is quantised, so engine transformers can add nothing"):
        admit(adapter, "transformers", {}).require()


def test_plan_and_load_refuse_for_the_same_reason(make_checkpoint: Callable[..., Checkpoint]) -> None:
    point = make_checkpoint(seed=11)
    config, weights = point.path / "config.json", point.path / "model.safetensors"
    tensors = load_file(weights)
    stated = json.dumps(json.loads(config.read_text()) | {"quantization_config": FP8})
    narrow = {n: t.to(torch.float8_e4m3fn) if "_proj" in n else t for n, t in tensors.items()}
    for held, why in ((tensors, "stored plain"), (narrow, "no scale stored")):
        config.write_text(stated)
        save_file(held, weights, metadata={"format": "pt"})
        for engine in ("transformers", "vllm"):
            with pytest.raises(InputError, match=why):
                admit(point, engine, {}).require()
        with pytest.raises(InputError, match=why):
            read_model_config(point.path)
    weights.unlink()
    torch.save(tensors, point.path / "pytorch_model.bin")
    with pytest.raises(InputError, match="stored plain"):
        read_model_config(point.path)
