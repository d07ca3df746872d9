"""GPUs, however a profile asks for them, and times and keys as Slurm and people mean them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreshock.errors import InputError
from foreshock.slurm.profile import load_profile, parse_profile, stored_profile


@pytest.mark.parametrize(
    ("data", "gpus"),
    [
        ({}, 0),
        ({"gpus_per_node": 2}, 2),
        ({"gres": "gpu"}, 1),
        ({"gres": "gpu:4"}, 4),
        ({"gres": "gpu:a100:2,lscratch:100"}, 2),
        ({"gres": "gres/gpu:h100:8(S:0-1)"}, 8),
        ({"gres": "gpu:1g.10gb:1"}, 1),
        ({"gres": "shard:4"}, 1),
        ({"gres": "lscratch:100", "gpus_per_node": 1}, 1),
        ({"sbatch": {"gpus-per-node": "a100:2"}}, 2),
        ({"sbatch": {"gpus": 1}}, 1),
        ({"sbatch": {"--gpus_per_task": "h100:4"}}, 4),
        ({"sbatch": {"tres-per-node": "gres/gpu:2"}}, 2),
        ({"sbatch": {"tres-per-task": "gres/gpu=2"}}, 2),
        ({"sbatch": {"gres": "gpu:v100:1"}}, 1),
        ({"sbatch": {"constraint": "gpu"}}, 0),
        ({"sbatch": {"G": 2}}, 2),
        ({"sbatch": {"--gpus": "a100:2,v100:1"}}, 3),
        ({"sbatch": {"tres-per-job": "cpu=4,gres/gpu:a100=2"}}, 2),
        ({"sbatch": {"gpus": False}}, 0),
    ],
)
def test_every_spelling_counts(data: dict[str, Any], gpus: int) -> None:
    assert parse_profile(data).gpus == gpus


def test_other_resources_do_not_push_the_gpus_out() -> None:
    for key in ({"gres": "lscratch:100"}, {"sbatch": {"--gres": "lscratch:100"}}):
        assert parse_profile({"gpus_per_node": 1, **key}).flags()["gres"] == "gpu:1,lscratch:100"


@pytest.mark.parametrize("key", ["gpus=2", "--gpus=2", "gres=gpu:2", "x\n#SBATCH --gpus", ""])
def test_an_option_with_its_value_in_the_key_is_refused(key: str) -> None:
    with pytest.raises(InputError, match="is not the name of an option; write"):
        parse_profile({"sbatch": {key: True}})


def test_one_option_in_two_spellings_is_refused_and_false_leaves_it_out() -> None:
    with pytest.raises(InputError, match="gpus is given twice"):
        parse_profile({"sbatch": {"G": 1, "gpus": 1}})
    assert "exclusive" not in parse_profile({"sbatch": {"exclusive": False}}).flags()
    assert parse_profile({"sbatch": {"x": "n1", "--mem_per_gpu": "9G"}}).sbatch == {
        "exclude": "n1",
        "mem-per-gpu": "9G",
    }


@pytest.mark.parametrize(
    "data",
    [
        {"gpus_per_node": 1, "sbatch": {"gpus-per-node": 1}},
        {"gres": "gpu:1", "sbatch": {"gpus": 1}},
        {"sbatch": {"gpus": 1, "gres": "gpu:1"}},
    ],
)
def test_asking_twice_is_refused(data: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="GPUs are asked for more than once"):
        parse_profile(data)


def test_counts_that_differ_are_refused() -> None:
    with pytest.raises(InputError, match="gres asks for 2 GPUs, gpus_per_node for 1"):
        parse_profile({"gres": "gpu:2", "gpus_per_node": 1})


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        ("90", 90),
        ("30:00", 30),
        ("12:00:00", 720),
        ("1-0", 1440),
        ("2-12", 3600),
        ("1-0:30", 1470),
        ("1-02:03:04", 1564),
        ("5:01", 6),
        ("100:00", 100),
    ],
)
def test_times_in_slurms_forms(text: str, minutes: int) -> None:
    assert parse_profile({"time": text}).time == minutes


@given(st.integers(0, 20), st.integers(0, 23), st.integers(0, 59), st.integers(0, 59))
def test_days_and_clock_add_up(days: int, hours: int, minutes: int, seconds: int) -> None:
    total = (days * 24 + hours) * 60 + minutes + (1 if seconds else 0)
    if total > 2:
        assert parse_profile({"time": f"{days}-{hours:02}:{minutes:02}:{seconds:02}"}).time == total


@pytest.mark.parametrize("value", [43200, "UNLIMITED", "soon", "1:2:3:4", "1-", -5, 0, "0", 1.5, True])
def test_other_times_are_refused(value: Any) -> None:
    with pytest.raises(InputError, match="time"):
        parse_profile({"time": value})


def test_a_long_time_survives_the_journal() -> None:
    profile = parse_profile({"time": "14-0"})
    assert stored_profile(profile.model_dump(mode="json")) == profile


@pytest.mark.parametrize("amount", ["64GB", "64G", "900M", "1T", "32g"])
def test_memory_as_slurm_takes_it(amount: str) -> None:
    assert parse_profile({"mem": amount}).mem == amount


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("time: 12:00:00\n", r"1: not valid YAML: 12:00:00 without quotes is a number to base 60"),
        ("partition: a\ntime: 30:00\n", r"2: not valid YAML: 30:00 without quotes"),
        ("partition: a\nqos: b\npartition: c\n", r"3: not valid YAML: key 'partition' was given before, in line 1"),
        ("sbatch:\n  nice: 1\n  nice: 2\n", r"3: not valid YAML: key 'nice' was given before, in line 2"),
        ("partition: a\npartitoin: b\n", r"line 2: unknown key 'partitoin'"),
        ("sbatch:\n  clusters: x\n", r"2: sbatch.clusters: foreshock asks one cluster"),
        ("sbatch:\n  nodes: 2\n", r"2: sbatch.nodes is 2: a worker is one task on one node"),
        ("sbatch:\n  time: 5\n", r"2: sbatch.time: use the key `time`"),
    ],
)
def test_what_yaml_or_slurm_would_take_in_silence_is_refused_with_its_line(
    tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "site.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        load_profile(str(path))
