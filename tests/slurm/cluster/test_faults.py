"""A sweep under fire: random faults of every kind, and tables that are identical to an undisturbed run's."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytestmark = [pytest.mark.cluster, pytest.mark.xdist_group("faults")]

EVENTS = int(os.environ.get("FORESHOCK_FAULT_EVENTS", "30"))
SEED = int(os.environ.get("FORESHOCK_FAULT_SEED", "7"))
BATCH = 8
ATTEMPTS = 6
FULL_DISK_S = 60 if EVENTS >= 30 else 8
SIGNAL_LEAD_S = 20


class Injector:
    """Injects one random fault at a time into whatever runs."""

    def __init__(self, bed: Any, run_dir: Callable[[], Path], disk: Path, seed: int) -> None:
        self.bed, self.run_dir, self.disk = bed, run_dir, disk
        self.random = random.Random(seed)
        self.done: Counter[str] = Counter()
        self.torn = 0  # shards, also those torn to give a finished run something to do

    def workers(self) -> list[int]:
        lines = self.bed.root("ps", "-o", "pid=,args=", "-u", self.bed.user, check=False).splitlines()
        return [int(line.split()[0]) for line in lines if "-m foreshock.jobs" in line]

    def elements(self) -> list[str]:
        return [job for job, name, state in self.bed.queue() if state == "RUNNING" and "-a" in name]

    def step(self) -> None:
        """One fault, of a kind chosen at random among those that apply now."""
        kinds = [self.preempt, self.scancel, self.kill_worker, self.kill_stepd, self.slurmd, self.slurmctld]
        kinds += [self.full_disk, self.truncate, self.time_limit]
        kind = self.random.choice(kinds)
        if kind():
            self.done[kind.__name__] += 1
            print(time.strftime("%H:%M:%S"), self.done.total(), kind.__name__, flush=True)

    def preempt(self) -> bool:
        self.bed.preempt(self.random.choice(["n1", "n2"]))
        return True

    def scancel(self) -> bool:
        running = self.elements()
        if running:
            self.bed.as_user("scancel", self.random.choice(running), check=False)
        return bool(running)

    def kill_worker(self) -> bool:
        running = self.workers()
        if running:
            self._kill(self.random.choice(running))
        return bool(running)

    def kill_stepd(self) -> bool:
        running = self.elements()
        if not running:
            return False
        try:
            shell = self.bed.batch_pid(self.random.choice(running))
        except AssertionError:
            return False
        self._kill(int(self.bed.root("ps", "-o", "ppid=", "-p", str(shell), check=False) or "0"))
        return True

    def slurmd(self) -> bool:
        self.bed.restart(self.random.choice(["n1", "n2"]))
        return True

    def slurmctld(self) -> bool:
        self.bed.restart("slurmctld")
        return True

    def full_disk(self) -> bool:
        ballast = self.disk / "ballast"
        subprocess.run(["dd", "if=/dev/zero", f"of={ballast}", "bs=64k"], capture_output=True, check=False)
        time.sleep(FULL_DISK_S)
        ballast.unlink()
        return True

    def time_limit(self) -> bool:
        """An element's wall time shrinks to a minute, for its later attempts too: each runs into its limit."""
        running = self.elements()
        if running:
            self.bed.root("scontrol", "update", f"jobid={self.random.choice(running)}", "TimeLimit=1", check=False)
        return bool(running)

    def truncate(self) -> bool:
        shards = sorted(self.run_dir().glob("shards/eval/*/*.jsonl"))
        if not shards:
            return False
        victim = self.random.choice(shards)
        with victim.open("r+b") as file:
            file.truncate(max(1, victim.stat().st_size // 2))
        self.torn += 1
        return True

    def _kill(self, pid: int) -> None:
        if pid > 1:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                return


def sections() -> dict[str, Any]:
    """A longer sweep than the other tests', in small shards."""
    return {
        "sampling": {"attempts": ATTEMPTS, "max_tokens": 48},
        "prefill": {"assignment": "shared"},
        "analysis": {"enabled": False},  # the tables are what faults could change
        "execution": {"shard_tasks": 4, "heal": 12},
    }


def test_tables_after_many_faults_equal_those_of_an_undisturbed_run(
    bed: Any, sweep: ModuleType, inputs: Path, sweep_tools: ModuleType
) -> None:
    calm = sweep_tools.make(
        bed, sweep, inputs, "calm", **sections() | {"execution": {"cluster": "inline", "shard_tasks": 4}}
    )
    reference = subprocess.Popen(
        bed.user_argv([str(bed.python), "-m", "foreshock", "run", str(calm.config)]),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    folder = bed.folder("faults")
    disk = folder / "results"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m,mode=0777", "tmpfs", str(disk)], check=True)
    counts = folder / "counts"
    counts.mkdir(mode=0o777)
    counts.chmod(0o777)
    try:
        counting = bed.helpers / "counting"
        setup = [f"export COUNT_DIR={counts} PYTHONPATH={counting}"]
        profile = {"setup": setup, "no_progress_limit": 20, "signal_lead_s": SIGNAL_LEAD_S}
        config = sweep.write_config(folder, inputs, profile, **sections())
        run = sweep_tools.Sweep(bed, folder, config)
        run.foreshock("run", str(run.config))
        injector = Injector(bed, lambda: run.dir, disk, SEED)
        end = time.monotonic() + 60 * EVENTS
        while injector.done.total() < EVENTS and time.monotonic() < end:
            if not bed.queue():  # all done before all events: tear something down and go on
                injector.truncate()
                run.foreshock("resume", str(run.dir))
            pause = time.monotonic() + injector.random.uniform(4, 16)
            while time.monotonic() < pause:
                bed.nudge()
                time.sleep(1)
            injector.step()
        assert injector.done.total() >= EVENTS
        bed.wait_idle(1200)
        for _ in range(4):  # a shard may have been truncated after the last job looked at it
            if run.document()["status"] == "completed" and run.status()["rows_done"] == run.status()["rows_total"]:
                break
            run.foreshock("resume", str(run.dir), check=False)
            bed.wait_idle(1200)
        print(f"events: {dict(injector.done)}")
        assert reference.wait() == 0
        assert run.tables() == calm.tables()
        _check_counts(run, counts, injector)
        time.sleep(6)
        assert [p for p in bed.user_processes() if "foreshock" in p or "sleep" in p] == []
        assert [str(p) for p in run.dir.rglob("*.tmp")] == []
        assert list(Path("/tmp").glob(f"foreshock-{bed.user}-*")) == []
    finally:
        reference.kill()
        subprocess.run(["umount", "-l", str(disk)], check=False)


def _check_counts(run: Any, counts: Path, injector: Injector) -> None:
    """No sample twice, beyond the batches in flight when an attempt ended abruptly and the rows of torn shards.

    In flight are at most two batches: one being sampled, one being verified. An attempt that failed (full disk)
    may have lost them once a checkpoint. Logs lie on the disk that gets full, so attempts that failed for it may have
    left no trace: there were at least as many as the logs tell, at most two each time where they tell fewer.
    """
    made: Counter[str] = Counter()
    for path in counts.iterdir():
        made.update(path.read_text().split())
    repeated = sum(n - 1 for n in made.values())
    abrupt = failures = 0
    for path in run.dir.glob("logs/slurm/*-a*.log"):
        for attempt in path.read_text().split("=== job")[1:]:
            orderly = re.search(r"ended with exit code (0|75)$", attempt, re.MULTILINE)
            failed = re.search(r"ended with exit code 1$", attempt, re.MULTILINE)
            failures += bool(failed)
            abrupt += not (orderly or failed)
    lost = abrupt + 4 * max(failures, 2 * injector.done["full_disk"])
    print(f"{sum(made.values())} samples made, {len(made)} distinct, {repeated} repeated", end="; ")
    print(f"{lost} losses of a batch, {injector.torn} torn shards")
    assert repeated <= 2 * BATCH * lost + 4 * ATTEMPTS * injector.torn
