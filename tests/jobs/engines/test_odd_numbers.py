"""Numbers that hardly any trained model has are said of it; a model that says nothing of any token is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from foreshock.jobs.engines.odd_numbers import odd_numbers
from foreshock.jobs.engines.transformers import TransformersEngine
from foreshock.jobs.model_files.fingerprint import CheckpointError
from foreshock.jobs.records.spec import Checkpoint


def test_what_is_not_finite_and_matrices_of_zeros_are_named() -> None:
    model = torch.nn.Sequential(torch.nn.Embedding(9, 4), torch.nn.Linear(4, 4), torch.nn.LayerNorm(4)).bfloat16()
    torch.nn.init.zeros_(model[1].bias)  # as most are
    assert odd_numbers(model) == []
    with torch.no_grad():
        model[0].weight[8, 1] = torch.nan
        model[2].weight[0] = torch.inf
        model[1].weight.zero_()
    assert odd_numbers(model) == [
        "weights: numbers that are not finite in 2 tensors, first 0.weight",
        "weights: only zeros in 1 tensor, first 1.weight",
    ]


def test_a_token_without_a_number_is_noted_and_a_model_of_zeros_is_refused(tiny: Checkpoint, tmp_path: Path) -> None:
    odd = Checkpoint("run", 1, tmp_path / "checkpoint-1")
    shutil.copytree(tiny.path, odd.path)
    file = odd.path / "model.safetensors"
    tensors = load_file(file)
    tensors["model.embed_tokens.weight"][-1] = torch.nan
    save_file(tensors, file, metadata={"format": "pt"})
    with TransformersEngine(device="cpu") as engine:
        engine.load(odd)
        assert engine.notes == ["weights: numbers that are not finite in 1 tensor, first model.embed_tokens.weight"]
        engine.load(tiny)  # swapped into the same model
        assert engine.notes == []
        save_file({n: torch.zeros_like(t) for n, t in tensors.items()}, file, metadata={"format": "pt"})
        with pytest.raises(CheckpointError, match="every token the same logit"):
            engine.load(odd)
