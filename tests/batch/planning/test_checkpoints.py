"""Discovery finds checkpoints by name, refuses half-written ones and reads settings of earlier runs."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from foreshock.batch.config_inputs import CheckpointsConfig
from foreshock.batch.earlier_runs import config_from_sensitivity_run, newest_run, settings_from_sensitivity_run
from foreshock.batch.planning.checkpoints import discover_checkpoints, list_checkpoints
from foreshock.errors import InputError


def make_checkpoint(folder: Path, name: str) -> Path:
    path = folder / name
    path.mkdir(parents=True)
    (path / "config.json").write_text("{}")
    (path / "model.safetensors").write_bytes(b"")
    return path


def test_checkpoints_are_found_by_step_with_final_last(tmp_path: Path) -> None:
    for name in ("checkpoint-10", "checkpoint-9", "final", "checkpoint-x", "logs"):
        make_checkpoint(tmp_path, name)
    assert [c.name for c in list_checkpoints(tmp_path, "sft")] == ["checkpoint-9", "checkpoint-10", "final"]


def test_steps_select_and_unknown_ones_are_named(tmp_path: Path) -> None:
    for name in ("checkpoint-1", "checkpoint-2", "final"):
        make_checkpoint(tmp_path, name)
    config = CheckpointsConfig(dir=tmp_path, steps=("final", 1))
    assert [c.name for c in discover_checkpoints(config)] == ["checkpoint-1", "final"]
    with pytest.raises(InputError, match="no checkpoint for 3; present: 1, 2, final"):
        discover_checkpoints(CheckpointsConfig(dir=tmp_path, steps=(3,)))


@pytest.mark.parametrize(("lacking", "says"), [("model.safetensors", "no weights"), ("config.json", "no config.json")])
def test_a_checkpoint_that_cannot_be_loaded_is_an_error_now(tmp_path: Path, lacking: str, says: str) -> None:
    path = make_checkpoint(tmp_path, "checkpoint-1")
    (path / lacking).unlink()
    with pytest.raises(InputError, match=says) as caught:
        discover_checkpoints(CheckpointsConfig(dir=tmp_path))
    assert str(path) in str(caught.value)


def test_an_empty_or_absent_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no checkpoint-N or final directory"):
        list_checkpoints(tmp_path, "sft")
    with pytest.raises(InputError, match="no such checkpoint folder"):
        list_checkpoints(tmp_path / "absent", "sft")


def old_run(folder: Path, **changes: object) -> Path:
    folder.mkdir(parents=True)
    document = {
        "checkpoint_dir": "/models/sft/checkpoints",
        "checkpoints": "10, 20,final",
        "prefill_tokens_sweep": "0,10,30,100",
        "prefill_source": "/data/traces.jsonl",
        "dataset": "org/problems",
        "split": "eval",
        "attempts": 5,
        "temperature": 0.7,
    } | changes
    (folder / "config.yaml").write_text(yaml.safe_dump(document))
    return folder


def test_an_earlier_tools_run_gives_a_configuration(tmp_path: Path) -> None:
    config = config_from_sensitivity_run(old_run(tmp_path / "run"), {"sampling": {"max_tokens": 64}})
    assert config.checkpoints.dir == Path("/models/sft/checkpoints")
    assert config.checkpoints.steps == (10, 20, "final")
    assert config.prefill.levels == (0, 10, 30, 100)
    assert (config.sampling.attempts, config.sampling.temperature, config.sampling.max_tokens) == (5, 0.7, 64)
    assert (config.problems.source, config.problems.split) == ("org/problems", "eval")


def test_settings_may_lie_below_args(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    arguments = {"checkpoint_dir": "/m", "prefill_tokens_sweep": "0"}
    (folder / "config.yaml").write_text(yaml.safe_dump({"command": "x", "args": arguments}))
    assert settings_from_sensitivity_run(folder)["checkpoints"] == {"dir": "/m", "steps": "all"}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"checkpoint_dir": None}, "lacks checkpoint_dir"),
        ({"prefill_tokens_sweep": None}, "lacks prefill_tokens_sweep"),
        ({"checkpoints": "10,last"}, "'last' is not a step"),
    ],
)
def test_a_run_that_lacks_settings_is_refused(tmp_path: Path, changes: dict[str, object], says: str) -> None:
    with pytest.raises(InputError, match=says):
        config_from_sensitivity_run(old_run(tmp_path / "run", **changes), {})


def test_the_newest_run_is_the_default(tmp_path: Path) -> None:
    for name in ("a-20260101-000000-abc1234", "b-20260301-000000-abc1234", "c-20260201-000000-abc1234"):
        old_run(tmp_path / "prefill_sensitivity" / name)
    assert newest_run(tmp_path).name == "b-20260301-000000-abc1234"
    with pytest.raises(InputError, match="no runs here"):
        newest_run(tmp_path / "elsewhere")
