"""Whether a watch of a run lives: it holds a lock, and its heart beats beside it.

A container that is restarted has another host name, so that nobody can ask whether the process that held the lock is
alive. The beat answers: who finds the lock held watches it for a while, on its own clock, and takes over if it stands
still. A watch that was only suspended sees that the lock is not its own any more, and ends.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress

from foreshock.durable import atomic_write_bytes
from foreshock.errors import ForeshockError
from foreshock.jobs.records.layout import RunLayout
from foreshock.slurm.lock import LauncherLock, LockHeldError

BEAT_S = 10.0
SILENT_S = 4 * BEAT_S
"""An owner of whom nothing is seen for this long is gone."""


def watch_lock(layout: RunLayout) -> LauncherLock:
    """Held by the one watch of a run while it lives."""
    return LauncherLock(layout.root / "watch" / "lock")


def is_watched(layout: RunLayout) -> bool:
    """Whether a watch made the run, alive or not."""
    return (layout.root / "watch" / "state.json").is_file()


class WatchLock:
    """The lock of the watch of `layout`, with its beat. `sleep` and the seconds are for tests."""

    def __init__(
        self, layout: RunLayout, beat_s: float = BEAT_S, silent_s: float = SILENT_S, say: Callable[[str], None] = print
    ) -> None:
        self._lock = watch_lock(layout)
        self._beat = layout.root / "watch" / "beat"
        self._beat_s, self._silent_s, self._say = beat_s, silent_s, say
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def acquire(self) -> None:
        """Take it, from an owner whose heart stands still too. Raises LockHeldError while another watch lives."""
        if self._thread is not None:
            return
        try:
            self._lock.acquire()
        except LockHeldError as error:
            if not self._beat.is_file():  # an owner of an earlier version has no beat, so nothing can be said of it
                raise
            self._say(f"{str(error).splitlines()[0]}; waiting {self._silent_s:g} s for a sign of it")
            if not self._is_silent():
                raise
            self._lock.overrule()
            self._lock.acquire()
        self._write(0)
        self._stop.clear()
        self._thread = threading.Thread(target=self._beating, name="watch-beat", daemon=True)
        self._thread.start()

    def require(self) -> None:
        """Raise ForeshockError if another watch has taken over."""
        if self._thread is not None and not self._lock.is_mine():
            raise ForeshockError("another watch has taken this run over, since this one stood still; it goes on there")

    def release(self) -> None:
        """Give it back, if it is this process's."""
        if self._thread is not None:
            self._stop.set()
            self._thread.join()
            self._thread = None
            if self._lock.is_mine():
                self._beat.unlink(missing_ok=True)
        self._lock.release()

    def _is_silent(self) -> bool:
        before, end = self._read(), time.monotonic() + self._silent_s
        while time.monotonic() < end:
            time.sleep(min(self._beat_s / 2, max(0.0, end - time.monotonic())))
            if self._read() != before or not self._lock.held():
                return not self._lock.held()
        return True

    def _beating(self) -> None:
        count = 0
        while not self._stop.wait(self._beat_s):
            count += 1
            if self._lock.is_mine():
                self._write(count)

    def _write(self, count: int) -> None:
        with suppress(OSError):  # a full disk ends the watch where it writes results, and says so there
            atomic_write_bytes(self._beat, f"{time.time():.3f} {count}\n".encode())

    def _read(self) -> bytes:
        try:
            return self._beat.read_bytes()
        except OSError:
            return b""
