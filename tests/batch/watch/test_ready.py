"""When a checkpoint directory is whole: every way in which one that is being written is not."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from foreshock.batch.watch.ready import Readiness, Settling, lacking, signature
from foreshock.jobs.records.spec import Checkpoint

LONG_AGO = time.time() - 3600


def at(path: Path) -> Checkpoint:
    return Checkpoint("run", 1, path)


@pytest.fixture
def whole(tmp_path: Path, tiny: Checkpoint) -> Path:
    """A whole checkpoint whose files are old."""
    path = tmp_path / "checkpoint-1"
    shutil.copytree(tiny.path, path)
    for file in path.iterdir():
        os.utime(file, (LONG_AGO, LONG_AGO))
    return path


def test_an_old_whole_checkpoint_is_ready_at_the_first_look(whole: Path) -> None:
    assert Settling(30).look(at(whole)).state is Readiness.READY


def test_a_fresh_file_makes_it_wait_until_it_has_rested(whole: Path) -> None:
    (whole / "config.json").touch()
    settling = Settling(0.3)
    assert settling.look(at(whole)).state is Readiness.SETTLING
    time.sleep(0.35)
    assert settling.look(at(whole)).state is Readiness.READY


def test_shards_that_are_still_written_are_not_an_error_yet(tmp_path: Path) -> None:
    shard = tmp_path / "checkpoint-1" / "pytorch_model_fsdp_0" / "__0_0.distcp"
    shard.parent.mkdir(parents=True)
    shard.write_bytes(b"1")
    settling = Settling(30)
    assert settling.look(at(tmp_path / "checkpoint-1")).state is Readiness.SETTLING
    os.utime(shard, (LONG_AGO, LONG_AGO))
    look = Settling(30).look(at(tmp_path / "checkpoint-1"))
    assert look.state is Readiness.SHARDED
    assert "accelerate merge-weights" in look.reason


def test_an_adapter_without_its_base_is_not_waited_for(tmp_path: Path) -> None:
    """Nobody is writing it: planning says what is wrong."""
    adapter = tmp_path / "checkpoint-1"
    adapter.mkdir()
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "base_model_name_or_path": "/no/such/base"}
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    save_file({"base_model.model.x.lora_A.weight": torch.ones(4, 4)}, adapter / "adapter_model.safetensors")
    assert Settling(0).look(at(adapter)).state is Readiness.READY
    assert "base model '/no/such/base' is not here" in str(lacking(at(adapter)))


def test_a_file_seen_changing_waits_even_if_its_copy_kept_an_old_time(whole: Path) -> None:
    settling = Settling(30)
    settling.look(at(whole))
    extra = whole / "generation_config.json"
    extra.write_text('{"top_k": 1}')
    os.utime(extra, (LONG_AGO, LONG_AGO))
    assert settling.look(at(whole)).state is Readiness.SETTLING


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_file_cut_short_keeps_it_back(whole: Path, name: str) -> None:
    data = (whole / name).read_bytes()
    for size in (0, 1, 9, len(data) // 2, len(data) - 2):
        (whole / name).write_bytes(data[:size])
        look = Settling(0).look(at(whole))
        assert (look.state, look.rested) == (Readiness.INCOMPLETE, True), size
        assert not Settling(30).look(at(whole)).rested
    (whole / name).write_bytes(data)
    assert Settling(0).look(at(whole)).state is Readiness.READY


@pytest.mark.parametrize("names", [["config.json"], ["model.safetensors"], ["tokenizer.json", "tokenizer_config.json"]])
def test_a_missing_file_is_named(whole: Path, names: list[str]) -> None:
    for name in names:
        (whole / name).unlink()
    assert names[0].split(".")[-1 if "safe" in names[0] else 0] in str(lacking(at(whole)))


def test_shards_wait_for_their_index_and_the_index_for_its_shards(whole: Path) -> None:
    data = (whole / "model.safetensors").read_bytes()
    (whole / "model.safetensors").rename(whole / "model-00001-of-00002.safetensors")
    assert "1 of 2 weight files and no index" in str(lacking(at(whole)))
    second = whole / "model-00002-of-00002.safetensors"
    weight_map = {"a": "model-00001-of-00002.safetensors", "b": second.name}
    (whole / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert "1 of them missing" in str(lacking(at(whole)))
    second.write_bytes(data[:-8])
    assert "promises" in str(lacking(at(whole)))
    second.write_bytes(data)
    assert lacking(at(whole)) is None


def test_a_torch_file_without_its_end_is_not_whole(whole: Path) -> None:
    import torch

    (whole / "model.safetensors").unlink()
    weights = whole / "pytorch_model.bin"
    torch.save({"a": torch.zeros(100)}, weights)
    assert lacking(at(whole)) is None
    weights.write_bytes(weights.read_bytes()[:-100])
    assert "archive has no end" in str(lacking(at(whole)))


def test_what_the_trainer_keeps_beside_the_model_does_not_matter(whole: Path) -> None:
    before = signature(whole)
    (whole / "trainer_state.json").write_text("{ half")
    (whole / "optimizer.pt").write_bytes(b"half")
    assert signature(whole) == before
    assert Settling(30).look(at(whole)).state is Readiness.READY
