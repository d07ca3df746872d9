"""Folders of any trainer: what is found, what is named instead of passed over, and what the hub's repositories give."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from hub_server import hub_server

from foreshock.batch.config_file import parse_config
from foreshock.batch.config_inputs import CheckpointsConfig
from foreshock.batch.planning.checkpoints import (
    NoCheckpointYetError,
    discover_checkpoints,
    find_checkpoints,
    one_checkpoint,
)
from foreshock.errors import InputError


def put(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("{}")
    return root


def model(path: Path, tokenizer: bool = True) -> Path:
    return put(path, "config.json", "model.safetensors", *(["tokenizer.json"] if tokenizer else []))


def test_steps_keep_their_names_in_results(tmp_path: Path) -> None:
    for name in ("step-50", "step-25", "final"):
        model(tmp_path / name)
    found = find_checkpoints(CheckpointsConfig(dir=tmp_path)).checkpoints
    assert [(c.name, c.path.name) for c in found] == [
        ("checkpoint-25", "step-25"),
        ("checkpoint-50", "step-50"),
        ("final", "final"),
    ]
    chosen = discover_checkpoints(CheckpointsConfig(dir=tmp_path, steps=("step-25", "final")))  # type: ignore[arg-type]  # as YAML gives it
    assert [c.name for c in chosen] == ["checkpoint-25", "final"]


def test_what_only_looks_like_a_checkpoint_is_named(tmp_path: Path) -> None:
    for name in ("step-25", "step-50-merged", "best"):
        model(tmp_path / name)
    (note,) = find_checkpoints(CheckpointsConfig(dir=tmp_path)).notes
    assert "step-50-merged, best" in note
    assert "checkpoints.pattern" in note


def test_a_folder_of_unknown_names_is_an_error_and_an_empty_one_may_fill(tmp_path: Path) -> None:
    with pytest.raises(NoCheckpointYetError):
        find_checkpoints(CheckpointsConfig(dir=tmp_path))
    model(tmp_path / "ckpt-25")
    with pytest.raises(InputError, match="but these look like some: ckpt-25") as caught:
        find_checkpoints(CheckpointsConfig(dir=tmp_path))
    assert not isinstance(caught.value, NoCheckpointYetError)
    found = find_checkpoints(CheckpointsConfig(dir=tmp_path, pattern=r"ckpt-(?P<step>\d+)"))
    assert [c.name for c in found.checkpoints] == ["checkpoint-25"]


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("_actor/global_step50/mp_rank_00_model_states.pt", "DeepSpeed"),
        ("epoch=3-step=9.ckpt/checkpoint/mp_rank_00_model_states.pt", "DeepSpeed"),
        ("1000/_CHECKPOINT_METADATA", "Orbax"),
        ("epoch=3-step=9.ckpt", "Lightning"),
        ("v0-2025/checkpoint-5/{model}", r"but there are some in v0-2025\n.*for example .*/v0-2025"),
        ("step_5/trainer/__0_0.distcp", r"torch\.distributed"),
        ("step_5/policy/model_world_size_2_rank_0.pt", r"verl \(FSDP\)"),
        ("1000/anything", r"these look like some: 1000\n.*'\(\?P<step>\\d\+\)'"),
    ],
)
def test_a_folder_of_another_layout_says_what_is_in_it(tmp_path: Path, file: str, said: str) -> None:
    if file.endswith("{model}"):
        model(tmp_path / file.removesuffix("{model}"))
    else:
        put(tmp_path, file)
    with pytest.raises(InputError, match=said) as caught:
        discover_checkpoints(CheckpointsConfig(dir=tmp_path))
    assert not isinstance(caught.value, NoCheckpointYetError)


def test_sharded_steps_are_refused_with_the_merging_command(tmp_path: Path) -> None:
    model(tmp_path / "global_step_10" / "actor" / "huggingface")
    put(tmp_path / "global_step_20", "actor/model_world_size_2_rank_0.pt", "actor/huggingface/config.json")
    with pytest.raises(InputError, match=r"verl \(FSDP\).*(\n.*)*verl\.model_merger merge") as caught:
        discover_checkpoints(CheckpointsConfig(dir=tmp_path))
    assert "global_step_20" in str(caught.value)
    (first,) = discover_checkpoints(CheckpointsConfig(dir=tmp_path, steps=(10,)))
    assert first.path == tmp_path / "global_step_10" / "actor" / "huggingface"


def test_several_models_in_one_step_are_refused_and_lost_links_are_named(tmp_path: Path) -> None:
    (tmp_path / "step_9").symlink_to(tmp_path / "purged")
    model(tmp_path / "step_5" / "policy" / "weights" / "model", tokenizer=False)
    put(tmp_path / "step_5", "policy/tokenizer/tokenizer.json")
    found = find_checkpoints(CheckpointsConfig(dir=tmp_path))
    assert found.checkpoints[0].tokenizer_path == tmp_path / "step_5" / "policy" / "tokenizer"
    assert any("not there: step_9" in note for note in found.notes)
    model(tmp_path / "step_5" / "policy")
    discover_checkpoints(CheckpointsConfig(dir=tmp_path))
    model(tmp_path / "step_5" / "actor")
    with pytest.raises(InputError, match=r"holds 2 models \(actor, policy\)"):
        discover_checkpoints(CheckpointsConfig(dir=tmp_path))


def test_a_model_directory_is_one_checkpoint(tmp_path: Path) -> None:
    model(tmp_path / "my-model")
    (only,) = find_checkpoints(CheckpointsConfig(dir=tmp_path / "my-model")).checkpoints
    assert (only.name, only.run, only.path) == ("final", "my-model", tmp_path / "my-model")
    model(tmp_path / "run" / "checkpoints" / "step_30")
    (only,) = find_checkpoints(CheckpointsConfig(dir=tmp_path / "run" / "checkpoints" / "step_30")).checkpoints
    assert (only.name, only.run) == ("checkpoint-30", "run")
    assert one_checkpoint(tmp_path / "run" / "checkpoints" / "step_30").step == 30


def test_the_tokenizer_may_lie_beside_the_steps_or_be_named(tmp_path: Path) -> None:
    model(tmp_path / "step_1", tokenizer=False)
    put(tmp_path, "tokenizer.json")
    (found,) = discover_checkpoints(CheckpointsConfig(dir=tmp_path))
    assert found.tokenizer == tmp_path
    named = put(tmp_path / "tok", "tokenizer.json")
    (found,) = discover_checkpoints(CheckpointsConfig(dir=tmp_path, tokenizer=named))
    assert found.tokenizer_path == named


def test_a_folder_and_a_repository_exclude_each_other(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="dir and repo are both given"):
        parse_config({"checkpoints": {"dir": str(tmp_path), "repo": "org/model"}, "prefill": {"levels": [0]}})
    with pytest.raises(InputError, match="is not a repository on the hub"):
        parse_config({"checkpoints": {"repo": "no slash"}, "prefill": {"levels": [0]}})


_FETCH_THEN_OFFLINE = """
import os, sys
from foreshock.batch.config_inputs import CheckpointsConfig
from foreshock.jobs.model_files.hub_checkpoints import fetch_revisions
repo, steps = sys.argv[1], tuple(int(step) for step in sys.argv[2:]) or None
for _ in range(2):
    print(*(f"{f.name} {f.was_here}" for f in fetch_revisions(repo, None, steps)), sep="; ")
import huggingface_hub.constants
from foreshock.batch.planning.checkpoints import discover_checkpoints
os.environ["HF_ENDPOINT"] = "http://127.0.0.1:1"
for c in discover_checkpoints(CheckpointsConfig(repo=repo)):
    print(c.run, c.name, c.revision, (c.path / "config.json").read_text(), c.tokenizer_path == c.path)
"""


@pytest.mark.parametrize("layout", ["revisions", "subfolders", "one revision"])
def test_a_repository_on_the_hub_is_fetched_once_and_read_offline(tmp_path: Path, layout: str) -> None:
    def files(step: int) -> dict[str, bytes]:
        return {"config.json": b'{"step": %d}' % step, "model.safetensors": b"x", "tokenizer.json": b"{}"}

    repositories: dict[str, Mapping[str, bytes]]
    if layout == "subfolders":
        inside = {f"step_{n}/{name}": body for n in (10, 20, 30) for name, body in files(n).items()}
        repositories = {"models/org/model": inside}
    else:
        repositories = {f"models/org/model@stage1-step{n}-tokens1B": files(n) for n in (10, 20, 30)}
        repositories["models/org/model"] = files(99)
    with hub_server(repositories) as hub:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
        environment |= {"HF_HOME": str(tmp_path / "hf"), "HF_ENDPOINT": hub.address, "HF_HUB_DISABLE_XET": "1"}
        repo = "org/model@stage1-step20-tokens1B" if layout == "one revision" else "org/model"
        steps = [] if layout == "one revision" else ["10", "20"]
        done = subprocess.run(
            [sys.executable, "-c", _FETCH_THEN_OFFLINE, repo, *steps],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    first, second, *found = done.stdout.strip().split("\n")
    assert "True" not in first
    assert "False" not in second
    wanted = [20] if layout == "one revision" else [10, 20]
    for step, line in zip(wanted, found, strict=True):
        assert line.startswith(f"model checkpoint-{step} ")
        assert line.endswith(f'{{"step": {step}}} True')
