"""Large files read and written past the page cache.

Shards and tables of gigabytes pass through here once, and their pages would push out what is needed again. Copying
them through the cache is also much of what reading and writing costs: on a virtual machine that gets its memory from
its host page by page, most of it. Small files, ends of files and file systems other than a few local ones use the cache
as ever: what a network file system makes of direct access is its own affair.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import BinaryIO

import numpy as np

from foreshock.jobs.records.places import Place

_BUFFER_BYTES = 1 << 21
_BLOCK_BYTES = 1 << 12
"""What direct access goes by, in memory and on disk."""

_DIRECT: int = getattr(os, "O_DIRECT", 0)
_LOCAL = frozenset({"ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs"})
"""File systems on a disk of this machine, whose direct access is known."""

_MOUNTS = Path("/proc/self/mountinfo")


def read_whole(place: Place) -> memoryview:
    """All bytes at a place. Raises OSError.

    Of a file that holds more, they come through the cache: direct access would need them to begin at a block.
    """
    stat = place.path.stat()
    if place == (place.path, 0, stat.st_size) and stat.st_size >= _BUFFER_BYTES and is_local(stat.st_dev):
        with suppress(OSError):
            found = _read_direct(place.path)
            if found is not None:
                return found
    return memoryview(place.read())


@cache
def is_local(device: int) -> bool:
    """Whether the files of a device (`st_dev`) are on a disk of this machine; False where that cannot be told."""
    try:
        mounts = _MOUNTS.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return file_system(mounts, f"{os.major(device)}:{os.minor(device)}") in _LOCAL


def file_system(mounts: str, device: str) -> str | None:
    """Type of the file system on `device` (major:minor), from the text of /proc/self/mountinfo; None if it has none."""
    for line in mounts.splitlines():
        mount, _, source = line.partition(" - ")
        if mount.split()[2:3] == [device]:
            return source.partition(" ")[0]
    return None


def _read_direct(path: Path) -> memoryview | None:
    """None if the file ends early."""
    descriptor = os.open(path, os.O_RDONLY | _DIRECT)
    try:
        size = os.fstat(descriptor).st_size
        buffer = np.empty(size + 2 * _BLOCK_BYTES, dtype=np.uint8)
        begin = -buffer.ctypes.data % _BLOCK_BYTES
        view, n_read = buffer[begin : begin + -(-size // _BLOCK_BYTES) * _BLOCK_BYTES].data, 0
        while n_read < size:
            more = os.readv(descriptor, [view[n_read:]])
            if not more:
                return None
            n_read += more
        return view[:size]
    finally:
        os.close(descriptor)


class DirectWriter:
    """Writes `file`, which is open, empty and written to by nobody else."""

    def __init__(self, file: BinaryIO) -> None:
        self._descriptor = file.fileno()
        self._is_local = is_local(os.fstat(self._descriptor).st_dev)
        self._buffer = memoryview(mmap.mmap(-1, _BUFFER_BYTES))  # mapped memory begins at a block
        self._n_held = 0
        self._is_direct = False

    def write(self, data: memoryview) -> None:
        """Add bytes."""
        while len(data):
            taken = data[: _BUFFER_BYTES - self._n_held]
            self._buffer[self._n_held : self._n_held + len(taken)] = taken
            self._n_held += len(taken)
            data = data[len(taken) :]
            if self._n_held == _BUFFER_BYTES:
                self._write_buffer()

    def finish(self) -> None:
        """Write what is left."""
        whole = self._n_held // _BLOCK_BYTES * _BLOCK_BYTES if self._is_direct else 0
        self._write(self._buffer[:whole])
        self._through_cache()
        self._write(self._buffer[whole : self._n_held])
        self._n_held = 0

    def _write_buffer(self) -> None:
        self._is_direct = self._is_direct or (self._is_local and self._set_direct(True))
        self._write(self._buffer)
        self._n_held = 0

    def _write(self, data: memoryview) -> None:
        while len(data):
            try:
                n_written = os.write(self._descriptor, data)
            except OSError as error:
                if error.errno != errno.EINVAL or not self._is_direct:
                    raise
                n_written = 0
            if n_written % _BLOCK_BYTES or not n_written:  # larger blocks here, or the disk is full
                self._through_cache()
            data = data[n_written:]

    def _through_cache(self) -> None:
        if self._is_direct:
            self._set_direct(False)
            self._is_direct = False

    def _set_direct(self, on: bool) -> bool:
        """Whether it could be done."""
        flags = fcntl.fcntl(self._descriptor, fcntl.F_GETFL)
        try:
            fcntl.fcntl(self._descriptor, fcntl.F_SETFL, flags | _DIRECT if on else flags & ~_DIRECT)
        except OSError:
            return False
        return bool(_DIRECT)
