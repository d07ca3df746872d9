"""Problem sources: files, hub data sets with a revision, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from problem_rows import ADD

from foreshock.errors import InputError
from foreshock.jobs.verify.hub import HubDataset, load_problem_source, parse_hub_source


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data set as the hub lays it out: parquet parts of two splits."""
    data = tmp_path / "data"
    data.mkdir()
    for part in range(2):
        table = pa.Table.from_pylist([ADD | {"id": f"train-{part}"}])
        pq.write_table(table, data / f"train-0000{part}-of-00002.parquet")
    (tmp_path / "eval.jsonl").write_text(json.dumps(ADD | {"id": "eval-0"}) + "\n")
    return tmp_path


def test_a_split_of_a_hub_data_set_is_read_over_its_parts(folder: Path) -> None:
    asked: list[HubDataset] = []

    def download(dataset: HubDataset) -> Path:
        asked.append(dataset)
        return folder

    source = "hf://datasets/some-org/some.problems@8f1c2d3"
    assert [one.id for one in load_problem_source(source, "train", download)] == ["train-0", "train-1"]
    assert [one.id for one in load_problem_source(source, "eval", download)] == ["eval-0"]
    assert asked == [HubDataset("some-org/some.problems", "8f1c2d3")] * 2


def test_a_missing_split_names_those_there_are(folder: Path) -> None:
    for split in ("test", None):
        with pytest.raises(InputError, match=f"no split {split!r}; there: eval, train"):
            load_problem_source("hf://o/n@v1", split, lambda _: folder)


def test_a_revision_is_required() -> None:
    with pytest.raises(InputError, match=r"names no revision; valid: hf://datasets/ORGANISATION/NAME@REVISION"):
        parse_hub_source("hf://datasets/o/n")


def test_an_address_that_is_not_understood_is_refused() -> None:
    with pytest.raises(InputError, match="is not understood"):
        parse_hub_source("hf://just-a-name")


def test_a_file_is_a_source_too(folder: Path) -> None:
    assert [one.id for one in load_problem_source(str(folder / "eval.jsonl"))] == ["eval-0"]


def test_a_data_set_that_cannot_be_reached_names_the_next_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=r"could not get data set o/n at v1.*\n.*`foreshock prefetch CONFIG.yaml`"):
        load_problem_source("hf://o/n@v1", "train")
