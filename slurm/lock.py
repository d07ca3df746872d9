"""One launcher at a time per run, on file systems without locks.

The lock is a hard link to a file that names its owner: making one is atomic on NFS and Lustre, where flock is not
dependable, and the lock is never seen without its owner's name. An owner that is known to be dead (same machine, no
such process; or a Slurm job that is not running any more) is overruled; any other is reported with what to do, because
waiting for a process on a lost node would never end.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foreshock.durable import sweep_temporaries
from foreshock.errors import ForeshockError
from foreshock.slurm.call import SlurmError, run_command

_NAMELESS_S = 1.0
"""Where hard links do not exist, a lock is seen without its owner's name for a moment."""


class LockHeldError(ForeshockError):
    """Somebody else, who may be alive, holds the lock."""


@dataclass(frozen=True, slots=True)
class Owner:
    """Who holds a lock: a process, or the Slurm job of that id, whichever process of it is at work."""

    host: str
    pid: int
    job: str | None = None

    @classmethod
    def me(cls) -> Owner:
        """This process; or, where a job's host side says so, the job, which gives the lock back itself."""
        return cls(socket.gethostname(), os.getpid(), os.environ.get("FORESHOCK_LOCK_JOB") or None)

    def is_me(self) -> bool:
        me = Owner.me()
        return self == me or (self.job is not None and self.job == me.job)

    def is_dead(self) -> bool:
        """False when nobody knows."""
        if self.job is not None:
            return _job_is_over(self.job)
        if self.host != socket.gethostname():
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        return False

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}" if self.job is None else f"Slurm job {self.job} on {self.host}"


class LauncherLock:
    """Held from reading what is queued until the new submission is journaled. Reentrant within one process or job."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def acquire(self, wait_s: float = 0.0) -> None:
        """Take it, waiting up to `wait_s` seconds for another owner. Raises LockHeldError."""
        end = time.monotonic() + wait_s
        while True:
            try:
                return self._acquire()
            except LockHeldError:
                if time.monotonic() >= end:
                    raise
            time.sleep(1.0)

    def release(self) -> None:
        """Give it back, if it is this process's."""
        owner = self._owner(self._path)
        if owner is not None and owner.is_me():
            self._path.unlink(missing_ok=True)

    def overrule(self) -> None:
        """Take it away from whoever holds it: for callers that know by other signs that the owner is gone."""
        self._overrule(self._owner(self._path))

    def is_mine(self) -> bool:
        """Whether this process (or its job) holds it."""
        owner = self._owner(self._path)
        return owner is not None and owner.is_me()

    def held(self) -> bool:
        """Whether somebody who may be alive holds it."""
        owner = self._owner(self._path)
        return owner is not None and not owner.is_dead()

    def _acquire(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        own = self._temporary()
        me = Owner.me()
        own.write_text(json.dumps({"host": me.host, "pid": me.pid, "job": me.job}))
        try:
            for _ in range(5):
                if self._link(own):
                    sweep_temporaries(self._path.parent, f"{self._path.name}.")  # of those killed while they took it
                    return
        finally:
            own.unlink(missing_ok=True)
        raise LockHeldError(f"cannot take {self._path}; is another foreshock working on this run?")

    def _link(self, own: Path) -> bool:
        try:
            _create(self._path, own)
        except FileExistsError:
            owner = self._owner(self._path)
            if owner is None:
                time.sleep(_NAMELESS_S)
                owner = self._owner(self._path)
            if owner is not None and owner.is_me():
                return True
            if owner is not None and not owner.is_dead():
                raise LockHeldError(
                    f"another foreshock is working on this run: {owner}\n"
                    f"  -> wait for it; if it is gone, remove {self._path}"
                ) from None
            self._overrule(owner)
            return False
        return True

    def _overrule(self, dead: Owner | None) -> None:
        """Take a dead owner's lock away, and nobody else's: two processes may find it dead at the same time."""
        taken = self._temporary()
        with suppress(FileNotFoundError):
            self._path.rename(taken)
            if self._owner(taken) != dead:
                with suppress(FileExistsError):
                    _create(self._path, taken)
            taken.unlink(missing_ok=True)

    def _temporary(self) -> Path:
        name = f".{self._path.name}.{secrets.token_hex(4)}.{socket.gethostname()}-{os.getpid()}.tmp"
        return self._path.with_name(name)

    @staticmethod
    def _owner(path: Path) -> Owner | None:
        """None for a damaged lock, or one that has just gone."""
        try:
            data: dict[str, Any] = json.loads(path.read_text())
            job = data.get("job")
            return Owner(str(data["host"]), int(data["pid"]), None if job is None else str(job))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None


def _create(path: Path, content: Path) -> None:
    """`path` with the content of a file, unless it exists (FileExistsError)."""
    try:
        path.hardlink_to(content)
    except FileExistsError:
        raise
    except OSError:  # no hard links here
        with path.open("x") as file:
            file.write(content.read_text())


def _job_is_over(job: str) -> bool:
    """Whether Slurm answers that a job is neither queued nor running; False when it does not answer."""
    try:
        said = run_command(["squeue", "--noheader", "--jobs", job, "--states", "all", "--format", "%T"])
    except SlurmError as error:
        return "Invalid job id" in str(error)
    return not any(word in said for word in ("RUNNING", "COMPLETING", "PENDING", "CONFIGURING", "SUSPENDED", "STOPPED"))
