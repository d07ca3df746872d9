"""Shared file systems: several writers of one name, no hard links, folders that cannot be synced."""

from __future__ import annotations

import errno
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from foreshock.durable import atomic_write_bytes, create_bytes
from foreshock.jobs.records.layout import RunLayout
from foreshock.jobs.records.planfile import pack_numbers, write_pack


def _write(root: Path) -> int:
    return write_pack(RunLayout(root), [])


def test_writers_at_the_same_time_get_different_pack_numbers(tmp_path: Path) -> None:
    with ProcessPoolExecutor(2) as pool:
        numbers = list(pool.map(_write, [tmp_path] * 40))
    assert sorted(numbers) == list(range(40)) == pack_numbers(RunLayout(tmp_path))
    assert not list((tmp_path / "packs").glob(".*"))


@pytest.mark.parametrize("links", [True, False])
def test_what_exists_is_not_created_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    if not links:

        def refuse(self: Path, target: Path) -> None:
            raise OSError(errno.EPERM, "no hard links here")

        monkeypatch.setattr(Path, "hardlink_to", refuse)
    path = tmp_path / "a"
    assert create_bytes(path, b"one")
    assert not create_bytes(path, b"two")
    assert path.read_bytes() == b"one"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS])
def test_a_folder_that_cannot_be_synced_is_no_error_and_a_full_disk_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    sync = os.fsync
    raised = code

    def fsync(handle: int) -> None:
        if Path(f"/proc/self/fd/{handle}").is_dir():
            raise OSError(raised, os.strerror(raised))
        sync(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    atomic_write_bytes(tmp_path / "a", b"one")
    assert (tmp_path / "a").read_bytes() == b"one"
    raised = errno.EIO
    with pytest.raises(OSError, match="Input/output"):
        atomic_write_bytes(tmp_path / "a", b"two")
