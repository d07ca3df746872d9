"""A watch's lock: alive owners keep it, owners whose heart stands still lose it, and those see it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from foreshock.batch.status.watched import WatchLock, watch_lock
from foreshock.errors import ForeshockError
from foreshock.jobs.records.layout import RunLayout
from foreshock.slurm.lock import LockHeldError


def _elsewhere(layout: RunLayout, beat: str | None) -> None:
    """The lock of a container that is not this machine."""
    folder = layout.root / "watch"
    folder.mkdir(exist_ok=True)
    (folder / "lock").write_text(json.dumps({"host": "old-container", "pid": 1, "job": None}))
    if beat is not None:
        (folder / "beat").write_text(beat)


def _lock(layout: RunLayout, said: list[str]) -> WatchLock:
    return WatchLock(layout, beat_s=0.05, silent_s=0.25, say=said.append)


def test_a_fresh_container_takes_over_from_one_whose_heart_stands_still(tmp_path: Path) -> None:
    layout, said = RunLayout(tmp_path), list[str]()
    _elsewhere(layout, "1000.0 7")
    lock = _lock(layout, said)
    lock.acquire()
    assert watch_lock(layout).is_mine()
    assert "old-container" in said[0]
    lock.release()
    assert not watch_lock(layout).held()


def test_a_beating_owner_keeps_it(tmp_path: Path) -> None:
    layout = RunLayout(tmp_path)
    alive = _lock(layout, [])
    alive.acquire()
    _elsewhere(layout, None)  # the same beat, as seen from a machine that cannot ask for its process
    other = _lock(layout, [])
    beat = layout.root / "watch" / "beat"
    before = beat.read_bytes()
    alive._lock.is_mine = lambda: True  # type: ignore[method-assign]  # it beats on as the owner that it plays
    with pytest.raises(LockHeldError, match="old-container"):
        other.acquire()
    assert beat.read_bytes() != before
    alive.release()


def test_one_that_was_suspended_sees_that_it_was_taken_over(tmp_path: Path) -> None:
    layout = RunLayout(tmp_path)
    lock = _lock(layout, [])
    lock.acquire()
    lock.require()
    _elsewhere(layout, "1000.0 8")
    with pytest.raises(ForeshockError, match="taken this run over"):
        lock.require()
    lock.release()
    assert watch_lock(layout).held()


def test_an_owner_without_a_beat_is_not_overruled(tmp_path: Path) -> None:
    layout = RunLayout(tmp_path)
    _elsewhere(layout, None)
    with pytest.raises(LockHeldError, match="remove"):
        _lock(layout, []).acquire()
