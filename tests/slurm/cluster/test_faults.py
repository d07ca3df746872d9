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
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from foreshock.jobs.evaluate import FLUSH_S

pytestmark = [pytest.mark.cluster, pytest.mark.early]

EVENTS = int(os.environ.get("FORESHOCK_FAULT_EVENTS", "30"))
SEED = int(os.environ.get("FORESHOCK_FAULT_SEED", "7"))
ATTEMPTS = 6
FULL_DISK_S = 60 if EVENTS >= 30 else 8
SIGNAL_LEAD_S = 20
PACE_S = 0.2  # so that faults find workers sampling
UNWRITTEN_S = FLUSH_S + 15.0  # how old a sample may be that is not on disk: verification takes a while, too


@dataclass
class WorkerLog:
    """What one worker process made, as `counting/` noted it."""

    made: dict[int, float] = field(default_factory=dict)  # seed -> when, the last time
    again: int = 0  # made by itself before
    start: float = 0.0
    end: float = 0.0
    left: bool = False  # by itself, not killed

    @classmethod
    def read(cls, path: Path) -> WorkerLog:
        worker = cls()
        for at, what in (line.split() for line in path.read_text().splitlines()):
            worker.start, worker.end = worker.start or float(at), float(at)
            if what == "left":
                worker.left = True
            else:
                worker.again += int(what) in worker.made
                worker.made[int(what)] = float(at)
        return worker


class Injector:
    """Injects one random fault at a time into whatever runs."""

    def __init__(self, bed: Any, run_dir: Callable[[], Path], disk: Path, broken: Path, seed: int) -> None:
        self.bed, self.run_dir, self.disk, self.broken = bed, run_dir, disk, broken
        self.random = random.Random(seed)
        self.done: Counter[str] = Counter()
        self.deck: list[Callable[[], bool]] = []
        self.torn: set[int] = set()  # seeds of torn shards' rows
        self.full: list[tuple[float, float]] = []  # when the disk was full

    def workers(self) -> list[int]:
        lines = self.bed.root("ps", "-o", "pid=,args=", "-u", self.bed.user, check=False).splitlines()
        return [int(line.split()[0]) for line in lines if "-m foreshock.jobs" in line]

    def elements(self) -> list[str]:
        return [job for job, name, state in self.bed.queue() if state == "RUNNING" and "-a" in name]

    def step(self) -> None:
        """One fault that applies now; the kinds are dealt like cards, so that each comes before any comes again."""
        if not self.deck:
            self.deck = [self.preempt, self.scancel, self.kill_worker, self.kill_stepd, self.slurmd, self.slurmctld]
            self.deck += [self.full_disk, self.truncate, self.time_limit]
            self.deck += [self.suspend, self.bad_node, self.outage, self.power_loss]
            self.random.shuffle(self.deck)
        kind = self.deck.pop()
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
        ballast, start = self.disk / "ballast", time.time()
        subprocess.run(["dd", "if=/dev/zero", f"of={ballast}", "bs=64k"], capture_output=True, check=False)
        time.sleep(FULL_DISK_S)
        ballast.unlink()
        self.full.append((start, time.time() + 5))  # a worker notices with the next sample
        return True

    def time_limit(self) -> bool:
        """An element's wall time shrinks to a minute, for its later attempts too: each runs into its limit."""
        running = self.elements()
        if running:
            self.bed.root("scontrol", "update", f"jobid={self.random.choice(running)}", "TimeLimit=1", check=False)
        return bool(running)

    def suspend(self) -> bool:
        """An element stands still for a moment."""
        running = self.elements()
        if not running:
            return False
        job = self.random.choice(running)
        self.bed.root("scontrol", "suspend", job, check=False)
        time.sleep(3)
        self.bed.root("scontrol", "resume", job, check=False)
        return True

    def bad_node(self) -> bool:
        """Whatever starts on n1 fails at once for a while: after two of them it is excluded if n2 does work."""
        self.broken.touch()
        time.sleep(10)
        self.broken.unlink()
        return True

    def outage(self) -> bool:
        """Nobody hears of ends, requeues and signals."""
        self.bed.stop("slurmctld")
        time.sleep(12)
        self.bed.restart("slurmctld")
        return True

    def power_loss(self) -> bool:
        """All that runs on a node is gone at one instant, its daemon too; the node comes back."""
        node = self.random.choice(["n1", "n2"])
        spool = f"{self.bed.state}/spool/{node}"
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and self._is_on(entry, node, spool):
                self._kill(int(entry.name))
        self.bed.restart(node)
        return True

    def _is_on(self, process: Path, node: str, spool: str) -> bool:
        try:
            environment = (process / "environ").read_bytes().split(b"\0")
            of_job = f"SLURMD_NODENAME={node}".encode() in environment
            return (of_job and process.owner() == self.bed.user) or str((process / "cwd").readlink()).startswith(spool)
        except (OSError, KeyError):
            return False

    def truncate(self) -> bool:
        """Of a bundle, all shards are torn."""
        shards = sorted([*self.run_dir().glob("shards/eval/*/*.jsonl"), *self.run_dir().glob("shards/bundles/*.zip")])
        if not shards:
            return False
        victim = self.random.choice(shards)
        self.torn |= {int(seed) for seed in re.findall(rb'"seed": ?(\d+)', victim.read_bytes())}
        with victim.open("r+b") as file:
            file.truncate(max(1, victim.stat().st_size // 2))
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
        "execution": {"shard_tasks": 4, "heal": 12, "bundle_from": 4},
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
        broken = folder / "n1-is-broken"
        setup = [f"export COUNT_DIR={counts} COUNT_PACE={PACE_S} PYTHONPATH={counting}"]
        setup += [f"if [[ $SLURMD_NODENAME == n1 && -e {broken} ]]; then exit 9; fi"]
        profile = {"setup": setup, "no_progress_limit": 20, "signal_lead_s": SIGNAL_LEAD_S}
        config = sweep.write_config(folder, inputs, profile, **sections())
        run = sweep_tools.Sweep(bed, folder, config)
        run.foreshock("run", str(run.config))
        injector = Injector(bed, lambda: run.dir, disk, broken, SEED)
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
        run.foreshock("resume", str(run.dir))  # bundles what the last job could not, as while the disk was full
        print(f"events: {dict(injector.done)}")
        assert list(run.dir.glob("shards/bundles/*.zip"))
        assert len(list(run.dir.glob("shards/*/*/*.manifest.json"))) < 2  # the last repair may have made one, alone
        assert reference.wait() == 0
        assert run.tables() == calm.tables()
        _check_losses(counts, injector)
        time.sleep(6)
        assert [p for p in bed.user_processes() if "foreshock" in p or "sleep" in p] == []
        assert [str(p) for p in run.dir.rglob("*.tmp")] == []
        assert list(Path("/tmp").glob(f"foreshock-{bed.user}-*")) == []
    finally:
        reference.kill()
        subprocess.run(["umount", "-l", str(disk)], check=False)


def _check_losses(counts: Path, injector: Injector) -> None:
    """What each worker made and had not written when it ended, which is what somebody made again.

    A worker that left by itself lost nothing. One that was killed lost what it had made in the last seconds at most:
    rows are handed on every FLUSH_S, and then verified. The same holds for the time in which the disk was full. Rows
    of torn shards, which others had written, are left out.
    """
    workers = {path.name: WorkerLog.read(path) for path in counts.iterdir()}
    last: dict[int, float] = {}
    for worker in workers.values():
        for seed, at in worker.made.items():
            last[seed] = max(at, last.get(seed, at))
    total = sum(len(worker.made) for worker in workers.values())
    print(f"{total} samples by {len(workers)} workers, {len(last)} distinct, {len(injector.torn)} in torn shards")
    late = []
    for name, worker in sorted(workers.items()):
        lost = [at for seed, at in worker.made.items() if at < last[seed] and seed not in injector.torn]
        spans = [] if worker.left else [(worker.end - UNWRITTEN_S, worker.end)]
        spans += [(start - UNWRITTEN_S, end) for start, end in injector.full]
        late += [at for at in lost if not any(start <= at <= end for start, end in spans)]
        print(f"{name}: {len(worker.made)} made, {len(lost)} lost; {'left' if worker.left else 'killed'}")
        assert worker.again == 0
    assert late == []
