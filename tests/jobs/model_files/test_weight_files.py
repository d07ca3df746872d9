"""Which files make a model: those that transformers would load; a choice, or a set that is not whole, is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from foreshock.errors import ForeshockError, InputError
from foreshock.jobs.model_files.adapters import read_adapter
from foreshock.jobs.model_files.fingerprint import check_weights
from foreshock.jobs.model_files.weight_files import further_safetensors, is_adapter, read_config, weight_files

SHARDS = {"model-00001-of-00002.safetensors": b"", "model-00002-of-00002.safetensors": b""}
INDEX = {"model.safetensors.index.json": json.dumps({"weight_map": dict(zip("ab", SHARDS, strict=True))}).encode()}
CONFIG = {"config.json": b"{}"}
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"
ADAPTER = {"adapter_config.json": b"{}", "adapter_model.safetensors": b""}


def folder(path: Path, *files: dict[str, bytes]) -> Path:
    path.mkdir(exist_ok=True)
    for name, content in ((n, c) for each in files for n, c in each.items()):
        (path / name).write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ([{"model.safetensors": b"", "pytorch_model.bin": b"", "value_head.safetensors": b""}], ["model.safetensors"]),
        ([SHARDS, INDEX, {"consolidated.safetensors": b""}], list(SHARDS)),
        ([{"pytorch_model.bin": b"", "pytorch_model_fsdp.bin": b""}], ["pytorch_model.bin"]),
        ([ADAPTER], ["adapter_model.safetensors"]),
        ([{}], []),
    ],
)
def test_the_files_are_those_that_transformers_reads(
    tmp_path: Path, files: list[dict[str, bytes]], expected: list[str]
) -> None:
    assert [file.name for file in weight_files(folder(tmp_path, CONFIG, *files))] == expected


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([SHARDS, INDEX, {"model.safetensors": b""}], "two sets of weights"),
        ([SHARDS], r"all 2 shards are here, but not model\.safetensors\.index\.json"),
        ([{"model-00001-of-00002.safetensors": b""}], "1 of 2 weight files and no index"),
        ([{"weights.safetensors": b""}], "which no loader takes for a model's"),
        ([{"pytorch_model_fsdp.bin": b""}], "pytorch_model_fsdp.bin, which no loader"),
        ([{"model.safetensors.index.json": b'{"weight_map": ["a"]}'}], "no map of tensor names"),
        ([{"model.safetensors.index.json": b'{"weight_map": {"a": 1}}'}], "no map of tensor names"),
        ([{"model.safetensors.index.json": b'{"weight_map": {"a": "b.safetensors"}}'}], r"1 of them missing \(b"),
        ([ADAPTER, {"model.safetensors": b""}], "which of the two is meant"),
        ([{"model.safetensors": LFS}], "is a pointer of Git LFS"),
        ([{"pytorch_model.bin": LFS}], "is a pointer of Git LFS"),
        ([{"config.json": b'{"transformers_weights": "best.safetensors"}'}], "names its weights itself"),
    ],
)
def test_a_choice_or_half_a_set_is_refused(tmp_path: Path, files: list[dict[str, bytes]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        weight_files(folder(tmp_path, CONFIG, *files))


def test_links_to_nothing_and_files_of_no_torch_are_said_to_be_that(tmp_path: Path) -> None:
    linked = folder(tmp_path / "linked", CONFIG)
    (linked / "model.safetensors").symlink_to(tmp_path / "purged")
    with pytest.raises(InputError, match=r"is a link to .*purged, which is not there"):
        weight_files(linked)
    with pytest.raises(InputError, match=r"not a file of torch\.save"):
        check_weights(folder(tmp_path / "text", CONFIG, {"pytorch_model.bin": b"<html>"}))


def test_an_adapter_is_one_whether_its_bases_configuration_lies_beside_it_or_not(tmp_path: Path) -> None:
    assert is_adapter(folder(tmp_path, ADAPTER))
    assert is_adapter(folder(tmp_path, CONFIG))
    assert not is_adapter(folder(tmp_path, {"model.safetensors": b""}))


def test_files_that_vllm_would_read_too_are_named(tmp_path: Path) -> None:
    assert further_safetensors(folder(tmp_path, CONFIG, {"model.safetensors": b"", "optimizer.safetensors": b""})) == (
        "optimizer.safetensors",
    )
    (tmp_path / "model.safetensors").unlink()
    assert further_safetensors(folder(tmp_path, SHARDS, INDEX)) == ()


@pytest.mark.parametrize("read", [lambda file: read_config(file), lambda file: read_adapter(file.parent)])
def test_a_configuration_nested_thousands_deep_is_refused(tmp_path: Path, read: Callable[[Path], object]) -> None:
    file = tmp_path / "adapter_config.json"
    file.write_text("[" * 100_000)
    with pytest.raises(ForeshockError, match="nested too deeply"):
        read(file)
