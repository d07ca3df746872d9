"""A full disk ends in one message and a right status; two launchers of one run do not work at once."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest

from foreshock import durable
from foreshock.batch.config import Cluster
from foreshock.batch.running.provenance import recorded_status
from foreshock.batch.running.run import alone_here
from foreshock.durable import atomic_write_bytes
from foreshock.errors import DiskFullError, ForeshockError
from foreshock.jobs.records.layout import RunLayout


def full(code: int = errno.ENOSPC) -> Any:
    def fsync(_: int) -> NoReturn:
        raise OSError(code, os.strerror(code))

    return fsync


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_one_message_that_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    path = tmp_path / "table.jsonl"
    path.write_bytes(b"before")
    monkeypatch.setattr(durable.os, "fsync", full(code))
    with pytest.raises(DiskFullError, match="make room") as found:
        atomic_write_bytes(path, b"after")
    assert str(found.value).startswith(f"{path}: cannot be written: ")
    assert isinstance(found.value, ForeshockError)
    assert isinstance(found.value, OSError)
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_another_error_of_writing_stays_what_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durable.os, "fsync", full(errno.EIO))
    with pytest.raises(OSError, match="Input/output") as found:
        atomic_write_bytes(tmp_path / "x", b"after")
    assert not isinstance(found.value, ForeshockError)


def test_the_status_of_a_run_that_filled_the_disk_is_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = RunLayout(tmp_path)

    def fill() -> None:
        with recorded_status(layout):
            assert json.loads(layout.status.read_text())["status"] == "running"
            # From now on nothing new fits; what lies on the disk can be written over.
            monkeypatch.setattr(Path, "replace", lambda *_: full()(0))
            atomic_write_bytes(tmp_path / "table", b"rows")

    with pytest.raises(DiskFullError):
        fill()
    status = json.loads(layout.status.read_text())
    assert status["status"] == "failed"
    assert "make room" in status["exit_reason"]
    assert "traceback" not in status


@pytest.mark.parametrize("cluster", [Cluster.LOCAL, Cluster.INLINE])
def test_a_run_that_another_launcher_works_on_is_left_alone(tmp_path: Path, cluster: Cluster) -> None:
    site: Any = SimpleNamespace(cluster=cluster)
    layout = RunLayout(tmp_path)
    owner = {"host": os.uname().nodename, "pid": os.getppid(), "job": None}
    lock = tmp_path / "launcher.lock"
    lock.write_text(json.dumps(owner))
    with pytest.raises(ForeshockError, match="another foreshock is working on this run"), alone_here(layout, site):
        pass
    lock.write_text(json.dumps(owner | {"pid": 2**22 + 1}))  # no such process: a killed launcher's lock
    with alone_here(layout, site):
        assert json.loads(lock.read_text())["pid"] == os.getpid()
    assert not lock.exists()
