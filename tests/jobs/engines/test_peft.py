"""Adapters that peft itself trained and saved score as peft scores them, or are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from foreshock.errors import InputError
from foreshock.jobs.engines.base import ScoreRequest
from foreshock.jobs.engines.transformers import TransformersEngine
from foreshock.jobs.records.spec import Checkpoint

peft = pytest.importorskip("peft", reason="the reference for adapters: pip install peft")

IDS = tuple((7 * i + 3) % 90 for i in range(30))
EXACT: dict[str, dict[str, Any]] = {
    "plain": {},
    "rank-stabilised": {"use_rslora": True},
    "patterns": {"rank_pattern": {"v_proj": 8, r"layers\.1\.mlp\.down_proj": 2}, "alpha_pattern": {"q_proj": 3}},
    "gaussian": {"init_lora_weights": "gaussian"},
    "orthogonal": {"init_lora_weights": "orthogonal"},
    "some layers": {"layers_to_transform": [1]},
    "whole head": {"modules_to_save": ["lm_head"]},
    "embeddings": {"target_modules": ["q_proj", "embed_tokens"]},
}
REFUSED: dict[str, dict[str, Any]] = {
    "pissa": {"init_lora_weights": "pissa"},
    "olora": {"init_lora_weights": "olora"},
    "dora": {"use_dora": True},
    "biases": {"bias": "all"},
    "token rows": {"trainable_token_indices": [1, 2]},
}


def trained(base: Checkpoint, folder: Path, **settings: Any) -> tuple[Checkpoint, list[float]]:
    """An adapter as peft saves it, after a step of noise, and its scores by peft."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base.path, dtype=torch.float32)
    chosen = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj", "down_proj"], "task_type": "CAUSAL_LM"}
    adapted = peft.get_peft_model(model, peft.LoraConfig(**chosen | settings)).eval()
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter += 0.2 * torch.randn_like(parameter)
        logprobs = adapted(torch.tensor([IDS])).logits[0].double().log_softmax(-1)
    path = folder / "step-1"
    adapted.save_pretrained(path)
    file = path / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"base_model_name_or_path": str(base.path)}))
    scores = [float(logprobs[i - 1, IDS[i]]) for i in range(5, len(IDS))]
    return Checkpoint("run", 1, path, tokenizer=base.path), scores


@pytest.mark.filterwarnings("ignore")  # peft's own
@pytest.mark.parametrize("name", EXACT)
def test_what_is_served_is_exact_alone_and_after_a_full_model(
    make_checkpoint: Callable[..., Checkpoint], tmp_path: Path, name: str
) -> None:
    base = make_checkpoint(seed=2)
    adapter, expected = trained(base, tmp_path, **EXACT[name])
    for before in ((), (base,)):
        with TransformersEngine(device="cpu", threads=1) as engine:
            for checkpoint in (*before, adapter):
                engine.load(checkpoint)
            (found,) = engine.score([ScoreRequest(0, IDS, 5)], 1.0)
        assert list(found.logprobs) == pytest.approx(expected, abs=1e-4)


@pytest.mark.filterwarnings("ignore")  # peft's own
def test_a_base_whose_experts_are_joined_on_loading_takes_an_adapter_of_other_modules(
    make_checkpoint: Callable[..., Checkpoint], tmp_path: Path
) -> None:
    base = make_checkpoint("qwen3_moe", seed=2)
    adapter, expected = trained(base, tmp_path, target_modules=["q_proj", "v_proj", "lm_head"])
    with TransformersEngine(device="cpu", threads=1) as engine:
        found = []
        for checkpoint in (adapter, base, adapter):
            engine.load(checkpoint)
            found.append(next(iter(engine.score([ScoreRequest(0, IDS, 5)], 1.0))).logprobs)
        assert engine.swaps == 0
    assert found[0] == found[2] == pytest.approx(expected, abs=1e-4)
    assert found[1] != pytest.approx(expected, abs=0.1)


@pytest.mark.filterwarnings("ignore")  # peft's own
@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_is_refused(make_checkpoint: Callable[..., Checkpoint], tmp_path: Path, name: str) -> None:
    adapter, _ = trained(make_checkpoint(seed=2), tmp_path, **REFUSED[name])
    with TransformersEngine(device="cpu") as engine, pytest.raises(InputError):
        engine.load(adapter)
