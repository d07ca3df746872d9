"""What canaries tell becomes findings that say what to write into the profile."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from foreshock.batch.canaries.findings import Evidence, Finding, Told, all_that_runs_need, judge
from foreshock.batch.canaries.on_node import examine_file_system
from foreshock.batch.canaries.scripts import canaries, nested_job, whole_job
from foreshock.batch.cli.app import app
from foreshock.slurm.profile import Profile, parse_profile

CPU = parse_profile({"cpus_per_task": 1})
GPU = parse_profile({"gpus_per_node": 2, "partition": "gpu", "account": "lab", "signal_lead_s": 100})
SHARED = {
    "rename": True, "directory_fsync": True, "hard_link": True, "direct_io": True, "exclusive_create": True,
    "mtime_ahead_s": 0.01, "mtime_whole_seconds": False,
}  # fmt: skip
PROBE = {
    "python": "3.11.2", "foreshock": "1.0", "shared": SHARED, "answer_s": 0.6, "internet": True,
    "sandbox": {"tier": "full", "full": True, "advice": []},
    "gpu": {"count": 2, "name": "H100", "memory_gib": 79.2, "computes": True},
}  # fmt: skip
SCRATCH = {"scratch-base": "/local", "scratch-free-kb": "90000000", "scratch-type": "xfs", "scratch-executes": "yes"}


def evidence(profile: Profile = CPU, **told: Told) -> Evidence:
    """A site where all is well, but for `told`."""
    well = {
        "node": Told(
            state="requeued", probe=dict(PROBE),
            facts={"started": "1000.0", "node": "n1", "step": "heard", "asks-requeue": "1030", **SCRATCH},
        ),
        "limit": Told(state="ended", facts={"started": "1000.0", "term": "1064.0"}, notices=[1035.0]),
        "final": Told(state="ended", probe=dict(PROBE), facts={"started": "1000.0", "node": "n2", "nested": "77"}),
    }  # fmt: skip
    configuration = {"PreemptMode": "REQUEUE", "SlurmctldParameters": "(null)"}
    partition = {"MaxTime": "1-00:00:00", "PreemptMode": "REQUEUE", "GraceTime": "30"}
    whole = {"node": None, "final": None}
    return Evidence(profile, CPU, well | told, whole, configuration, partition, ("lab",), ("gpu", "cpu"), SHARED, "/sh")


def bad(seen: Evidence) -> dict[str, Finding]:
    """Findings that are not ok, by what they are about."""
    return {finding.what: finding for finding in judge(seen) if finding.state != "ok"}


def with_facts(told: Told, **facts: str) -> Told:
    return replace(told, facts=told.facts | {name.replace("_", "-"): value for name, value in facts.items()})


def with_probe(told: Told, **found: Any) -> Told:
    return replace(told, probe=(told.probe or {}) | found)


def test_a_site_where_all_is_well_has_nothing_to_change() -> None:
    assert bad(evidence()) == {}
    found = {finding.what: finding for finding in judge(evidence(GPU))}
    assert found["GPUs"].profile == "gpu_memory_gib: 79"
    assert "29 s before the end (20 s were asked for)" in found["time limit"].found


def test_refusals_name_what_is_yours() -> None:
    refused = evidence(GPU, node=Told(refused="Invalid account"), limit=Told(refused="Invalid account"))
    found = bad(refused)
    assert set(found) == {"submitting workers"}
    assert found["submitting workers"].profile == "yours: account lab; partition gpu, cpu"
    long = replace(evidence(), whole={"node": "Requested time limit is invalid", "final": None})
    assert bad(long)["submitting workers"].profile == "time: at most 1-00:00:00"


def test_what_was_not_seen_is_unknown_and_never_fine() -> None:
    seen = evidence(node=Told(state="waiting", reason="Priority"), limit=Told(state="ended"))
    found = bad(seen)
    assert found["canary node"].state == "unknown"
    assert "Priority" in found["canary node"].found
    assert found["canary limit"].state == "missing"
    assert "--shared" in found["canary limit"].profile
    running = replace(evidence().told["limit"], state="running", notices=[])
    assert bad(evidence(limit=running))["time limit"].state == "unknown"


NODE = evidence().told["node"]
BARE = replace(evidence().told["final"], facts={"started": "1"})
EIO = SHARED | {"rename": "EIO"}


@pytest.mark.parametrize(
    ("what", "state", "advice", "told"),
    [
        ("requeue", "weak", "heal", {"node": with_facts(NODE, requeue_refused="disabled")}),
        ("sbatch from nodes", "weak", "resume", {"final": with_facts(BARE, nested_refused="no")}),
        ("preemption", "weak", "canary: false", {"node": with_facts(NODE, step="")}),
        ("scratch", "missing", "scratch:", {"node": with_facts(NODE, scratch_executes="no")}),
        ("scratch", "missing", "scratch:", {"node": with_facts(NODE, scratch_refused="Permission denied")}),
        ("scratch", "weak", "scratch:", {"node": with_facts(NODE, scratch_type="nfs")}),
        ("internet", "weak", "offline: true", {"node": with_probe(NODE, internet=False)}),
        ("sandbox", "missing", "", {"node": with_probe(NODE, sandbox={"tier": None, "full": False, "advice": []})}),
        ("worker starts", "missing", "python", {"node": replace(NODE, probe=None, said="no such file")}),
        ("shared files: rename over a file", "missing", "", {"node": with_probe(NODE, shared=EIO)}),
        ("shared files: times", "weak", "", {"node": with_probe(NODE, shared=SHARED | {"mtime_ahead_s": 40.0})}),
        ("time limit", "weak", "time:", {"limit": Told(state="ended", facts={"started": "1", "term": "60"})}),
    ],
)  # fmt: skip
def test_what_a_site_lacks_is_said(what: str, state: str, advice: str, told: dict[str, Told]) -> None:
    found = bad(evidence(**told))
    assert set(found) == {what}
    assert found[what].state == state
    assert advice in found[what].profile


def test_a_sandbox_that_runs_refuse_is_refused_unless_they_consent() -> None:
    weak = {"tier": "rlimits-only", "full": False, "advice": ["ask for user namespaces"]}
    found = judge(evidence(node=with_probe(NODE, sandbox=weak)))
    (sandbox,) = (one for one in found if one.what == "sandbox")
    assert "allow_weak_sandbox: true" in sandbox.found
    assert not all_that_runs_need(found, allow_weak_sandbox=False)
    assert all_that_runs_need(found, allow_weak_sandbox=True)
    slow = judge(evidence(node=with_facts(NODE, scratch_type="nfs")))  # weak, and no run is refused for it
    assert all_that_runs_need(slow, allow_weak_sandbox=False)


def test_a_short_notice_lengthens_the_lead() -> None:
    late = Told(state="ended", facts={"started": "1000.0", "term": "1060.0"}, notices=[1055.0])
    assert bad(evidence(GPU, limit=late))["time limit"].profile == "signal_lead_s: 115"


def test_gpus_that_do_not_compute_are_missing() -> None:
    found = bad(evidence(GPU, node=with_probe(NODE, gpu={"count": 0})))
    assert found["GPUs"].state == "missing"


def test_a_local_file_system_does_all_and_is_left_as_it_was(tmp_path: Path) -> None:
    found = examine_file_system(tmp_path)
    assert {name for name, value in found.items() if value is True} >= {"rename", "hard_link", "exclusive_create"}
    assert list(tmp_path.iterdir()) == []


def test_scripts_are_valid_shell_and_ask_for_what_the_profile_asks(tmp_path: Path) -> None:
    profile = parse_profile({"gpus_per_node": 1, "partition": "gpu", "container": {"image": "/i.sif"}, "time": "1:0:0"})
    jobs = canaries(profile, CPU, tmp_path, "t")
    texts = [*(job.script() for job in jobs), whole_job(profile, "x"), nested_job(CPU)]
    for text in texts:
        subprocess.run(["bash", "-n"], input=text, text=True, check=True)
    node, limit, final = texts[:3]
    assert "#SBATCH --partition=gpu" in node
    assert "#SBATCH --time=1\n" in limit
    assert "#SBATCH --signal=B:USR1@20" in limit
    assert "#SBATCH --signal" not in node + final
    assert "apptainer exec" in node
    assert "--nv" in node
    assert "apptainer" not in final.split("fc_arrive\n")[-1]


def test_the_shell_passes_shellcheck(shellcheck: str) -> None:
    path = Path(__file__).parents[3] / "batch" / "canaries" / "canary.sh"
    subprocess.run([shellcheck, "--shell=bash", str(path)], check=True)


def test_dry_run_prints_the_scripts_and_asks_nothing_of_slurm(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["doctor", "--slurm", "gpu", "--shared", str(tmp_path), "--dry-run"])
    assert result.exit_code == 0, result.output
    assert result.output.count("#!/bin/bash") == 3
    assert list(tmp_path.iterdir()) == []
