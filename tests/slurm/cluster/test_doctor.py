"""`foreshock doctor --slurm` on a real cluster: what it reports is so, and it leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = pytest.mark.cluster

REFUSING = [
    "scontrol() {",
    '  if [[ $1 == requeue ]]; then echo "Requested operation is presently disabled" >&2; return 1; fi',
    '  command scontrol "$@"; }',
    'sbatch() { echo "sbatch: error: not allowed on this host" >&2; return 1; }',
]


def profiles(bed: Any, name: str, worker: dict[str, Any], final: dict[str, Any]) -> Path:
    folder: Path = bed.folder(name)
    (folder / "final.yaml").write_text(yaml.safe_dump({"partition": "cpu", "time": 10} | final))
    (folder / "site.yaml").write_text(
        yaml.safe_dump({"time": 10, "signal_lead_s": 60, "final": str(folder / "final.yaml")} | worker)
    )
    return folder


def argv(bed: Any, folder: Path, *options: str) -> list[str]:
    command = [str(bed.python), "-m", "foreshock", "doctor", "--slurm", str(folder / "site.yaml"), "--json"]
    return [*command, "--shared", str(folder), *options]


def assert_nothing_is_left(bed: Any, folder: Path) -> None:
    assert not [name for _, name, _ in bed.queue() if name.startswith("foreshock-doctor")]
    assert {path.name for path in folder.iterdir()} == {"site.yaml", "final.yaml"}
    end = (
        time.monotonic() + 60
    )  # a cancelled canary's folder goes when its script ends, which takes a moment under load
    while left := [path for path in Path("/tmp").glob(f"foreshock-{bed.user}-*") if path.is_dir()]:
        assert time.monotonic() < end, left
        time.sleep(0.2)


def test_a_cpu_site_is_examined_and_what_was_seen_is_told(bed: Any) -> None:
    """At a site, too, that hands no variable of the submitter's on to jobs."""
    nothing = {"sbatch": {"export": "NONE"}}
    folder = profiles(bed, "doctor", {"partition": "low"} | nothing, nothing)
    done = bed.as_user(*argv(bed, folder), check=False)
    found = {finding["what"]: finding for finding in json.loads(done.stdout)}
    assert done.returncode == 0, done.stdout + done.stderr
    assert {what for what, finding in found.items() if finding["state"] in ("missing", "unknown")} == set()
    assert found["requeue"]["state"] == "ok"
    assert found["sbatch from nodes"]["state"] == "ok"
    assert "the canary step hears SIGTERM" in found["preemption"]["found"]
    assert "PreemptMode REQUEUE" in found["preemption"]["found"]
    assert "20 s were asked for" in found["time limit"]["found"]
    assert found["worker starts"]["state"] == found["last job starts"]["state"] == "ok"
    assert_nothing_is_left(bed, folder)


def test_what_a_site_refuses_is_told_and_ctrl_c_leaves_nothing(bed: Any) -> None:
    """A GPU that is none, no requeueing, no sbatch on nodes, in one run; then an interruption, then a wrong account."""
    folder = profiles(bed, "doctor-refused", {"gpus_per_node": 1, "setup": REFUSING}, {"setup": REFUSING})
    done = bed.as_user(*argv(bed, folder, "--wait", "100"), check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    found = {finding["what"]: finding for finding in json.loads(done.stdout)}
    assert "presently disabled" in found["requeue"]["found"]
    assert "not allowed on this host" in found["sbatch from nodes"]["found"]
    assert found["GPUs"]["state"] == "missing"
    assert "CUDA_VISIBLE_DEVICES=0" in found["GPUs"]["found"]
    assert_nothing_is_left(bed, folder)

    # Tests started from a background shell have SIGINT ignored, and a program inherits that.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        running = subprocess.Popen(bed.user_argv(argv(bed, folder)), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    finally:
        signal.signal(signal.SIGINT, before)
    assert running.stderr is not None
    for line in running.stderr:
        if b"runs on" in line:
            break
    child = next(int(line.split()[0]) for line in bed.user_processes() if "doctor --slurm" in line)
    os.kill(child, signal.SIGINT)
    running.communicate(timeout=90)
    assert running.returncode == 130
    assert_nothing_is_left(bed, folder)

    folder = profiles(bed, "doctor-account", {"account": "nosuch", "time": "3-0"}, {})
    done = bed.as_user(*argv(bed, folder, "--wait", "15"), check=False)
    assert done.returncode == 1
    found = {finding["what"]: finding for finding in json.loads(done.stdout)}
    assert "Invalid account" in found["submitting workers"]["found"]
    assert "account test; partition low" in found["submitting workers"]["profile"]
    assert_nothing_is_left(bed, folder)
