"""What goes past the page cache is what was written, whatever the file system allows."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreshock.analysis.aggregate import direct
from foreshock.analysis.aggregate.direct import DirectWriter, read_whole
from foreshock.jobs.records.places import Place

BUFFER = 1 << 13


@pytest.fixture(scope="module", autouse=True)
def _small_buffers() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(direct, "_BUFFER_BYTES", BUFFER)
        yield


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("direct") / "file"


def _write(path: Path, pieces: list[bytes]) -> bytes:
    with path.open("wb") as file:
        writer = DirectWriter(file)
        for piece in pieces:
            writer.write(memoryview(piece))
        writer.finish()
    return path.read_bytes()


@given(sizes=st.lists(st.integers(0, 3 * BUFFER), max_size=5))
def test_a_file_has_all_bytes_in_order(sizes: list[int], path: Path) -> None:
    pieces = [bytes([place + 1]) * size for place, size in enumerate(sizes)]
    assert _write(path, pieces) == b"".join(pieces)
    assert bytes(read_whole(Place.whole(path))) == b"".join(pieces)


def _refuse_flags(write: Callable[..., int]) -> pytest.MonkeyPatch:
    patch = pytest.MonkeyPatch()

    def refuse(descriptor: int, command: int, flags: int = 0) -> int:
        if flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, "no direct writes here")
        return 0

    patch.setattr("foreshock.analysis.aggregate.direct.fcntl.fcntl", refuse)
    return patch


def _refuse_first_write(write: Callable[..., int]) -> pytest.MonkeyPatch:
    patch, refused = pytest.MonkeyPatch(), []

    def refuse(descriptor: int, data: memoryview) -> int:
        if not refused:
            refused.append(True)
            raise OSError(errno.EINVAL, "larger blocks here")
        return write(descriptor, data)

    patch.setattr("foreshock.analysis.aggregate.direct.os.write", refuse)
    return patch


def _write_little(write: Callable[..., int]) -> pytest.MonkeyPatch:
    patch = pytest.MonkeyPatch()
    patch.setattr(
        "foreshock.analysis.aggregate.direct.os.write", lambda descriptor, data: write(descriptor, data[:777])
    )
    return patch


@pytest.mark.parametrize("refuse", [_refuse_flags, _refuse_first_write, _write_little])
def test_where_direct_writes_are_refused_the_cache_serves(
    refuse: Callable[[Callable[..., int]], pytest.MonkeyPatch], tmp_path: Path
) -> None:
    content = os.urandom(3 * BUFFER + 5)
    patch = refuse(os.write)
    try:
        assert _write(tmp_path / "file", [content]) == content
    finally:
        patch.undo()


def test_a_full_disk_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, data: memoryview) -> int:
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr("foreshock.analysis.aggregate.direct.os.write", full)
    with pytest.raises(OSError, match="no space left"):
        _write(tmp_path / "file", [bytes(2 * BUFFER)])


def test_where_direct_reads_are_refused_the_cache_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, content = tmp_path / "file", os.urandom(3 * BUFFER + 5)
    path.write_bytes(content)

    def refuse(descriptor: int, buffers: list[memoryview]) -> int:
        raise OSError(errno.EINVAL, "no direct reads here")

    monkeypatch.setattr("foreshock.analysis.aggregate.direct.os.readv", refuse)
    assert bytes(read_whole(Place.whole(path))) == content


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_whole(Place(tmp_path / "file", 0, 1))
