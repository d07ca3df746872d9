"""One launcher at a time per run, on file systems without locks.

A hard link to a file that names its owner. Making one is atomic on NFS and Lustre, where flock is not dependable, and
the lock is never seen without its owner's name. An owner that is known to be dead (same machine, no such process) is
overruled; any other is reported with what to do, because waiting for a process on a lost node would never end.
"""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

from foreshock.errors import ForeshockError


class LauncherLock:
    """Held from reading what is queued until the new submission is journaled. Reentrant within one process."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def acquire(self) -> None:
        """Raises ForeshockError when another launcher holds it."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        own = self._path.with_name(f".{self._path.name}.{socket.gethostname()}-{os.getpid()}.tmp")
        own.write_text(json.dumps({"host": socket.gethostname(), "pid": os.getpid()}))
        try:
            for _ in range(3):
                if self._link(own):
                    return
        finally:
            own.unlink()
        raise ForeshockError(f"cannot take {self._path}; is another foreshock submitting this run?")

    def _link(self, own: Path) -> bool:
        try:
            self._path.hardlink_to(own)
        except FileExistsError:
            owner = self._owner()
            if owner == (socket.gethostname(), os.getpid()):
                return True
            if owner is not None and not _is_dead(*owner):
                raise ForeshockError(
                    f"another foreshock is submitting this run: process {owner[1]} on {owner[0]}\n"
                    f"  -> wait for it; if it is gone, remove {self._path}"
                ) from None
            self._path.unlink(missing_ok=True)
            return False
        return True

    def release(self) -> None:
        """Give it back, if it is this process's."""
        if self._owner() == (socket.gethostname(), os.getpid()):
            self._path.unlink(missing_ok=True)

    def held(self) -> bool:
        """Whether a process that may be alive holds it."""
        owner = self._owner()
        return owner is not None and not _is_dead(*owner)

    def _owner(self) -> tuple[str, int] | None:
        """None for a damaged lock, or one that has just gone."""
        try:
            data = json.loads(self._path.read_text())
            return str(data["host"]), int(data["pid"])
        except (OSError, ValueError, KeyError, TypeError):
            return None


def _is_dead(host: str, pid: int) -> bool:
    if host != socket.gethostname():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
