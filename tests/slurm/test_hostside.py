"""The host side of a job, run by bash here, with a scontrol that only notes how it was called.

What Slurm itself does (signals, preemption, requeueing) is tested on a real cluster, in cluster/.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from foreshock.slurm.jobscript import ArrayScript, FinalScript, Program, render
from foreshock.slurm.profile import parse_profile

PROFILE = parse_profile({"time": 10, "signal_lead_s": 60, "canary": False, "no_progress_limit": 2})
SCONTROL = """#!/bin/bash
[[ $* == *"show job"* ]] && echo "JobId=8 JobState=$(cat "$HOME/state") Reason=None"
[[ $1 == requeue ]] && echo "$2" >>"$HOME/requeued"
exit 0
"""


@dataclass
class Host:
    """A place to run a script in."""

    home: Path

    def script(self, worker: str, elements: tuple[tuple[int, ...], ...] = ((0,), (1, 2))) -> Path:
        path = self.home / "job.sbatch"
        program = Program(f"bash -c {shlex.quote(worker)} worker")
        path.write_text(render(ArrayScript("fs-t-a0", "t", self.home / "run", 0, program, elements, PROFILE)))
        return path

    def start(self, path: Path, element: int = 0, **more: str) -> subprocess.Popen[str]:
        environment = {
            "PATH": f"{self.home}/bin:{os.environ['PATH']}", "HOME": str(self.home), "USER": "me",
            "TMPDIR": str(self.home / "tmp"), "SLURM_JOB_ID": "8", "SLURM_ARRAY_JOB_ID": "7",
            "SLURM_ARRAY_TASK_ID": str(element), "SLURM_JOB_NAME": "fs-t-a0", "SLURMD_NODENAME": "n1", **more,
        }  # fmt: skip
        return subprocess.Popen(
            ["bash", str(path)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def run(self, worker: str, element: int = 0, **more: str) -> tuple[int, str]:
        process = self.start(self.script(worker), element, **more)
        output, _ = process.communicate(timeout=60)
        return process.returncode, output

    @property
    def requeued(self) -> list[str]:
        path = self.home / "requeued"
        return path.read_text().split() if path.exists() else []

    def progress(self, task: int, done: int, resumed: int, pack: int = 0) -> None:
        path = self.home / "run" / "progress" / f"task-{task:05d}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        content = {"pack": pack, "rows_done": done, "rows_resumed": resumed, "updated": time.time() + 5}
        path.write_text(json.dumps(content, indent=2))


@pytest.fixture
def host(tmp_path: Path) -> Host:
    (tmp_path / "bin").mkdir()
    (tmp_path / "tmp").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "bin" / "scontrol").write_text(SCONTROL)
    (tmp_path / "bin" / "scontrol").chmod(0o755)
    (tmp_path / "state").write_text("RUNNING")
    return Host(tmp_path)


def test_every_task_of_the_element_is_run_in_order(host: Host) -> None:
    code, output = host.run('echo "ran $*"', element=1)
    assert code == 0
    assert [line for line in output.splitlines() if line.startswith("ran")] == ["ran --task 1", "ran --task 2"]
    assert host.requeued == []


def test_scratch_exists_for_the_worker_and_is_gone_afterwards(host: Host) -> None:
    code, output = host.run('touch "$TMPDIR/x"; echo "cache $VLLM_CACHE_ROOT"')
    assert code == 0
    assert re.search(rf"cache {host.home}/tmp/foreshock-me-8\.[0-9]+\.\w+/vllm", output)
    assert list((host.home / "tmp").iterdir()) == []


def scratch(host: Host, name: str, node: str | None = None) -> Path:
    """A job's folder; without a node the job has only just made it."""
    path = host.home / "tmp" / f"foreshock-me-{name}"
    path.mkdir()
    if node is not None:
        (path / "host").write_text(node + "\n")
    return path


def test_scratch_that_a_killed_job_left_is_removed(host: Host) -> None:
    stale = scratch(host, "3.999999999.abcdef", socket.gethostname())
    host.run("true")
    assert not stale.exists()


def test_scratch_of_living_starting_and_other_nodes_jobs_is_kept(host: Host) -> None:
    kept = [
        scratch(host, f"4.{os.getpid()}.abcdef", socket.gethostname()),
        scratch(host, "5.999999999.abcdef"),
        scratch(host, "6.999999999.abcdef", "another-node"),
    ]
    code, _ = host.run("true")
    assert code == 0
    assert all(path.exists() for path in kept)


def test_scratch_that_never_said_whose_it_is_goes_once_it_is_old(host: Host) -> None:
    """Its job was killed between making the folder and writing its host."""
    stale = scratch(host, "7.999999999.abcdef")
    os.utime(stale, (time.time() - 1000, time.time() - 1000))
    host.run("true")
    assert not stale.exists()


@pytest.mark.parametrize("times", [1, 3])
def test_a_signal_that_ends_the_removal_of_scratch_does_not_leave_it(host: Host, times: int) -> None:
    """A requeue sends SIGTERM to every process of the job, and the rm has no trap."""
    rm = host.home / "bin" / "rm"
    rm.write_text(
        f"""#!/bin/bash
calls=$(cat "$HOME/calls" 2>/dev/null || echo 0)
echo $((calls + 1)) >"$HOME/calls"
if ((calls < {times})); then kill -TERM $$; fi
PATH=/usr/bin:/bin exec rm "$@"
"""
    )
    rm.chmod(0o755)
    code, _ = host.run('touch "$TMPDIR/x"')
    assert code == 0
    assert list((host.home / "tmp").iterdir()) == []
    assert int((host.home / "calls").read_text()) > times


def test_where_no_scratch_can_be_made_the_job_says_so(host: Host) -> None:
    (host.home / "tmp").rmdir()
    code, output = host.run("true")
    assert code == 1
    assert f"cannot make scratch in {host.home}/tmp" in output


@pytest.mark.parametrize("code", [75, 135, 137, 138, 140, 143])
def test_interrupted_work_requeues_this_array_element(host: Host, code: int) -> None:
    returned, output = host.run(f"exit {code}")
    assert returned == code
    assert host.requeued == ["7_0"]
    halved = ", batch halved 1 times" if code == 137 else ""
    assert f"exit code {code} after 0 new rows{halved}; requeueing 7_0" in output


def test_a_notice_at_the_moment_the_worker_leaves_fails_nothing(host: Host) -> None:
    """bash then says 138 about half of the time, whatever the worker's own code was."""
    code, output = host.run('trap "" USR2; kill -USR1 $PPID; exit 0')
    assert code in (0, 138), output
    assert bool(host.requeued) == (code == 138)


@pytest.mark.parametrize("code", [1, 2, 139])
def test_failed_work_is_not_requeued_and_does_not_stop_the_elements_other_tasks(host: Host, code: int) -> None:
    returned, output = host.run(f'[[ $2 == 1 ]] && exit {code}; echo "ran $2"', element=1)
    assert returned == code
    assert "ran 2" in output
    assert host.requeued == []


def test_attempts_that_add_nothing_are_limited(host: Host) -> None:
    host.run("exit 75")
    _, output = host.run("exit 75")
    assert "giving up: 2 attempts in a row added nothing (last exit code 75)" in output
    assert host.requeued == ["7_0"]
    assert list((host.home / "run" / "slurm" / "attempts").iterdir()) == []


def test_a_worker_killed_before_it_added_anything_starts_again_with_half_the_batch(host: Host) -> None:
    said = [host.run('echo "halvings $FORESHOCK_BATCH_HALVINGS"; kill -KILL $$')[1] for _ in range(2)]
    assert "halvings 0" in said[0]
    assert "exit code 137 after 0 new rows, batch halved 1 times; requeueing 7_0" in said[0]
    assert "halvings 1" in said[1]
    assert "giving up: 2 attempts in a row added nothing (last exit code 137, batch halved 2 times)" in said[1]


def test_a_stopped_worker_keeps_its_batch(host: Host) -> None:
    host.run("exit 75")
    assert "halvings 0" in host.run('echo "halvings $FORESHOCK_BATCH_HALVINGS"')[1]


def memory_files() -> set[str]:
    """Where this process's control groups count kills, below the root: version 2, and 1 where there is one."""
    lines = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    version_1 = {f"memory{group}/memory.oom_control" for _, controllers, group in lines if controllers == "memory"}
    return version_1 | {f"{group}/memory.events".lstrip("/") for _, controllers, group in lines if not controllers}


def test_a_kill_for_memory_is_named_and_halves_the_batch_whatever_was_added(host: Host) -> None:
    events = [host.home / "cgroup" / file for file in memory_files()]
    for file in events:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("max 3\noom_kill 0\n")
    host.progress(0, done=8, resumed=0)
    kill = " ".join(f"echo oom_kill 1 >{shlex.quote(str(file))};" for file in events)
    _, output = host.run(f"{kill} kill -KILL $$", FS_CGROUP_ROOT=str(host.home / "cgroup"))
    assert "exit code 137 after 8 new rows, out of memory, batch halved 1 times; requeueing 7_0" in output


def test_attempts_that_add_rows_are_not_limited(host: Host) -> None:
    for attempt in range(4):
        host.progress(0, done=8 * (attempt + 1), resumed=8 * attempt)
        _, output = host.run("exit 75")
        assert "after 8 new rows" in output
    assert host.requeued == ["7_0"] * 4


def test_progress_of_another_pack_gives_the_benefit_of_the_doubt(host: Host) -> None:
    for _ in range(3):
        host.progress(0, done=8, resumed=8, pack=1)
        host.run("exit 75")
    assert host.requeued == ["7_0"] * 3


@pytest.mark.parametrize("state", ["COMPLETING", "CANCELLED"])
def test_a_cancelled_job_stays_cancelled(host: Host, state: str) -> None:
    (host.home / "state").write_text(state)
    _, output = host.run("exit 75")
    assert host.requeued == []
    assert f"not requeued: Slurm says {state}" in output


def test_a_cancelled_run_does_not_requeue(host: Host) -> None:
    (host.home / "run" / "slurm").mkdir()
    (host.home / "run" / "slurm" / "cancelled-t").touch()
    _, output = host.run("exit 75")
    assert host.requeued == []
    assert "the run is cancelled" in output


WORKER = "trap 'echo asked; asked=1' USR2; echo ready; for i in {1..100}; do [[ $asked ]] && exit 75; sleep 0.1; done"


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM])
def test_a_notice_is_passed_on_once_and_the_worker_is_waited_for(host: Host, number: signal.Signals) -> None:
    process = host.start(host.script(WORKER))
    assert process.stdout is not None
    for line in process.stdout:
        if "ready" in line:
            break
    for _ in range(3):
        process.send_signal(number)
        time.sleep(0.02)
    output, _ = process.communicate(timeout=30)
    assert output.count("asked") == 1
    assert output.count("stop requested") == 1
    assert host.requeued == ["7_0"]


def test_a_stop_between_tasks_starts_no_further_one(host: Host) -> None:
    path = host.script('kill -USR1 $PPID; sleep 0.3; echo "ran $2"; trap "" USR2; exit 0', ((0, 1),))
    process = host.start(path)
    output, _ = process.communicate(timeout=30)
    assert "ran 1" not in output
    assert host.requeued == ["7_0"]


def final(host: Host, finish: str) -> tuple[int, str]:
    """Run a final job whose program is the bash text `finish`."""
    nxt = host.home / "next"
    nxt.mkdir(exist_ok=True)
    program = Program(f"bash -c {shlex.quote(finish)} finish")
    path = host.home / "end.sbatch"
    path.write_text(render(FinalScript("fs-t-end", "t", host.home / "run", 0, program, nxt, PROFILE)))
    process = host.start(path)
    output, _ = process.communicate(timeout=60)
    return process.returncode, output


def test_the_final_job_submits_the_next_round_outside_its_scratch(host: Host) -> None:
    (host.home / "next").mkdir()
    (host.home / "next" / "submit.sh").write_text('echo "submitted with $TMPDIR ${VLLM_CACHE_ROOT:-none}"')
    code, output = final(host, "exit 76")
    assert code == 0
    assert f"submitted with {host.home}/tmp none" in output


def test_the_final_job_analyses_when_it_cannot_submit(host: Host) -> None:
    (host.home / "next").mkdir()
    (host.home / "next" / "submit.sh").write_text("exit 1")
    code, output = final(host, "[[ $1 == --heal && $2 == 0 ]] && echo analysed && exit 1; exit 76")
    assert code == 1
    assert "analysed" in output


def test_a_full_queue_is_waited_for_in_the_queue(host: Host) -> None:
    (host.home / "next").mkdir()
    (host.home / "next" / "submit.sh").write_text("echo 'sbatch: error: QOSMaxSubmitJobPerUserLimit' >&2; exit 75")
    code, output = final(host, "exit 76")
    assert code == 75
    assert "not now: sbatch: error: QOSMaxSubmitJobPerUserLimit; trying again later" in output
    assert host.requeued == ["7_0"]
    assert "QOSMaxSubmit" in (host.home / "run" / "slurm" / "waiting-t").read_text()
    (host.home / "next" / "submit.sh").write_text("echo submitted")
    code, output = final(host, "exit 76")
    assert code == 0
    assert not list((host.home / "run" / "slurm").glob("waiting-*"))
    assert not list((host.home / "run" / "slurm" / "attempts").glob("*"))


def test_a_dropped_submission_leaves_before_it_does_anything(host: Host) -> None:
    marker = host.home / "run" / "slurm" / "dropped-fs-t-a0"
    marker.parent.mkdir(parents=True)
    marker.touch()
    code, output = host.run("echo worked")
    assert code == 0
    assert "planned anew; leaving" in output
    assert "worked" not in output


def test_a_node_is_excluded_when_two_elements_fail_at_once_and_another_node_does_work(host: Host) -> None:
    nodes = host.home / "run" / "slurm" / "nodes"
    (nodes / "n2").mkdir(parents=True)
    (nodes / "n2" / "worked").touch()
    code, output = host.run("exit 3", SLURM_RESTART_COUNT="0")
    assert code == 3
    assert "excluding" not in output
    code, output = host.run("exit 3", element=1)
    assert "2 elements failed at once on n1; excluding this node" in output
    assert (nodes / "n1" / "excluded").exists()
    assert not list(nodes.glob("*/running-*"))


def test_where_nobody_works_no_node_is_excluded(host: Host) -> None:
    for element in (0, 1):
        _, output = host.run("exit 3", element=element)
        assert "excluding" not in output
    assert len(list((host.home / "run" / "slurm" / "nodes" / "n1").glob("failed-*"))) == 2


def test_a_requeue_that_slurm_refuses_is_tried_again(host: Host) -> None:
    scontrol = host.home / "bin" / "scontrol"
    scontrol.write_text(
        scontrol.read_text().replace(
            "[[ $1 == requeue ]]",
            '[[ $1 == requeue && ! -e $HOME/busy ]] && touch "$HOME/busy" && exit 1\n[[ $1 == requeue ]]',
        )
    )
    code, output = host.run("exit 75")
    assert code == 75
    assert host.requeued == ["7_0"]
    assert "Slurm refused" not in output
