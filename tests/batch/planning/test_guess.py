"""What `foreshock init` finds, writes and refuses; nothing is chosen among several."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
import yaml

from foreshock.batch.cli.init_choices import choose
from foreshock.batch.config_file import parse_config
from foreshock.batch.planning.first_config import Choices, Partition, beside, config_text, profile_text
from foreshock.batch.planning.guess import kind_of, look_around
from foreshock.errors import InputError
from foreshock.slurm.profile import parse_profile

PROBLEM = dict.fromkeys(("id", "description", "function_name", "test_cases", "ground_truth", "exploit_type"), "x")
TRACE = {"task_id": 7, "reasoning": "so", "exploit_success": True}


def test_files_are_told_by_their_first_row(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("\n" + json.dumps(PROBLEM) + "\n")
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(json.dumps(TRACE).encode()))
    (tmp_path / "c.jsonl").write_text('{"loss": 1}\n')
    (tmp_path / "g.jsonl").write_text('{"task_id": 1, "prompt": "x", "entry_point": "f", "test_cases": []}\n')
    (tmp_path / "d.jsonl").write_bytes(b"\xff\xfe{broken")
    (tmp_path / "e.json").write_text("[" * 100_000)
    (tmp_path / "f.parquet").write_bytes(b"PAR1 but not really")
    kinds = {path.name: kind_of(path) for path in tmp_path.iterdir()}
    assert kinds == {"a.jsonl": "problems", "b.jsonl.gz": "traces"} | dict.fromkeys(
        ("c.jsonl", "d.jsonl", "e.json", "f.parquet", "g.jsonl")
    )
    ((path, lacking),) = look_around(tmp_path).unlike  # said by `init`, which else would take the built-in problems
    assert (path.name, lacking) == (
        "g.jsonl",
        ("description", "exploit_type", "function_name", "ground_truth", "id"),
    )


def test_checkpoints_are_found_by_their_names_and_results_are_passed_over(tmp_path: Path) -> None:
    for name in ("runs/a/checkpoints/checkpoint-10", "runs/a/checkpoints/checkpoint-20", "results/x/checkpoint-1"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "runs" / "a" / "traces.jsonl").write_text(json.dumps(TRACE))
    (tmp_path / "results" / "evals.jsonl").write_text(json.dumps(TRACE))
    found = look_around(tmp_path)
    assert found.checkpoints == ((tmp_path / "runs" / "a" / "checkpoints", 2),)
    assert found.traces == (tmp_path / "runs" / "a" / "traces.jsonl",)
    assert found.problems == ()


def test_several_are_refused_where_nobody_can_be_asked(tmp_path: Path) -> None:
    several = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    with pytest.raises(InputError, match=r"several traces here:\n  a\.jsonl\n  b\.jsonl\n  -> name one with --traces"):
        choose("traces", several, False, tmp_path)
    assert choose("traces", several[:1], False, tmp_path) == several[0]
    assert choose("traces", [], False, tmp_path) is None
    with pytest.raises(InputError, match="name one with --checkpoints"):
        choose("checkpoints", [], False, tmp_path, needed=True)


@pytest.mark.parametrize("name", ["plain", "null", "2026", "a b: c", "quo'te\"s", "# no comment", "ümlaut"])
def test_the_written_configuration_says_what_was_chosen(tmp_path: Path, name: str) -> None:
    choices = Choices("sweep", f"{name}/checkpoints", f"{name}.jsonl", f"{name}-traces.jsonl", "auto")
    config = parse_config(yaml.safe_load(config_text(choices)), tmp_path / "sweep.yaml")
    assert config.checkpoints.dir == tmp_path / name / "checkpoints"
    assert config.prefill.source == tmp_path / f"{name}-traces.jsonl"
    assert config.problems.source == str(tmp_path / f"{name}.jsonl")
    without = parse_config(
        yaml.safe_load(config_text(Choices("s", name, "builtin", None, "auto"))), tmp_path / "s.yaml"
    )
    assert without.prefill.levels == (0,)


def test_a_profile_names_the_partition_with_gpus_and_is_valid() -> None:
    known = [Partition("cpu", True, "1-00:00:00", "(null)"), Partition("big-gpu", False, "4:00:00", "gpu:a100:4")]
    profile = parse_profile(yaml.safe_load(profile_text(known)))
    assert (profile.partition, profile.gpus) == ("big-gpu", 1)
    assert parse_profile(yaml.safe_load(profile_text([]))).partition is None
    assert parse_profile(yaml.safe_load(profile_text(known[:1]))).gpus == 0


def test_paths_below_the_file_are_relative_and_others_absolute(tmp_path: Path) -> None:
    assert beside(tmp_path / "a" / "b.jsonl", tmp_path) == "a/b.jsonl"
    assert beside(Path("/elsewhere/c"), tmp_path) == "/elsewhere/c"
