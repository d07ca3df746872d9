"""Forked workers: a server fit to be forked, whose death leaves nobody behind and has its reason told."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from foreshock.batch.executors.factory import preload
from foreshock.batch.executors.forked import ForkedProcesses
from foreshock.jobs.engines.registry import ENGINES
from foreshock.jobs.worker import EXIT_FAILED, EXIT_STOPPED

TASKS_THAT_WAIT = """
import __main__, signal, sys, time
from pathlib import Path

def wait(argv):
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
    Path(argv[0], "started-" + argv[4]).touch()
    while not Path(argv[0], "finish-" + argv[4]).exists():
        time.sleep(0.01)
    print("finished", argv[4])
    return 3

__main__.main = wait
"""


@pytest.fixture
def tasks_that_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module that replaces what tasks do: they leave a file when they start and wait for another."""
    (tmp_path / "tasks_that_wait.py").write_text(TASKS_THAT_WAIT)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return "tasks_that_wait"


@pytest.fixture
def processes(tmp_path: Path, tasks_that_wait: str) -> Iterator[ForkedProcesses]:
    with forked(tmp_path, tasks_that_wait) as processes:
        yield processes


@contextlib.contextmanager
def forked(folder: Path, *modules: str) -> Iterator[ForkedProcesses]:
    processes = ForkedProcesses(folder, modules)
    try:
        yield processes
    finally:
        processes.terminate()
        processes.close()


def until(what: Callable[[], object], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "never happened"
        time.sleep(0.01)


def alive(pid: int) -> bool:
    """Not ended; one whose end nobody asked for (its parent is gone) has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def server_of(processes: ForkedProcesses) -> int:
    """The parent of the tasks."""
    task = min(processes.pids().values())
    return int(Path(f"/proc/{task}/stat").read_text().rpartition(")")[2].split()[1])


def start(processes: ForkedProcesses, folder: Path, n: int) -> list[Path]:
    logs = [folder / f"task-{i}.log" for i in range(n)]
    for i, log in enumerate(logs):
        processes.start(i, 0, log, {"OMP_NUM_THREADS": "1"})
    until(lambda: all((folder / f"started-{i}").exists() for i in range(n)))
    until(lambda: processes.ended() or len(processes.pids()) == n)  # a task may run before its pid has arrived
    return logs


def test_each_task_has_its_own_process_log_and_exit_code(processes: ForkedProcesses, tmp_path: Path) -> None:
    logs = start(processes, tmp_path, 3)
    assert processes.ended() == {}
    assert len(set(processes.pids().values())) == 3
    os.kill(processes.pids()[1], signal.SIGKILL)
    (tmp_path / "finish-2").touch()
    codes: dict[int, int] = {}
    until(lambda: codes.update(processes.ended()) or len(codes) == 2)
    assert codes == {1: -signal.SIGKILL, 2: 3}
    assert logs[2].read_text() == "finished 2\n"
    assert processes.terminate() == {0: EXIT_STOPPED}
    assert processes.pids() == {}


def test_a_server_that_dies_takes_its_tasks_along_and_is_started_again(
    processes: ForkedProcesses, tmp_path: Path
) -> None:
    logs = start(processes, tmp_path, 2)
    pids = processes.pids().values()
    os.kill(server_of(processes), signal.SIGKILL)
    codes: dict[int, int] = {}
    until(lambda: codes.update(processes.ended()) or codes)
    assert codes == {0: EXIT_FAILED, 1: EXIT_FAILED}
    until(lambda: not any(alive(pid) for pid in pids), 10)
    assert "the fork server ended with exit code -9; see" in logs[0].read_text()
    (tmp_path / "started-0").unlink()
    start(processes, tmp_path, 1)
    assert processes.terminate() == {0: EXIT_STOPPED}


def test_stopped_before_the_imports_are_done_no_task_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "slow_import.py").write_text("import time; time.sleep(60)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    processes = ForkedProcesses(tmp_path, ["slow_import"])
    processes.start(0, 0, tmp_path / "task-0.log", {})
    started = time.monotonic()
    assert processes.terminate() == {0: EXIT_STOPPED}
    assert time.monotonic() - started < 30
    assert processes.ended() == {}


def test_a_failed_import_is_told_by_the_task(tmp_path: Path) -> None:
    processes = ForkedProcesses(tmp_path, ["no_such_module"])
    processes.start(0, 0, tmp_path / "task-0.log", {})
    codes: dict[int, int] = {}
    until(lambda: codes.update(processes.ended()) or codes)
    assert codes == {0: EXIT_FAILED}
    assert "exit code 1" in (tmp_path / "task-0.log").read_text()
    assert "no_such_module" in (tmp_path / "fork-server.log").read_text()
    processes.close()


def test_with_all_of_it_imported_the_server_has_one_thread(tmp_path: Path, tasks_that_wait: str) -> None:
    """A fork copies one thread alone; locks that others held would stay locked."""
    with forked(tmp_path, *preload(ENGINES.get("transformers")), tasks_that_wait) as processes:
        start(processes, tmp_path, 1)
        server = server_of(processes)
        assert "libtorch_cpu" in Path(f"/proc/{server}/maps").read_text()
        assert len(list(Path(f"/proc/{server}/task").iterdir())) == 1
        assert processes.terminate() == {0: EXIT_STOPPED}
