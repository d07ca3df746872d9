"""The launcher lock."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from foreshock.errors import ForeshockError
from foreshock.slurm.lock import LauncherLock


def test_it_is_taken_once_and_given_back(tmp_path: Path) -> None:
    path = tmp_path / "slurm" / "launcher"
    lock = LauncherLock(path)
    lock.acquire()
    lock.acquire()
    assert path.exists()
    lock.release()
    assert list(path.parent.iterdir()) == []


def test_another_live_process_is_named(tmp_path: Path) -> None:
    path = tmp_path / "launcher"
    path.write_text(json.dumps({"host": socket.gethostname(), "pid": os.getppid()}))
    with pytest.raises(ForeshockError, match=rf"(?s)process {os.getppid()} on .*wait for it; if it is gone, remove"):
        LauncherLock(path).acquire()
    LauncherLock(path).release()
    assert path.exists()


def test_a_process_of_another_machine_is_believed_alive(tmp_path: Path) -> None:
    path = tmp_path / "launcher"
    path.write_text(json.dumps({"host": "elsewhere", "pid": 1}))
    with pytest.raises(ForeshockError, match="process 1 on elsewhere"):
        LauncherLock(path).acquire()


@pytest.mark.parametrize("content", [None, "", '{"host"'])
def test_a_dead_or_nameless_owner_is_overruled(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "launcher"
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    owner = {"host": socket.gethostname(), "pid": int(gone.stdout)}
    path.write_text(json.dumps(owner) if content is None else content)
    LauncherLock(path).acquire()
    assert json.loads(path.read_text())["pid"] == os.getpid()


def test_what_a_killed_owner_left_is_swept_and_what_a_live_one_writes_is_not(tmp_path: Path) -> None:
    lock, host = LauncherLock(tmp_path / "launcher"), socket.gethostname()
    dead, alive, other = (
        tmp_path / f".launcher.0a.{host}-{2**22 + 1}.tmp",
        tmp_path / f".launcher.0b.{host}-1.tmp",
        tmp_path / f".journal.json.{host}-{2**22 + 1}.tmp",
    )
    for path in (dead, alive, other):
        path.touch()
    lock.acquire()
    assert [path.exists() for path in (dead, alive, other)] == [False, True, True]
