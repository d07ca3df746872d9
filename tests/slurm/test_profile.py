"""Profiles: what is valid, and what the errors say."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import Field

from foreshock.batch.cli import profile_docs
from foreshock.errors import InputError
from foreshock.slurm import profile as profiles
from foreshock.slurm.profile import load_profile, parse_profile, shipped_profiles


def test_the_three_shipped_profiles_load_and_name_valid_final_profiles() -> None:
    assert shipped_profiles() == ["cpu", "gpu", "preemptible"]
    for name in shipped_profiles():
        profile = load_profile(name)
        assert profile.description
        assert load_profile(profile.final).gpus_per_node == 0


def test_flags_ask_for_what_the_profile_says_and_for_requeueing() -> None:
    profile = parse_profile(
        {"partition": "low", "gpus_per_node": 2, "mem": "32G", "time": "1-02:03:00", "sbatch": {"nice": 10}}
    )
    assert profile.flags() == {
        "partition": "low",
        "gres": "gpu:2",
        "nodes": 1,
        "ntasks": 1,
        "cpus-per-task": 1,
        "mem": "32G",
        "time": 1563,
        "signal": "B:USR1@120",
        "requeue": True,
        "open-mode": "append",
        "nice": 10,
    }


def test_a_named_gres_takes_the_place_of_a_count() -> None:
    assert parse_profile({"gres": "gpu:a100:1", "gpus_per_node": 1}).flags()["gres"] == "gpu:a100:1"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"partitoin": "low"}, "unknown key 'partitoin'.*valid: .*partition"),
        ({"time": "soon"}, "time: 'soon' is not a time; valid: minutes"),
        ({"mem": 64000}, "mem: 64000 is not an amount of memory; valid: 32G"),
        ({"time": 1, "signal_lead_s": 60}, "signal_lead_s 60 is not below the wall time of 60 s"),
        ({"sbatch": {"array": "0-3"}}, "sbatch.array is set by foreshock itself"),
        ({"sbatch": {"--open_mode": "truncate"}}, "sbatch.open-mode is set by foreshock itself"),
        ({"container": {"image": "x.sif", "bind": []}}, r"unknown key 'container.bind' \(valid: image, runtime, binds"),
        ({"sbatch": {"J": "mine"}}, "sbatch.job-name is set by foreshock itself"),
        ({"sbatch": {"comment": "a\nrm -rf ~"}}, "sbatch.comment: a line break in"),
        ({"partition": "a\nb"}, "partition: a line break in"),
        (["partition"], "expected a mapping; valid keys"),
    ],
)
def test_mistakes_are_named_with_what_is_valid(data: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_profile(data)


def test_an_unknown_profile_lists_the_shipped_ones() -> None:
    with pytest.raises(InputError, match=r"no such Slurm profile: 'a100'; shipped: cpu, gpu, preemptible"):
        load_profile("a100")


def test_a_yaml_error_names_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    path.write_text("partition: low\ntime: [1\n")
    with pytest.raises(InputError, match=r"site\.yaml:3: not valid YAML"):
        load_profile(str(path))


def test_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    path.write_text('partition: low\ntime: "00:30:00"\n')
    assert load_profile(str(path)).time == 30


def test_a_further_key_is_one_field(monkeypatch: pytest.MonkeyPatch) -> None:
    class Longer(profiles.Profile):
        reservation: str | None = Field(None, description="Nodes set aside")

    monkeypatch.setattr(profiles, "Profile", Longer)
    assert profiles.parse_profile({"reservation": "tuesday"}).model_dump()["reservation"] == "tuesday"
    with pytest.raises(InputError, match=r"unknown key 'reservatio' \(valid: .*reservation"):
        profiles.parse_profile({"reservatio": "tuesday"})
    assert "| `reservation` | text or null | `null` | Nodes set aside |" in profile_docs.key_table(Longer)
