"""`key=value` on a command line, `auto` engines, and paths as their file means them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from foreshock.batch import site
from foreshock.batch.config import RunConfig
from foreshock.batch.config_file import load_config, parse_config, with_overrides
from foreshock.batch.running.edits import freeze_config, require_unedited
from foreshock.errors import InputError
from foreshock.jobs.records.layout import RunLayout


def config(**sections: Any) -> RunConfig:
    return parse_config({"checkpoints": {"dir": "/c"}, "prefill": {"levels": [0]}} | sections)


def test_values_are_typed_and_free_sections_take_any_key() -> None:
    given = ["sampling.attempts=5", "name=2026", "engine.options.revision=abc", "logprob.enabled=false"]
    made = with_overrides(config(), given)
    assert made.sampling.attempts == 5
    assert made.name == "2026"
    assert made.engine.options == {"revision": "abc"}
    assert made.logprob.enabled is False


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("sampling.attemps=5", "nearest: sampling.attempts"),
        ("attempts=5", "unknown key 'attempts'; nearest: .*attempts"),
        ("sampling=5", "is a section; give one of sampling.temperature"),
        ("sampling.attempts", "is not key=value"),
        ("sampling.attempts=many", "sampling.attempts"),
        ("sampling.attempts=0", "sampling.attempts"),
        ("name.x=1", "unknown key 'name.x'|holds a value"),
    ],
)
def test_wrong_overrides_are_refused_with_what_is_valid(given: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        with_overrides(config(), [given])


def test_relative_paths_are_the_files_and_variables_are_expanded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "configs").mkdir()
    monkeypatch.setenv("RUNS", "/data/runs")
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "configs" / "sweep.yaml"
    path.write_text(
        "checkpoints: {dir: $RUNS/a}\nproblems: {source: ../problems.jsonl}\n"
        "prefill: {source: traces.jsonl, levels: [0]}\nlogprob: {reference: ~/donor}\n"
    )
    made = load_config(path)
    assert made.checkpoints.dir == Path("/data/runs/a")
    assert made.problems.source == str(tmp_path / "problems.jsonl")
    assert made.prefill.source == tmp_path / "configs" / "traces.jsonl"
    assert made.logprob.reference == Path("~/donor").expanduser()
    assert made.results_dir == tmp_path / "results"  # not named in the file
    again = parse_config(made.to_yaml_dict(), Path("/elsewhere/config.yaml"))
    assert again == made


def test_an_unset_variable_is_an_error_and_names_of_data_sets_stay() -> None:
    with pytest.raises(InputError, match="NOT_SET_ANYWHERE is not set"):
        config(checkpoints={"dir": "$NOT_SET_ANYWHERE/x"})
    assert config(problems={"source": "org/name", "revision": "abc"}).problems.source == "org/name"
    assert config(problems={"source": "hf://datasets/org/name@abc"}).problems.source == "hf://datasets/org/name@abc"


@pytest.mark.parametrize(
    ("engine", "gpus", "vllm", "name", "why"),
    [
        ({}, 0, True, "transformers", "this machine has no GPU"),
        ({}, 2, False, "transformers", "vLLM is not installed"),
        ({}, 2, True, "vllm", "vLLM is installed"),
        ({"device": "cpu"}, 2, True, "transformers", "engine.device is cpu"),
        ({"options": {"base_url": "http://x/v1"}}, 0, False, "openai", "base_url"),
    ],
)
def test_auto_takes_vllm_where_it_and_a_gpu_are_there(
    monkeypatch: pytest.MonkeyPatch, engine: dict[str, Any], gpus: int, vllm: bool, name: str, why: str
) -> None:
    monkeypatch.setattr(site, "count_gpus", lambda: gpus)
    monkeypatch.setattr(site.importlib.util, "find_spec", lambda _: object() if vllm else None)
    choice = site.engine_choice(config(engine=engine))
    assert choice.name == name
    assert choice.reason is not None
    assert why in choice.reason
    assert site.with_engine(config(engine=engine)).engine.name == name


def test_edits_of_a_planned_run_are_refused_with_a_diff(tmp_path: Path) -> None:
    layout = RunLayout(tmp_path)
    planned = config(name="x", sampling={"attempts": 3})
    require_unedited(layout, planned)  # of a run planned before this was kept
    freeze_config(layout, planned)
    require_unedited(layout, planned)
    require_unedited(layout, with_overrides(planned, ["execution.workers=4", "analysis.threshold=5"]))
    with pytest.raises(InputError, match=r"sampling\.attempts: 3 when it was planned, 9 now"):
        require_unedited(layout, with_overrides(planned, ["sampling.attempts=9"]))
