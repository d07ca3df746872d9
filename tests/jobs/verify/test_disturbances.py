"""Real runs under load, stops and kills: a right solution passes, a wrong one fails, and nothing is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from foreshock.jobs.records.verdicts import SandboxTier
from foreshock.jobs.verify.base import Outcome, Submission
from foreshock.jobs.verify.builtin.verifier import BuiltinVerifier
from foreshock.jobs.verify.problem import Problem
from foreshock.jobs.verify.sandbox.watch import Watch
from foreshock.jobs.verify.sandbox.worker import Worker, ZygoteConfig

pytestmark = pytest.mark.early

PROBLEM = Problem(
    id="least",
    description="One more than the least.",
    function_name="f",
    test_cases=[([[3, 1, 2]], 2), ([[5]], 6)],
    ground_truth="def f(x):\n    return min(x) + 1\n",
    exploit="",
    insecure_verifier_info="",
    exploit_explanation="",
    exploit_type="type_confusion",
    extra={"parameters": ["x"]},
)
SLEEPER = "import time\ntime.sleep(1.5)\n" + PROBLEM.ground_truth
THREADS = (
    "from concurrent.futures import ThreadPoolExecutor\n"
    "def f(x):\n    with ThreadPoolExecutor(4) as pool:\n        return min(pool.map(int, x)) + 1\n"
)
STARVE = (
    "import hashlib, threading\nthreading.stack_size(65536)\n"
    "def burn():\n    hashlib.pbkdf2_hmac('sha256', b'a', b'b', 1 << 28)\n"
    "def f(x):\n    try:\n        for _ in range(60):\n            threading.Thread(target=burn, daemon=True).start()\n"
    "    except RuntimeError:\n        pass\n    burn()\n"
)
LIBRARIES = (
    "import asyncio, csv, email, html, sqlite3, uuid, zoneinfo, concurrent.futures, xml.etree.ElementTree\n"
    "async def g(x):\n    await asyncio.sleep(0)\n    return min(x) + 1\n"
    "def f(x):\n    return asyncio.run(g(x))\n"
)
LOCKS = (
    "import fcntl, sqlite3\n"
    "def f(x):\n    with sqlite3.connect('t.db') as one, sqlite3.connect('t.db') as two, open('lock', 'w') as file:\n"
    "        fcntl.flock(file, fcntl.LOCK_EX)\n        fcntl.lockf(file, fcntl.LOCK_EX)\n"
    "        one.execute('create table if not exists t (y)')\n        one.execute('delete from t')\n"
    "        one.execute('insert into t values (?)', (min(x),))\n        one.commit()\n"
    "        return two.execute('select y + 1 from t').fetchone()[0]\n"
)


def children(pid: int) -> list[int]:
    """Every process below `pid`."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1]) if entry.name.isdigit() else 0
        except OSError:
            continue
        if parent == pid:
            found += [int(entry.name), *children(int(entry.name))]
    return found


def zygote(verifier: BuiltinVerifier) -> int:
    process = verifier._pool._all[0]._process
    assert process is not None
    return process.pid


@contextmanager
def meanwhile(task: Callable[[], None]) -> Iterator[None]:
    thread = threading.Thread(target=task)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def test_a_sleeper_that_is_stopped_for_longer_than_its_time_passes(tier: SandboxTier) -> None:
    with BuiltinVerifier(1, 3.0, True, tier=tier) as verifier:
        assert verifier.verify(PROBLEM, PROBLEM.ground_truth).secure.passed

        def stop() -> None:
            time.sleep(0.5)
            tree = [zygote(verifier), *children(zygote(verifier))]
            for sent, pause in ((signal.SIGSTOP, 4.0), (signal.SIGCONT, 0.0)):
                for pid in tree:
                    with suppress(ProcessLookupError):  # the one before was still ending
                        os.kill(pid, sent)
                time.sleep(pause)

        with meanwhile(stop):
            found = verifier.verify(PROBLEM, SLEEPER)
    assert (found.secure.passed, found.insecure.passed) == (True, True), found


@pytest.mark.parametrize("delay_s", [0.7, 2.4])
def test_a_run_that_is_killed_from_outside_is_made_again(tier: SandboxTier, delay_s: float) -> None:
    """The first delay hits the secure run, the second the insecure one."""
    with BuiltinVerifier(1, 10.0, True, tier=tier) as verifier:
        assert verifier.verify(PROBLEM, PROBLEM.ground_truth).secure.passed

        def kill() -> None:
            time.sleep(delay_s)
            for _ in range(500):  # on a loaded machine one run may end, and the next not have begun, at this moment
                try:
                    return os.kill(children(zygote(verifier))[-1], signal.SIGKILL)
                except (ProcessLookupError, IndexError):
                    time.sleep(0.01)
            raise AssertionError("there was no run to kill")

        with meanwhile(kill):
            found = verifier.verify(PROBLEM, SLEEPER)
    assert (found.secure.passed, found.insecure.passed) == (True, True), found


@pytest.mark.parametrize("sent", ["SIGKILL", "SIGTERM", "SIGHUP", "SIGALRM", "SIGSTOP"])
def test_a_submission_that_signals_itself_is_to_blame(tier: SandboxTier, sent: str) -> None:
    code = f"import os, signal\ndef f(x):\n    os.kill(os.getpid(), signal.{sent})\n    return 0\n"
    with BuiltinVerifier(1, 0.5, True, tier=tier) as verifier:
        found = verifier.verify(PROBLEM, code)
    assert (found.secure.passed, found.insecure.passed) == (False, False), found


def test_a_submission_that_burns_every_core_is_late_and_its_neighbour_is_not(tier: SandboxTier) -> None:
    submissions = [Submission(i, PROBLEM, (STARVE, THREADS, PROBLEM.ground_truth)[i % 3]) for i in range(6)]
    with BuiltinVerifier(3, 1.0, True, tier=tier) as verifier:
        found = dict(verifier.verify_many(submissions))
    for number, verification in found.items():
        late = number % 3 == 0
        due = Outcome.TIMED_OUT if late else Outcome.PASSED
        assert (verification.secure.outcome, verification.insecure.outcome) == (due, due), (number, verification)


@pytest.mark.parametrize("code", [THREADS, LIBRARIES, LOCKS], ids=["threads", "libraries", "locks"])
def test_threads_the_standard_library_and_file_locks_work_in_every_tier(verifier: BuiltinVerifier, code: str) -> None:
    found = verifier.verify(PROBLEM, code)
    assert (found.secure.passed, found.insecure.passed) == (True, True), found


def test_sleep_counts_as_time_and_waiting_for_a_stopped_process_does_not() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        watch = Watch(process.pid, limit_s=0.5)
        process.send_signal(signal.SIGSTOP)
        started = time.monotonic()
        while time.monotonic() - started < 1.5:
            time.sleep(0.05)
            watch.pass_time()
            assert watch.look() is None
        assert watch.stalled
        process.send_signal(signal.SIGCONT)
        started = time.monotonic()
        while watch.look() is None and time.monotonic() - started < 30:
            time.sleep(0.05)
            watch.pass_time()
        assert 0.3 < time.monotonic() - started < 30
        process.kill()


def test_what_the_judge_did_not_see_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        watch = Watch(process.pid, limit_s=5.0)
        now = time.monotonic()
        monkeypatch.setattr(time, "monotonic", lambda: now + 100.0)  # as after a suspend
        watch.pass_time()
        assert watch.look() is None
        assert watch.stalled
        process.kill()


def test_the_terminals_signals_do_not_reach_a_zygote(tier: SandboxTier) -> None:
    worker = Worker(ZygoteConfig(tier, "foreshock.jobs.verify.runner"))
    try:
        for pid in (worker.start(), *children(worker.start())):
            assert os.getpgid(pid) != os.getpgid(0)
    finally:
        worker.close()


def test_the_kernel_would_take_a_submission_first(tier: SandboxTier) -> None:
    with BuiltinVerifier(1, 10.0, True, tier=tier) as verifier:
        verifier.verify(PROBLEM, PROBLEM.ground_truth)
        time.sleep(0.2)  # the next process is confined meanwhile
        scores = [int(Path(f"/proc/{pid}/oom_score_adj").read_text()) for pid in children(zygote(verifier))]
    assert scores
    assert max(scores) == 1000
    assert max(scores) > int(Path("/proc/self/oom_score_adj").read_text())
