"""Only local file systems are read and written past the page cache."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Any

import pytest

from foreshock.analysis.aggregate import direct
from foreshock.jobs.records.places import Place

MOUNTS = """\
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard
61 27 0:53 / /home rw,relatime shared:30 master:2 - nfs4 server:/home rw,vers=4.2
62 27 0:54 / /scratch\\040fast rw,noatime - lustre 10.0.0.1@o2ib:/scratch rw,flock
63 27 0:55 / /work rw,relatime - fuse.sshfs user@host:/work rw
"""
LARGE = os.urandom(5 << 20)


@pytest.mark.parametrize(
    ("device", "kind"),
    [("254:0", "ext4"), ("0:53", "nfs4"), ("0:54", "lustre"), ("0:55", "fuse.sshfs"), ("0:99", None), ("4:0", None)],
)
def test_a_devices_file_system_is_read_from_the_mounts(device: str, kind: str | None) -> None:
    assert direct.file_system(MOUNTS, device) == kind


def test_what_cannot_be_told_is_not_local(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(direct, "_MOUNTS", tmp_path / "none")
    assert not direct.is_local.__wrapped__(os.makedev(254, 0))
    (tmp_path / "mounts").write_text(MOUNTS)
    monkeypatch.setattr(direct, "_MOUNTS", tmp_path / "mounts")
    assert direct.is_local.__wrapped__(os.makedev(254, 0))
    assert not direct.is_local.__wrapped__(os.makedev(0, 53))


@pytest.mark.parametrize("local", [True, False])
def test_large_files_are_whole_and_direct_on_local_disks_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, local: bool
) -> None:
    asked: list[int] = []
    set_flags, open_file = fcntl.fcntl, os.open

    def seen_fcntl(descriptor: int, command: int, *value: int) -> Any:
        asked.extend(value)
        return set_flags(descriptor, command, *value)

    def seen_open(path: Any, flags: int, *more: Any, **named: Any) -> int:
        asked.append(flags)
        return open_file(path, flags, *more, **named)

    monkeypatch.setattr(direct, "is_local", lambda device: local)
    monkeypatch.setattr(direct.fcntl, "fcntl", seen_fcntl)
    monkeypatch.setattr(direct.os, "open", seen_open)
    path = tmp_path / "large"
    with path.open("wb", buffering=0) as file:
        writer = direct.DirectWriter(file)
        writer.write(memoryview(LARGE))
        writer.finish()
    assert bytes(direct.read_whole(Place.whole(path))) == LARGE
    monkeypatch.undo()
    assert any(flags & os.O_DIRECT for flags in asked) is local
