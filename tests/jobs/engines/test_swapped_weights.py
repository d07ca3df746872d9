"""The scores of a checkpoint do not depend on what was loaded before it, whatever the layout of either."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from foreshock.errors import ForeshockError
from foreshock.jobs.engines.base import ScoreRequest
from foreshock.jobs.engines.decoding import choose_mode
from foreshock.jobs.engines.forward import LogitsModel
from foreshock.jobs.engines.transformers import TransformersEngine
from foreshock.jobs.model_files.fingerprint import CheckpointError
from foreshock.jobs.records.spec import Checkpoint

IDS = tuple((7 * i + 3) % 90 for i in range(24))


def scores(engine: TransformersEngine, checkpoint: Checkpoint) -> tuple[float, ...]:
    engine.load(checkpoint)
    (result,) = engine.score([ScoreRequest(0, IDS, 4)], 1.0)
    assert result.error is None
    return result.logprobs


def variant(source: Checkpoint, folder: Path, change: Callable[[dict[str, Any]], None], **config: Any) -> Checkpoint:
    """A copy of a checkpoint with other tensors and configuration."""
    shutil.copytree(source.path, folder)
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    stated = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(stated | config))
    return Checkpoint("run", int(folder.name.rpartition("-")[2]), folder)


@pytest.fixture(scope="module")
def layouts(
    make_checkpoint: Callable[..., Checkpoint],
    make_adapter: Callable[..., Checkpoint],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Checkpoint]:
    folder = tmp_path_factory.mktemp("layouts")
    tied = make_checkpoint(seed=1, tie_word_embeddings=True)
    untied = make_checkpoint(seed=2)

    def store_twice(tensors: dict[str, Any]) -> None:
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()

    def differ(tensors: dict[str, Any]) -> None:
        tensors["lm_head.weight"] = tensors["lm_head.weight"] + 0.5 * torch.randn_like(tensors["lm_head.weight"])

    equal = variant(tied, folder / "checkpoint-3", store_twice)
    return {
        "tied": tied,
        "untied": untied,
        "tied, stored twice": equal,
        "tied flag, two tensors": variant(equal, folder / "checkpoint-4", differ),
        "adapter of tied": make_adapter(tied, 5),
        "adapter of untied": make_adapter(untied, 6),
        "tied, others": make_checkpoint(seed=7, tie_word_embeddings=True),
    }


def test_no_order_of_loading_changes_a_score(layouts: dict[str, Checkpoint]) -> None:
    fresh = {}
    for name, checkpoint in layouts.items():
        with TransformersEngine(device="cpu", threads=1) as engine:
            fresh[name] = scores(engine, checkpoint)
    assert len(set(fresh.values())) == len(fresh) - 1  # "tied" and "tied, stored twice" are one model
    with TransformersEngine(device="cpu", threads=1) as engine:
        for first, second in permutations(layouts, 2):
            scores(engine, layouts[first])
            assert scores(engine, layouts[second]) == fresh[second], f"{second} after {first}"
        assert engine.swaps > 0


def test_an_adapter_of_one_end_of_tied_weights_is_refused(
    layouts: dict[str, Checkpoint], make_adapter: Callable[..., Checkpoint]
) -> None:
    adapter = make_adapter(layouts["tied"], 8, modules=("model.embed_tokens",))
    with TransformersEngine(device="cpu") as engine, pytest.raises(ForeshockError, match="its base ties output layer"):
        engine.load(adapter)


def test_weights_that_are_not_finite_are_refused_at_load(layouts: dict[str, Checkpoint], tmp_path: Path) -> None:
    def diverge(tensors: dict[str, Any]) -> None:
        tensors["model.norm.weight"] = tensors["model.norm.weight"] * float("nan")

    bad = variant(layouts["untied"], tmp_path / "checkpoint-9", diverge)
    with TransformersEngine(device="cpu") as engine:
        with pytest.raises(CheckpointError, match="logits are not finite after any prompt"):
            engine.load(bad)
        engine.load(layouts["untied"])
        with pytest.raises(CheckpointError, match="not finite"):  # swapped in, too
            engine.load(bad)
        with pytest.raises(RuntimeError, match="no checkpoint is loaded"):
            list(engine.score([ScoreRequest(0, IDS, 4)], 1.0))


def test_tensors_that_the_model_has_no_place_for_are_named_for_what_they_are(
    layouts: dict[str, Checkpoint], tmp_path: Path
) -> None:
    def with_bias(tensors: dict[str, Any]) -> None:
        tensors["model.layers.0.self_attn.q_proj.bias"] = torch.ones(4)
        tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(8)

    def with_end(tensors: dict[str, Any]) -> None:
        tensors["lm_head.bias"] = torch.ones(4)

    def cut(tensors: dict[str, Any]) -> None:
        tensors["lm_head.weight"] = tensors["lm_head.weight"][:9]

    def wrapped(tensors: dict[str, Any]) -> None:
        tensors |= {f"_orig_mod.{name}": tensors.pop(name) for name in list(tensors)}

    def with_value_head(tensors: dict[str, Any]) -> None:
        tensors["v_head.summary.weight"] = torch.ones(1, 4)

    with TransformersEngine(device="cpu") as engine:
        for change, why in (
            (with_bias, r"1 tensor of its layers.*q_proj\.bias"),
            (with_end, r"1 tensor of its layers or ends.*lm_head\.bias"),
            (cut, r"1 of the wrong shape, first 'lm_head\.weight' \(9x"),
            (wrapped, "a wrapper of the trainer"),
        ):
            with pytest.raises(CheckpointError, match=why):
                engine.load(variant(layouts["untied"], tmp_path / f"{change.__name__}-1", change))
        engine.load(variant(layouts["untied"], tmp_path / "value-1", with_value_head))


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError()])
def test_memory_that_runs_out_says_nothing_about_the_model(
    layouts: dict[str, Checkpoint], error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoModelForCausalLM

    model = LogitsModel(AutoModelForCausalLM.from_pretrained(layouts["tied"].path), torch.device("cpu"))

    def run_out(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(model, "_call", run_out)
    with pytest.raises(type(error)):
        choose_mode(model)
