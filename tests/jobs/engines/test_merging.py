"""Folding an adapter into its base: exact where it fits, refused where it does not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from foreshock.jobs.engines.merging import merged_tensors, write_merged
from foreshock.jobs.model_files.adapters import AdapterError, read_adapter
from foreshock.jobs.model_files.fingerprint import model_fingerprint
from foreshock.jobs.prompts.tokenizer import load_tokenizer
from foreshock.jobs.records.spec import Checkpoint

MakeAdapter = Callable[..., Checkpoint]


def weights_of(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    return load_file(checkpoint.path / "model.safetensors")


def add(adapter: Checkpoint, **tensors: torch.Tensor) -> None:
    file = adapter.path / "adapter_model.safetensors"
    save_file(load_file(file) | {name.replace("__", "."): t for name, t in tensors.items()}, file)


def test_only_the_adapted_modules_change_and_by_scale_b_a(tiny: Checkpoint, make_adapter: MakeAdapter) -> None:
    adapter = make_adapter(tiny, 1)
    factors = load_file(adapter.path / "adapter_model.safetensors")
    base = weights_of(tiny)
    merged = dict(merged_tensors(read_adapter(adapter.path)))
    assert merged.keys() == base.keys()
    for name, tensor in merged.items():
        key = f"base_model.model.{name.removesuffix('.weight')}.lora_A.weight"
        change = factors[key.replace("lora_A", "lora_B")] @ factors[key] * 2 if key in factors else 0
        torch.testing.assert_close(tensor, base[name] + change)


def test_the_bases_type_is_kept(tiny: Checkpoint, make_adapter: MakeAdapter, tmp_path: Path) -> None:
    base = Checkpoint("run", 0, tmp_path)
    for file in tiny.path.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    save_file({k: v.to(torch.bfloat16) for k, v in weights_of(tiny).items()}, tmp_path / "model.safetensors")
    merged = dict(merged_tensors(read_adapter(make_adapter(base, 2).path)))
    assert {tensor.dtype for tensor in merged.values()} == {torch.bfloat16}


def test_whole_modules_are_replaced_and_embeddings_adapted(tiny: Checkpoint, make_adapter: MakeAdapter) -> None:
    adapter = make_adapter(tiny, 3, modules_to_save=["lm_head"])
    base = weights_of(tiny)
    vocabulary, hidden = base["model.embed_tokens.weight"].shape
    new_head = torch.randn(vocabulary, hidden)
    a, b = torch.randn(4, vocabulary), torch.randn(hidden, 4)
    add(
        adapter,
        base_model__model__lm_head__weight=new_head,
        base_model__model__model__embed_tokens__lora_embedding_A=a,
        base_model__model__model__embed_tokens__lora_embedding_B=b,
    )
    merged = dict(merged_tensors(read_adapter(adapter.path)))
    assert torch.equal(merged["lm_head.weight"], new_head)
    torch.testing.assert_close(merged["model.embed_tokens.weight"], base["model.embed_tokens.weight"] + 2 * (b @ a).T)


def test_a_merged_checkpoint_is_a_checkpoint(tiny: Checkpoint, make_adapter: MakeAdapter, tmp_path: Path) -> None:
    folder = write_merged(read_adapter(make_adapter(tiny, 4).path), tmp_path / "merged")
    assert model_fingerprint(folder) != model_fingerprint(tiny.path)
    assert load_tokenizer(folder).get_vocab() == load_tokenizer(tiny.path).get_vocab()


@pytest.mark.parametrize(
    ("tensor", "shape", "message"),
    [
        ("base_model__model__model__layers__9__q__lora_A__weight", (4, 64), "has only factor A"),
        ("base_model__model__elsewhere__weight", (2, 2), "have no place in the base"),
        ("base_model__model__lm_head__weight", (2, 2), r"has shape \[2, 2\]"),
        ("base_model__model__x__lora_magnitude_vector", (2,), "is not a plain LoRA factor"),
    ],
)
def test_a_tensor_left_over_is_an_error(
    tiny: Checkpoint, make_adapter: MakeAdapter, tensor: str, shape: tuple[int, ...], message: str
) -> None:
    adapter = make_adapter(tiny, 5)
    add(adapter, **{tensor: torch.zeros(shape)})
    with pytest.raises(AdapterError, match=message):
        list(merged_tensors(read_adapter(adapter.path)))
