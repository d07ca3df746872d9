"""The first day at a new site: refusals, exported options, wrapped commands, holds, an absent controller, a bad node.

Several runs, most of one checkpoint, share the cluster; in the end each has the tables of the undisturbed run.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

pytestmark = [pytest.mark.cluster, pytest.mark.long]

ONE_CHECKPOINT = {"checkpoints": {"steps": [1]}}

EXPORTED = {
    "SBATCH_PARTITION": "nosuch",
    "SBATCH_ACCOUNT": "nosuch",
    "SBATCH_NO_REQUEUE": "1",
    "SBATCH_EXPORT": "NONE",
    "SQUEUE_STATES": "COMPLETED",
    "SQUEUE_FORMAT": "%u",
    "SQUEUE_USERS": "root",
    "SACCT_FORMAT": "User",
    "SLURM_CLUSTERS": "elsewhere",
    "SLURM_TIME_FORMAT": "relative",
    "TZ": "Pacific/Kiritimati",
}
TALKATIVE_SBATCH = """#!/bin/bash
echo "*** Welcome. Job 4711 of somebody else says hello. ***"
echo "sbatch: INFO: a note of the site" >&2
/usr/bin/sbatch "$@" | grep -oE '[0-9]+'
exit "${PIPESTATUS[0]}"
"""
CLOSED_SBATCH = """#!/bin/bash
exec /usr/bin/sbatch --export=NONE "$@"
"""
SILENT_SBATCH = """#!/bin/bash
/usr/bin/sbatch "$@" >/dev/null
"""


def packs(run: Any) -> int:
    """Submissions of a run."""
    return len(list((run.dir / "packs").iterdir()))


def edit(path: Path, **keys: Any) -> None:
    """Change keys of a YAML file; None removes one."""
    data = yaml.safe_load(path.read_text()) | keys
    path.write_text(yaml.safe_dump({key: value for key, value in data.items() if value is not None}))


def foreshock(run: Any, environment: dict[str, str], *arguments: str) -> Any:
    """A command with more in its environment."""
    settings = [f"{name}={value}" for name, value in environment.items()]
    return run.bed.as_user("env", *settings, str(run.bed.python), "-m", "foreshock", *arguments)


def wrapped(bed: Any, name: str, text: str) -> dict[str, str]:
    """A PATH on which the site's own sbatch comes first."""
    folder = bed.folder(f"bin-{name}")
    (folder / "sbatch").write_text(text)
    (folder / "sbatch").chmod(0o755)
    return {"PATH": f"{folder}:{bed.environment['PATH']}"}


def upgraded_environment(run: Any) -> tuple[Path, str]:
    """An environment whose code is a copy of this checkout, committed to a repository of its own; and that commit."""
    bed, code, environment = run.bed, run.folder / "new", run.folder / "new-venv"
    bed.as_user("mkdir", str(code))  # git trusts what is the user's own
    for part in ("src", "batch", "jobs", "analysis", "slurm", "containers"):
        bed.as_user("cp", "-a", f"{bed.repo}/{part}", str(code))
    (code / ".gitignore").write_text("__pycache__/\n")
    git = ["git", "-C", str(code), "-c", "user.name=x", "-c", "user.email=x@x"]
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-qm", "newer"]):
        bed.as_user(*git, *arguments)
    bed.as_user("cp", "-a", str(bed.python.parents[1]), str(environment))
    (borrowed,) = environment.glob("lib/*/site-packages/borrowed.pth")
    borrowed.write_text(borrowed.read_text().replace(f"{bed.repo}/src", f"{code}/src"))
    return environment, bed.as_user(*git, "rev-parse", "HEAD").stdout.strip()


def assert_whole(run: Any, undisturbed: Any) -> None:
    """The run ended well, with the undisturbed run's tables of its checkpoints."""
    tables, expected = run.tables(), undisturbed.tables()
    assert run.document()["status"] == "completed"
    assert len(tables) in (8, len(expected))  # of one checkpoint: rows and samples at three levels, scores at two
    assert tables == {name: expected[name] for name in tables}


def odd_jobs(bed: Any) -> None:
    """Other jobs of the same user whose lines in the queue are hard to read."""
    for name in ("train|lr=1e-4|x", "fs-1|RUNNING|0:00"):
        bed.as_user("sbatch", "-o", "/dev/null", "-J", name, "--wrap", "true")
    path = bed.folder("het") / "het.sh"
    path.write_text("#!/bin/bash\n#SBATCH -n1 -o /dev/null\n#SBATCH hetjob\n#SBATCH -n1\ntrue\n")
    bed.as_user("sbatch", str(path))


def held_last_job(run: Any) -> str:
    """Hold a run's last job as an administrator; returns its id."""
    entry = json.loads((run.dir / "slurm" / "pack-0000" / "submission.json").read_text())
    job = str(entry["final"]["job_id"])
    run.bed.root("scontrol", "hold", job)
    return job


def test_refusals_exported_options_and_wrapped_commands_end_in_the_same_tables(
    bed: Any, sweep: ModuleType, inputs: Path, sweep_tools: ModuleType, undisturbed: Any
) -> None:
    names = ("account", "last", "exported", "talkative", "silent", "closed", "upgraded")
    runs = [sweep_tools.make(bed, sweep, inputs, name, **ONE_CHECKPOINT) for name in names]
    account, last, exported, talkative, silent, closed, upgraded = runs
    with bed.drained():
        odd_jobs(bed)
        edit(account.folder / "gpu.yaml", account="nosuch")
        edit(last.folder / "final.yaml", account="nosuch")
        for run in (account, last):
            refused = run.foreshock("run", str(run.config), check=False)
            assert refused.returncode == 1
            assert "Invalid account" in refused.stderr
            assert f"foreshock resume {run.dir}" in refused.stderr
            assert any("was refused" in note for note in run.status()["notes"])
        edit(account.folder / "gpu.yaml", account=None)
        edit(last.folder / "final.yaml", account=None)
        for run in (account, last):
            run.foreshock("resume", str(run.dir))
        foreshock(exported, EXPORTED, "run", str(exported.config))
        foreshock(exported, EXPORTED | {"TZ": "America/Adak"}, "resume", str(exported.dir))
        foreshock(talkative, wrapped(bed, "talkative", TALKATIVE_SBATCH), "run", str(talkative.config))
        foreshock(silent, wrapped(bed, "silent", SILENT_SBATCH), "run", str(silent.config))
        foreshock(closed, wrapped(bed, "closed", CLOSED_SBATCH), "run", str(closed.config))
        current = upgraded.folder / "current"
        current.symlink_to(bed.python.parents[1])
        edit(upgraded.folder / "gpu.yaml", python=str(current / "bin" / "python"))
        foreshock(upgraded, {"FORESHOCK_GIT_COMMIT": "a" * 40}, "run", str(upgraded.config))
        newer, commit = upgraded_environment(upgraded)
        current.unlink()
        current.symlink_to(newer)  # between submission and start
        assert [packs(run) for run in runs] == [2, 1, 1, 1, 1, 1, 1]
        for run in runs:
            assert {cell["state"] for cell in run.status()["cells"]} == {"queued"}
        assert [name for _, name, _ in bed.queue() if name.startswith("sweep_1_fs-")]

        job = held_last_job(exported)
        assert any("held by an administrator" in note for note in exported.status()["notes"])

    bed.stop("slurmctld")  # not while nodes are drained, which a controller forgets
    status = exported.status()
    assert status["status"] in ("submitted", "running")
    assert "failed" not in {cell["state"] for cell in status["cells"]}
    assert "Slurm does not answer" in status["notes"][0]
    silence = exported.foreshock("resume", str(exported.dir), check=False)
    assert silence.returncode == 1
    assert "Unable to contact slurm controller" in silence.stderr
    bed.restart("slurmctld")
    bed.wait_until("the arrays have ended", lambda: not [n for _, n, _ in bed.queue() if "-a" in n], 600)
    waiting = exported.foreshock("resume", str(exported.dir))  # its last job is pending: it sees to what is missing
    assert "held by an administrator" in waiting.stdout + waiting.stderr
    bed.root("scontrol", "release", job)
    bed.wait_idle(600)
    assert [packs(run) for run in runs] == [2, 1, 1, 1, 1, 1, 1]
    assert any(
        f"computed by commit {commit[:12]}, the run was planned by aaaa" in n for n in upgraded.status()["notes"]
    )
    for run in runs:
        assert_whole(run, undisturbed)


def test_a_bad_node_a_full_queue_and_a_pause_cost_little(
    bed: Any, sweep: ModuleType, inputs: Path, sweep_tools: ModuleType, undisturbed: Any
) -> None:
    """The first fails on one node at once; what is to be healed finds the queue full; the second is suspended."""
    costs = {"load_s": 2, "swap_s": 1}
    setup = ["if [[ $SLURMD_NODENAME == n1 ]]; then echo 'NVRM: Xid 79: GPU has fallen off the bus'; exit 9; fi"]
    profile = {"setup": [*setup, "sleep 8"], "array_throttle": 8, "costs": costs, "max_submit": 30}
    bad = sweep_tools.make(bed, sweep, inputs, "bad", profile, execution={"max_minutes": 0.8})
    held = bed.state / "home" / "hold-paused"
    bed.as_user("touch", str(held))
    waits = {"gpus_per_node": 0, "setup": [f"while [[ -e {held} ]]; do sleep 0.2; done"]}
    paused = sweep_tools.make(bed, sweep, inputs, "paused", waits, **ONE_CHECKPOINT)
    qos = ("sacctmgr", "-i", "modify", "qos", "normal", "set")
    bad.foreshock("run", str(bad.config))
    elements = len([name for _, name, _ in bed.queue() if "-a" in name])
    assert elements >= 6
    bed.wait_until("the node is excluded", lambda: (bad.dir / "slurm/nodes/n1/excluded").exists(), 300)
    paused.foreshock("run", str(paused.config))
    failed = len(list((bad.dir / "slurm/nodes/n1").glob("failed-*")))
    assert 2 <= failed <= 3
    assert any("n1: " in note and "Xid 79" in note for note in bad.status()["notes"])
    bed.root(*qos, "MaxSubmitJobsPerUser=2")
    try:
        bed.wait_until("the second run is suspended", lambda: suspend(bed, paused), 300)
        assert any("suspended" in note for note in paused.status()["notes"])
        for job in [job for job, _, state in bed.queue() if state == "SUSPENDED"]:
            bed.root("scontrol", "resume", job)
        held.unlink()
        bed.wait_until("the last job waits for room", lambda: "trying again later" in bad.logs("*-end-*"), 600)
        assert any("tries again to submit" in note for note in bad.status()["notes"])
    finally:
        bed.root(*qos, "MaxSubmitJobsPerUser=1000")
    bed.wait_idle(600)
    for run in (bad, paused):
        assert_whole(run, undisturbed)
    assert "keeping away from n1" in bad.logs("*-end-*")


def suspend(bed: Any, run: Any) -> bool:
    """Suspend what runs of a run; whether something is suspended (a job that has only just started refuses it)."""
    entry = json.loads((run.dir / "slurm" / "pack-0000" / "submission.json").read_text())
    names = {job["name"] for job in entry["arrays"]}
    for job, name, state in bed.queue():
        if name in names and state == "RUNNING":
            bed.root("scontrol", "suspend", job, check=False)
    return "SUSPENDED" in {state for _, name, state in bed.queue() if name in names}
