"""Files that appear whole or not at all: temporary file beside it, fsync, rename, fsync of the directory.

This holds on NFS and Lustre without locks, at the price of rewriting: nothing is appended, ever. A kill can leave a
temporary file; the next writer of that directory sweeps it.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from foreshock.errors import DiskFullError

_TEMPORARY_SUFFIX = ".tmp"
_TEMPORARY_OWNER = re.compile(r"-(?P<pid>\d+)\.tmp$")
_NO_DIRECTORY_SYNC = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF, errno.ENOTTY})
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
"""What the system says of a full disk, and of a quota that is used up."""
_TRIES = 3
_FOREIGN_GRACE_S = 300.0
"""No write of one file takes longer; a younger file of another machine may still be written."""


def atomic_write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` so that readers see the old file or the whole new one, also after a power cut."""
    with atomic_file(path) as file:
        file.write(data)


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """The same for data that comes piece by piece: a file to write to, which becomes `path` when all went well."""
    temporary = path.with_name(f".{path.name}.{socket.gethostname()}-{os.getpid()}{_TEMPORARY_SUFFIX}")
    try:
        with _opened(temporary) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in FULL and not isinstance(error, DiskFullError):
            raise DiskFullError(path, error) from None
        raise
    sync_directory(path.parent)


def _opened(temporary: Path) -> BinaryIO:
    """Again where the folder has gone: who bundles a folder's last shards removes it."""
    for _ in range(_TRIES):
        with suppress(FileNotFoundError):
            temporary.parent.mkdir(parents=True, exist_ok=True)
            return temporary.open("wb")
    return temporary.open("wb")


def same_time(recorded: int | None, now: int) -> bool:
    """Whether two modification times (ns) are one, to the precision that the file system kept."""
    return recorded is not None and (
        recorded == now or any(recorded // unit * unit == now for unit in (100, 1000, 10**9))
    )


def create_bytes(path: Path, data: bytes) -> bool:
    """Write `data` to `path`, whole, unless `path` exists; False if it does. Of several writers one succeeds.

    Where the file system has no hard links, a reader may see the new file before all of it is there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{socket.gethostname()}-{os.getpid()}{_TEMPORARY_SUFFIX}")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        try:
            path.hardlink_to(temporary)
        except FileExistsError:
            return False
        except OSError:
            if not _create_directly(path, data):
                return False
    finally:
        temporary.unlink(missing_ok=True)
    sync_directory(path.parent)
    return True


def _create_directly(path: Path, data: bytes) -> bool:
    try:
        with path.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError:
        return False
    return True


def sync_directory(directory: Path) -> bool:
    """Make a rename in `directory` last. File systems that refuse this (False) do it with the rename, or not at all."""
    try:
        handle = os.open(directory, os.O_RDONLY)
    except PermissionError:
        return False  # a drop box: may be written to, not listed
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _NO_DIRECTORY_SYNC:
            raise
        return False
    finally:
        os.close(handle)
    return True


def sweep_temporaries(directory: Path, of: str = "") -> int:
    """Remove what killed writers of this directory left (`of`: only of files whose names begin so); returns how many.

    A file of another process that lives on this machine, or was written in the last minutes on another one, stays:
    `foreshock watch` and the last job of a Slurm run may write tables of one run at the same time.
    """
    if not directory.is_dir():
        return 0
    stale = [path for path in directory.glob(f".{of}*{_TEMPORARY_SUFFIX}") if path.is_file() and not _in_use(path)]
    for path in stale:
        path.unlink(missing_ok=True)
    return len(stale)


def _in_use(temporary: Path) -> bool:
    match = _TEMPORARY_OWNER.search(temporary.name)
    if match is None:
        return False
    pid = int(match["pid"])
    if temporary.name.endswith(f".{socket.gethostname()}-{pid}{_TEMPORARY_SUFFIX}"):
        return pid != os.getpid() and _is_alive(pid)
    try:
        return time.time() - temporary.stat().st_mtime < _FOREIGN_GRACE_S
    except FileNotFoundError:
        return True


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
