"""Files that appear whole or not at all: temporary file beside it, fsync, rename, fsync of the directory.

This holds on NFS and Lustre without locks, at the price of rewriting: nothing is appended, ever. A kill can leave a
temporary file; the next writer of that directory sweeps it.
"""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_TEMPORARY_SUFFIX = ".tmp"
_TEMPORARY_OWNER = re.compile(r"-(?P<pid>\d+)\.tmp$")
_FOREIGN_GRACE_S = 300.0
"""No write of one file takes longer; a younger file of another machine may still be written."""


def atomic_write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` so that readers see the old file or the whole new one, also after a power cut."""
    with atomic_file(path) as file:
        file.write(data)


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """The same for data that comes piece by piece: a file to write to, which becomes `path` when all went well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{socket.gethostname()}-{os.getpid()}{_TEMPORARY_SUFFIX}")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def sweep_temporaries(directory: Path) -> int:
    """Remove what killed writers of this directory left; returns how many.

    A file of another process that lives on this machine, or was written in the last minutes on another one, stays:
    `foreshock watch` and the last job of a Slurm run may write tables of one run at the same time.
    """
    if not directory.is_dir():
        return 0
    stale = [path for path in directory.glob(f".*{_TEMPORARY_SUFFIX}") if path.is_file() and not _in_use(path)]
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
