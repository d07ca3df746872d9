"""Infrastructure failures: retried, reported as themselves, never as a failed test, and a stop when too many."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from foreshock.jobs.records.verdicts import SandboxTier
from foreshock.jobs.verify import service as service_module
from foreshock.jobs.verify.base import Outcome, Verdict, Verification
from foreshock.jobs.verify.builtin.problems import builtin_problems
from foreshock.jobs.verify.builtin.verifier import BuiltinVerifier
from foreshock.jobs.verify.sandbox import worker as worker_module
from foreshock.jobs.verify.sandbox.limits import Limits
from foreshock.jobs.verify.sandbox.worker import InfraError, Worker, ZygoteConfig
from foreshock.jobs.verify.service import InfraRateExceededError, RateStop, WorkerPool

TIER = SandboxTier.RLIMITS_ONLY
RUNNER = "foreshock.jobs.verify.runner"
PASSED = Verdict(Outcome.PASSED)
GOOD = Verification(PASSED, PASSED, TIER)
(PROBLEM,) = builtin_problems("train", ["type_confusion"], per_family=1)


def test_a_sandbox_that_cannot_start_gives_an_infrastructure_error_within_5_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "_interpreter", lambda: ["/bin/false"])
    with BuiltinVerifier(1, 10.0, True, tier=TIER) as verifier:
        started = time.monotonic()
        verification = verifier.verify(PROBLEM, PROBLEM.ground_truth)
        assert time.monotonic() - started < 5
    assert verification.secure.outcome is verification.insecure.outcome is Outcome.INFRA_ERROR
    assert verification.exploit_success is None
    assert "ended without a word" in (verification.secure.detail or "")


def test_a_sandbox_that_hangs_on_start_gives_an_infrastructure_error_within_5_s(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    hang = tmp_path / "hang"
    hang.write_text("#!/bin/sh\nexec sleep 100\n")
    hang.chmod(0o755)
    monkeypatch.setattr(worker_module, "_interpreter", lambda: [str(hang)])
    monkeypatch.setattr(worker_module, "START_S", 1.0)
    with BuiltinVerifier(1, 10.0, True, tier=TIER) as verifier:
        verification = verifier.verify(PROBLEM, PROBLEM.ground_truth)
    assert verification.secure.outcome is Outcome.INFRA_ERROR
    assert "did nothing for 1 s while it started" in (verification.secure.detail or "")


def test_the_allowance_to_start_is_below_5_s() -> None:
    assert worker_module.START_S < 5


def test_a_runner_that_cannot_be_imported_is_named() -> None:
    worker = Worker(ZygoteConfig(TIER, "foreshock.no_such_runner"))
    with pytest.raises(
        InfraError, match=r"tier 'rlimits-only' could not be set up: ModuleNotFoundError.*no_such_runner"
    ):
        worker.start()
    worker.close()


def test_a_zygote_that_died_is_replaced(tier: SandboxTier) -> None:
    with BuiltinVerifier(1, 10.0, True, tier=tier) as verifier:
        assert verifier.verify(PROBLEM, PROBLEM.ground_truth).secure.passed
        process = verifier._pool._all[0]._process
        assert process is not None
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        verification = verifier.verify(PROBLEM, PROBLEM.ground_truth)
        assert verification.secure.passed
        assert verification.insecure.passed


@pytest.mark.parametrize("which", [0, -1], ids=["outer", "inner"])
def test_a_zygote_that_is_killed_at_its_own_start_is_started_again(
    tier: SandboxTier, which: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even on a machine so slow that a broken sandbox would be given up by then."""
    monkeypatch.setattr(service_module, "START_S", 0.0)
    start, killed = Worker._spawn, []

    def spawn_and_kill(worker: Worker, *arguments: Any) -> bytes:
        answer = start(worker, *arguments)
        if len(killed) == 2:
            return answer
        assert worker._process is not None
        killed.append([worker._process.pid, *_children(worker._process.pid)][which])
        os.kill(killed[-1], signal.SIGKILL)
        worker._process.wait()
        return b""

    monkeypatch.setattr(Worker, "_spawn", spawn_and_kill)
    with BuiltinVerifier(1, 10.0, True, tier=tier) as verifier:
        assert verifier.verify(PROBLEM, PROBLEM.ground_truth).secure.passed
    assert len(killed) == 2


def test_a_zygote_that_is_stopped_at_its_own_start_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "START_S", 0.5)
    first_word = Worker._first_word

    def stopped(worker: Worker) -> bytes:
        assert worker._process is not None
        os.kill(worker._process.pid, signal.SIGSTOP)
        threading.Timer(1.5, os.kill, (worker._process.pid, signal.SIGCONT)).start()
        return first_word(worker)

    monkeypatch.setattr(Worker, "_first_word", stopped)
    worker = Worker(ZygoteConfig(TIER, RUNNER))
    assert worker.start() > 0
    worker.close()


def _children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_an_infrastructure_error_is_tried_again() -> None:
    tries = []

    def flaky(worker: Worker) -> Verification:
        tries.append(worker)
        if len(tries) < 3:
            raise InfraError("the node hiccuped")
        return GOOD

    pool = WorkerPool(ZygoteConfig(TIER, RUNNER), 1)
    assert pool.call(flaky) is GOOD
    assert len(tries) == 3


def test_after_three_tries_the_reason_is_kept() -> None:
    def broken(worker: Worker) -> Verification:
        raise InfraError("the node is on fire")

    with pytest.raises(InfraError, match=r"the node is on fire \(tried 3 times\)"):
        WorkerPool(ZygoteConfig(TIER, RUNNER), 1).call(broken)


def test_too_many_infrastructure_errors_stop_the_job() -> None:
    rate = RateStop(rate=0.1, minimum=10, in_a_row=100)
    for _ in range(9):
        rate.record(None)
    rate.record("disk full")
    with pytest.raises(InfraRateExceededError, match=r"2 of 11 .*last: disk full.*foreshock doctor"):
        rate.record("disk full")


def test_errors_in_a_row_stop_the_job_early() -> None:
    rate = RateStop(in_a_row=3)
    rate.record("x")
    rate.record("x")
    with pytest.raises(InfraRateExceededError, match="3 of 3"):
        rate.record("x")


def test_rare_infrastructure_errors_do_not_stop_the_job() -> None:
    rate = RateStop()
    for number in range(2000):
        rate.record("hiccup" if number % 40 == 39 else None)


def test_a_closed_verifier_says_so() -> None:
    verifier = BuiltinVerifier(1, 1.0, True, tier=TIER)
    verifier.close()
    with pytest.raises(RuntimeError, match="closed"):
        verifier.verify(PROBLEM, "x = 1")


def test_nothing_is_left_behind(tier: SandboxTier) -> None:
    worker = Worker(ZygoteConfig(tier, RUNNER, Limits()))
    worker.start()
    scratch, process = worker._scratch, worker._process
    assert (scratch is None) is (tier is SandboxTier.FULL)
    assert process is not None
    worker.close()
    assert scratch is None or not Path(scratch).exists()
    assert process.returncode is not None


def test_memory_and_descriptors_do_not_grow_with_verifications(verifier: BuiltinVerifier) -> None:
    import gc

    def held() -> tuple[int, int]:
        gc.collect()
        return len(gc.get_objects()), len(list(Path("/proc/self/fd").iterdir()))

    for _ in range(5):
        verifier.verify(PROBLEM, PROBLEM.ground_truth)
    objects, descriptors = held()
    for _ in range(60):
        verifier.verify(PROBLEM, PROBLEM.ground_truth)
    objects_after, descriptors_after = held()
    assert descriptors_after == descriptors
    assert objects_after - objects < 60  # less than one object a verification


def test_a_judge_that_dies_takes_its_zygotes_along(tier: SandboxTier) -> None:
    import subprocess
    import sys

    code = (
        "import os, sys\n"
        "from foreshock.jobs.verify.base import SandboxTier\n"
        "from foreshock.jobs.verify.sandbox.worker import Worker, ZygoteConfig\n"
        f"worker = Worker(ZygoteConfig(SandboxTier({tier.value!r}), {RUNNER!r}))\n"
        "worker.start()\n"
        "print(worker._process.pid, worker._scratch, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    number, scratch = done.stdout.split()
    zygote = int(number)
    deadline = time.monotonic() + 20
    while (_runs(zygote) or Path(scratch).exists()) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not _runs(zygote)
    assert not Path(scratch).exists()


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_a_process_that_holds_torch_and_threads_can_verify(tier: SandboxTier) -> None:
    import torch

    torch.ones(64, 64) @ torch.ones(64, 64)
    stop = threading.Event()
    threads = [threading.Thread(target=stop.wait) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        with BuiltinVerifier(2, 10.0, True, tier=tier) as verifier:
            assert verifier.verify(PROBLEM, PROBLEM.ground_truth).secure.passed
            assert "torch" in verifier.verify(PROBLEM, f"import torch\n{PROBLEM.ground_truth}").secure.detail
    finally:
        stop.set()
        for thread in threads:
            thread.join()
