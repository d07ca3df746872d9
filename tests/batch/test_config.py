"""A configuration is refused whole, with every error, its line and what would be valid."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from foreshock.batch.config import RunConfig
from foreshock.batch.config_file import load_config, parse_config, valid_keys
from foreshock.errors import InputError

MINIMAL = {"checkpoints": {"dir": "ckpts"}, "prefill": {"levels": [0]}}


def refuse(tmp_path: Path, text: str) -> str:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        load_config(path)
    return str(caught.value)


def test_every_error_is_reported_at_once_with_its_line(tmp_path: Path) -> None:
    message = refuse(
        tmp_path,
        "name: x\ncheckpoints:\n  dirr: a\nprefill:\n  levels: '0,ten'\n  sorce: b\nsampling:\n  attempts: 0\n",
    )
    assert "5 errors" in message
    assert "run.yaml:2: missing key 'checkpoints.dir'" in message
    assert "run.yaml:3: unknown key 'checkpoints.dirr'; did you mean 'dir'? (valid here: dir, " in message
    assert "run.yaml:5: prefill.levels.1" in message
    assert "run.yaml:6: unknown key 'prefill.sorce'; did you mean 'source'?" in message
    assert "run.yaml:8: sampling.attempts" in message


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("checkpoints: [", "not valid YAML"),
        ("- a\n- b\n", "expected a mapping of sections, found list"),
        ("", "expected a mapping of sections, found NoneType"),
        ("checkpoints: {dir: a}\n", "prefill.source is missing"),
        ("checkpoints: {dir: a}\nprefill: {levels: []}\n", "at least 1 item"),
        ("checkpoints: {dir: a}\nprefill: {levels: [-1]}\n", "greater than or equal to 0"),
        ("checkpoints: {dir: a}\nprefill: {levels: [0]}\nexecution: {cluster: pbs}\n", "'local', 'slurm' or 'inline'"),
        ("checkpoints: {dir: a}\nprefill: {levels: [0]}\nname: ../x\n", "name"),
        (
            "checkpoints: {dir: a}\nprefill: {channel: answer, levels: [0]}\nlogprob: {whole_trace: true}\n",
            "exploit_code",
        ),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, text: str, says: str) -> None:
    assert says in refuse(tmp_path, text)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent\.yaml: no such configuration file"):
        load_config(tmp_path / "absent.yaml")
    with pytest.raises(InputError, match="is a directory"):
        load_config(tmp_path)


def test_levels_may_be_written_as_earlier_tools_did() -> None:
    config = parse_config({"checkpoints": {"dir": "a"}, "prefill": {"levels": "30, 0,10,10", "source": "s.jsonl"}})
    assert config.prefill.levels == (0, 10, 30)


def test_paths_become_absolute_and_the_training_run_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = parse_config({"checkpoints": {"dir": "sft/checkpoints"}, "prefill": {"levels": [0]}})
    assert config.checkpoints.dir == tmp_path / "sft" / "checkpoints"
    assert config.checkpoints.run_name == "sft"
    assert config.results_dir == tmp_path / "results"


@given(
    levels=st.lists(st.integers(0, 300), min_size=1, max_size=5),
    attempts=st.integers(1, 50),
    temperature=st.floats(0, 3),
    seed=st.integers(0, 2**31),
)
def test_a_configuration_survives_its_own_yaml(levels: list[int], attempts: int, temperature: float, seed: int) -> None:
    config = parse_config(
        {
            "checkpoints": {"dir": "a", "steps": [1, "final"]},
            "prefill": {"levels": levels, "source": "s.jsonl"},
            "sampling": {"attempts": attempts, "temperature": temperature, "seed": seed},
        }
    )
    assert parse_config(yaml.safe_load(yaml.safe_dump(config.to_yaml_dict()))) == config


def test_the_saved_configuration_of_a_run_is_a_configuration(tmp_path: Path) -> None:
    config = parse_config(MINIMAL)
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({"command": "foreshock run x.yaml", "config": config.to_yaml_dict()}))
    assert load_config(path) == config


def test_every_section_is_described() -> None:
    assert {"checkpoints", "problems", "prefill", "sampling", "engine", "verifier"} <= set(valid_keys())
    assert valid_keys(["prefill"]) == ["source", "levels", "assignment", "conditioned", "channel", "before"]
    assert valid_keys(["name"]) == []
    assert RunConfig.model_fields["name"].default == "sweep"
