"""Checkpoint fingerprints: what changes them, what does not, and which directories are refused."""

from __future__ import annotations

import json
import shutil
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file, save_file

from foreshock.jobs.model_files import fingerprint
from foreshock.jobs.model_files.adapters import is_adapter
from foreshock.jobs.model_files.fingerprint import CheckpointError, check_checkpoint, model_fingerprint, stated_dtype
from foreshock.jobs.records.spec import Checkpoint


@pytest.fixture
def checkpoint(tiny: Checkpoint, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny.path, tmp_path / "checkpoint-1"))


def test_equal_content_has_one_fingerprint_wherever_it_lies(checkpoint: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(checkpoint, tmp_path / "elsewhere"))
    assert model_fingerprint(copy) == model_fingerprint(checkpoint)
    assert len(model_fingerprint(copy)) == 64


def test_names_and_versions_in_the_configuration_do_not_matter(checkpoint: Path) -> None:
    before = model_fingerprint(checkpoint)
    config = json.loads((checkpoint / "config.json").read_text())
    changed = dict(reversed(config.items())) | {"transformers_version": "0", "_name_or_path": "x"}
    (checkpoint / "config.json").write_text(json.dumps(changed))
    assert model_fingerprint(checkpoint) == before
    (checkpoint / "config.json").write_text(json.dumps(config | {"rope_theta": 5.0}))
    assert model_fingerprint(checkpoint) != before


def test_every_byte_of_a_small_file_counts(checkpoint: Path) -> None:
    before = model_fingerprint(checkpoint)
    weights = checkpoint / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert model_fingerprint(checkpoint) != before


def test_training_steps_differ(make_checkpoint: Callable[..., Checkpoint]) -> None:
    assert model_fingerprint(make_checkpoint(seed=1).path) != model_fingerprint(make_checkpoint(seed=2).path)


def large_safetensors(path: Path, size: int) -> None:
    header = json.dumps({"w": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    with path.open("wb") as stream:
        stream.write(struct.pack("<Q", len(header)) + header)
        stream.truncate(8 + len(header) + size)


def test_large_files_are_sampled_and_fast(checkpoint: Path) -> None:
    weights = checkpoint / "model.safetensors"
    large_safetensors(weights, 2**32)  # sparse: takes no room on disk
    started = time.process_time()
    before = model_fingerprint(checkpoint)
    assert time.process_time() - started < 5
    with weights.open("r+b") as stream:
        stream.seek(-10, 2)
        stream.write(b"changed")
    assert model_fingerprint(checkpoint) != before


def test_a_change_anywhere_in_a_tensor_sized_region_of_a_large_file_is_seen(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fingerprint, "WHOLE_FILE_LIMIT", 1024)
    before = model_fingerprint(checkpoint)
    weights = checkpoint / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 4096] = bytes(4096)
    weights.write_bytes(content)
    assert model_fingerprint(checkpoint) != before


@pytest.mark.parametrize(
    ("remove", "message"),
    [
        (["model.safetensors"], r"missing weights \(\*\.safetensors"),
        (["config.json"], r"missing config\.json"),
        (["tokenizer.json", "tokenizer_config.json"], r"missing a tokenizer \(tokenizer\.json"),
        (["config.json", "model.safetensors"], r"missing config\.json and weights"),
    ],
)
def test_incomplete_directories_say_what_is_missing(checkpoint: Path, remove: list[str], message: str) -> None:
    for name in remove:
        (checkpoint / name).unlink()
    with pytest.raises(CheckpointError, match=message) as caught:
        check_checkpoint(checkpoint)
    assert str(checkpoint) in str(caught.value)
    assert "save_pretrained" in str(caught.value)


def test_absent_directories_and_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="does not exist"):
        check_checkpoint(tmp_path / "none")
    (tmp_path / "file").write_text("x")
    with pytest.raises(CheckpointError, match="is a file"):
        check_checkpoint(tmp_path / "file")


@pytest.mark.parametrize("keep", [4, 40, -100])
def test_truncated_weights_are_refused(checkpoint: Path, keep: int) -> None:
    weights = checkpoint / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match="copy the checkpoint again"):
        model_fingerprint(checkpoint)


def test_weights_of_another_format_are_refused(checkpoint: Path) -> None:
    (checkpoint / "model.safetensors").write_bytes(struct.pack("<Q", 3) + b"abc")
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        model_fingerprint(checkpoint)


def test_a_shard_missing_from_the_index_is_named(checkpoint: Path) -> None:
    (checkpoint / "model.safetensors").rename(checkpoint / "model-1.safetensors")
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (checkpoint / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=r"1 of them missing \(model-2\.safetensors\)"):
        model_fingerprint(checkpoint)
    shutil.copy(checkpoint / "model-1.safetensors", checkpoint / "model-2.safetensors")
    assert [p.name for p in check_checkpoint(checkpoint)] == ["model-1.safetensors", "model-2.safetensors"]
    tensors = load_file(checkpoint / "model-2.safetensors")
    save_file({name: 2 * tensor for name, tensor in tensors.items()}, checkpoint / "model-2.safetensors")
    with pytest.raises(CheckpointError, match=r"is in model-1\.safetensors and in model-2\.safetensors with other"):
        check_checkpoint(checkpoint)


def test_a_broken_configuration_is_named_with_its_line(checkpoint: Path) -> None:
    (checkpoint / "config.json").write_text('{\n "a": \n')
    with pytest.raises(CheckpointError, match=r"config\.json:3: not valid JSON"):
        model_fingerprint(checkpoint)


def test_an_adapters_fingerprint_covers_its_files_and_its_base(
    checkpoint: Path,
    make_adapter: Callable[..., Checkpoint],
    make_checkpoint: Callable[..., Checkpoint],
    tmp_path: Path,
) -> None:
    assert not is_adapter(checkpoint)
    base = Checkpoint("run", 1, checkpoint)
    adapter = make_adapter(base).path
    assert is_adapter(adapter)
    before = model_fingerprint(adapter)
    settings = json.loads((adapter / "adapter_config.json").read_text())

    moved = shutil.copytree(checkpoint, tmp_path / "moved")
    (adapter / "adapter_config.json").write_text(json.dumps(settings | {"base_model_name_or_path": str(moved)}))
    assert model_fingerprint(adapter) == before

    (adapter / "adapter_config.json").write_text(json.dumps(settings | {"lora_alpha": 9}))
    assert model_fingerprint(adapter) != before

    (adapter / "adapter_config.json").write_text(json.dumps(settings))
    other = make_checkpoint(seed=5).path
    shutil.copy(other / "model.safetensors", checkpoint / "model.safetensors")
    assert model_fingerprint(adapter) != before


@pytest.mark.parametrize(
    ("config", "dtype"),
    [
        ({"dtype": "bfloat16"}, "bfloat16"),
        ({"torch_dtype": "torch.float16"}, "float16"),
        ({"dtype": "float32", "text_config": {"dtype": "bfloat16"}}, "bfloat16"),
        ({}, "float32"),
        ({"quantization_config": {"quant_method": "mxfp4"}}, "bfloat16"),
    ],
)
def test_a_configurations_data_type_is_read_in_old_and_new_spelling(config: dict[str, Any], dtype: str) -> None:
    assert stated_dtype(config) == dtype


def test_a_checkpoint_that_is_not_there_is_told_from_those_that_are(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"does not exist[^\n]*\n  -> .* holds checkpoint-1$"):
        check_checkpoint(checkpoint.parent / "checkpoint-7")
    with pytest.raises(CheckpointError, match=r"\*\.safetensors$"):
        check_checkpoint(tmp_path / "nowhere" / "checkpoint-7")
