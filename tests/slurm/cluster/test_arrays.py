"""Arrays on a real cluster with stand-in workers: every way for a job to end, and what comes of it."""

from __future__ import annotations

import json
import os
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.cluster

PROFILE = {"partition": "low", "cpus_per_task": 1, "time": 10, "signal_lead_s": 60, "no_progress_limit": 2}
FINAL = {"partition": "cpu", "time": 5, "canary": False, "signal_lead_s": 30}


@dataclass
class StandIn:
    """One stand-in run."""

    bed: Any
    name: str
    batches: int = 4
    seconds: float = 1.0
    profile: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.dir: Path = self.bed.folder(self.name)
        (self.dir / "standin.json").write_text(json.dumps({"batches": self.batches, "seconds": self.seconds}))

    def submit(self, arrays: list[list[list[int]]], **more: Any) -> dict[str, Any]:
        request = {
            "run_dir": str(self.dir),
            "arrays": arrays,
            "profile": PROFILE | self.profile,
            "final_profile": FINAL,
        }
        self.entry: dict[str, Any] = self.bed.submit_standin(request | more)
        return self.entry

    def misbehave(self, task: int, how: str) -> None:
        path = self.dir / f"misbehave-{task}"
        path.write_text(how)
        os.chown(path, self.dir.stat().st_uid, self.dir.stat().st_gid)

    def job(self, element: int, array: int = 0) -> str:
        return f"{self.entry['arrays'][array]['job_id']}_{element}"

    def log(self, element: int, array: int = 0) -> str:
        return "".join(p.read_text() for p in self.dir.glob(f"logs/slurm/*-a{array}-*_{element}.log"))

    def rows(self, task: int) -> int:
        return len(list(self.dir.glob(f"rows/{task:05d}-*.json")))

    def repeats(self, task: int) -> int:
        """Batches that were generated more than once."""
        done = Counter(line.split()[0] for line in (self.dir / f"generated-{task:05d}").read_text().splitlines())
        return sum(n - 1 for n in done.values())

    def state(self, element: int) -> list[str]:
        text = self.bed.root("sacct", "-nPXD", "-j", self.job(element), "-o", "State")
        return [line.split()[0] for line in text.splitlines()]

    def wait_running(self, element: int, task: int, batches: int = 1) -> None:
        """Until this element's worker has written so many batches."""
        self.bed.wait_until(f"task {task} writes", lambda: self.rows(task) >= batches, 60)

    def check_clean(self) -> None:
        """Nothing of the run is left behind: processes, temporary files, scratch, attempt counters."""
        time.sleep(1)
        assert [p for p in self.bed.user_processes() if "standin" in p or "sleep" in p] == []
        assert [str(p) for p in self.dir.rglob("*.tmp")] == []
        assert list(Path("/tmp").glob(f"foreshock-{self.bed.user}-*")) == []
        assert list(self.dir.glob("slurm/attempts/*")) == []


def test_an_array_runs_and_the_final_job_starts_after_it(bed: Any) -> None:
    run = StandIn(bed, "plain", batches=2)
    run.submit([[[0], [1], [2, 3]], [[4]]])
    bed.wait_idle()
    assert [run.rows(task) for task in range(5)] == [2] * 5
    assert (run.dir / "final-count").read_text().strip() == "10"
    assert "=== job" in run.log(0)
    run.check_clean()


def test_every_kind_of_death_is_handled_as_itself(bed: Any) -> None:
    run = StandIn(bed, "deaths", batches=4)
    run.misbehave(1, "die-early")
    run.misbehave(2, "exit 3")
    run.misbehave(3, "idle")
    run.submit([[[0], [1], [2], [3], [4], [5]]])
    run.wait_running(0, 0)
    worker = int((run.dir / "generated-00000").read_text().split()[1])
    os.kill(worker, signal.SIGKILL)
    run.wait_running(5, 5)
    bed.as_user("scancel", run.job(5))
    bed.wait_idle()
    assert "ended with exit code 137" in run.log(0)
    assert run.rows(0) == 4
    assert run.repeats(0) <= 1  # the batch in flight
    assert "ended with exit code 140" in run.log(1)
    assert run.rows(1) == 4
    assert run.state(2) == ["FAILED"]
    assert "exit code 3" in run.log(2)
    assert "giving up: 2 attempts in a row added nothing (last exit code 75)" in run.log(3)
    assert run.state(4) == ["COMPLETED"]
    assert run.repeats(4) == 0
    assert run.state(5)[-1] == "CANCELLED"
    assert "not requeued: Slurm says COMPLETING" in run.log(5)
    assert (run.dir / "final-count").exists()
    run.check_clean()


def test_preemption_requeues_the_preempted_element_alone(bed: Any) -> None:
    run = StandIn(bed, "preempt", batches=12, profile={"gpus_per_node": 1})
    run.submit([[[0], [1], [2]]])
    run.wait_running(0, 0)
    run.wait_running(1, 1)
    bed.preempt("n1")
    bed.wait_idle()
    hit, spared = (0, 1) if "stop requested" in run.log(0) else (1, 0)
    assert "requeueing" in run.log(hit)
    assert "attempt 1" in run.log(hit)
    assert "exit code 75" in run.log(hit)
    for element in (spared, 2):
        assert "attempt 1" not in run.log(element)
        assert "stop requested" not in run.log(element)
    assert [run.rows(task) for task in range(3)] == [12] * 3
    assert [run.repeats(task) for task in range(3)] == [0] * 3  # it was told in time to finish its batch
    run.check_clean()


def test_the_time_limit_stops_and_requeues(bed: Any) -> None:
    run = StandIn(bed, "timelimit", batches=40, seconds=1.0, profile={"time": 1, "signal_lead_s": 40})
    run.submit([[[0]]])
    bed.wait_idle(240)
    assert "stop requested: notice from Slurm" in run.log(0)
    assert "attempt 1" in run.log(0)
    assert run.rows(0) == 40
    assert run.repeats(0) == 0
    run.check_clean()


def test_a_killed_slurmstepd_leaves_no_second_writer(bed: Any) -> None:
    run = StandIn(bed, "stepd", batches=15)
    run.submit([[[0]]])
    run.wait_running(0, 0)
    shell = bed.batch_pid(run.job(0))
    stepd = int(bed.root("ps", "-o", "ppid=", "-p", str(shell)))
    os.kill(stepd, signal.SIGKILL)
    bed.wait_until("the orphan leaves", lambda: not Path(f"/proc/{shell}").exists(), 40)
    assert "slurmstepd is gone; leaving" in run.log(0)
    at_exit = run.rows(0)
    assert at_exit < 15
    bed.root("scontrol", "requeue", run.job(0), check=False)  # where slurmctld has not noticed by itself
    bed.wait_idle(240)
    assert run.repeats(0) == 0
    run.check_clean()


def test_daemon_restarts_disturb_nothing(bed: Any) -> None:
    run = StandIn(bed, "restarts", batches=12)
    run.submit([[[0], [1]]])
    run.wait_running(0, 0)
    for daemon in ("n1", "slurmctld", "n2"):
        bed.restart(daemon)
    bed.wait_idle()
    assert [run.rows(task) for task in range(2)] == [12, 12]
    assert [run.repeats(task) for task in range(2)] == [0, 0]
    assert "attempt 1" not in run.log(0) + run.log(1)
    run.check_clean()


SBATCH_THAT_KILLS = """#!/bin/bash
# stands in front of sbatch and kills the launcher, before or after the N-th submission
count=$(($(cat "$HOME/sbatch-calls" 2>/dev/null || echo 0) + 1))
echo "$count" >"$HOME/sbatch-calls"
when=$(cat "$HOME/kill-launcher" 2>/dev/null)
launcher=$(ps -o ppid= -p "$PPID") # the parent is timeout(1)
[[ $when == "before $count" ]] && kill -KILL $launcher
/usr/bin/sbatch "$@"
[[ $when == "after $count" ]] && kill -KILL $launcher
exit 0
"""


@pytest.mark.parametrize("when", ["before 1", "after 1", "before 2", "after 2", "after 3"])
def test_a_launcher_killed_around_sbatch_neither_loses_nor_doubles_a_job(bed: Any, when: str) -> None:
    home = bed.state / "home"
    (home / "bin").mkdir(exist_ok=True)
    (home / "bin" / "sbatch").write_text(SBATCH_THAT_KILLS)
    (home / "bin" / "sbatch").chmod(0o755)
    (home / "sbatch-calls").unlink(missing_ok=True)
    (home / "kill-launcher").write_text(when)
    run = StandIn(bed, f"killed-{when.replace(' ', '-')}", batches=1, seconds=0.2)
    with pytest.raises(AssertionError):  # the launcher dies
        run.submit([[[0], [1]], [[2]]], path=str(home / "bin"))
    (home / "kill-launcher").unlink()
    entry = run.submit([[[0], [1]], [[2]]])
    bed.wait_idle()
    bed.wait_until("accounting knows every job", lambda: len(jobs_by_name(bed, entry)) == 3, 60)
    assert jobs_by_name(bed, entry) == dict.fromkeys(run_names(entry), 1)
    assert [run.rows(task) for task in range(3)] == [1] * 3
    assert [run.repeats(task) for task in range(3)] == [0] * 3


def jobs_by_name(bed: Any, entry: dict[str, Any]) -> dict[str, int]:
    """How many jobs accounting has under each name of a submission; an array is one."""
    names = ",".join(run_names(entry))
    lines = bed.root("sacct", "-nPX", "-o", "JobName,JobID", "--name", names).splitlines()
    return dict(Counter(line.split("|")[0] for line in {line.split("_")[0] for line in lines}))


def run_names(entry: dict[str, Any]) -> list[str]:
    """Job names of a journal entry."""
    return [job["name"] for job in [*entry["arrays"], entry["final"]]]


def test_emitted_scripts_are_submitted_by_hand_and_only_once(bed: Any) -> None:
    run = StandIn(bed, "emitted", batches=1, seconds=0.2)
    folder = run.dir / "scripts"
    run.submit([[[0], [1]], [[2]]], emit=str(folder))
    for path in folder.iterdir():
        bed.as_user("bash", "-n", str(path))
    bed.as_user(str(folder / "submit.sh"))
    bed.as_user(str(folder / "submit.sh"))
    assert len({name for _, name, _ in bed.queue()}) <= 3
    bed.wait_idle()
    assert [run.rows(task) for task in range(3)] == [1] * 3
    assert [run.repeats(task) for task in range(3)] == [0] * 3
    assert (run.dir / "final-count").read_text().strip() == "3"
