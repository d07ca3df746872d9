"""How many threads and processes one submission may hold, counted by the judge before each is made.

RLIMIT_NPROC does not hold for root and counts all of a user's processes, so one submission's threads would be missed
by another. A seccomp filter asks the judge instead (SECCOMP_RET_USER_NOTIF, Linux 5.5).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct

_NOTICE = struct.Struct("=QIIiIQ6Q")  # id, process, flags, call, architecture, instruction pointer, arguments
_ANSWER = struct.Struct("=QqiI")  # id, value, error, flags
_RECEIVE = 0xC0502100  # SECCOMP_IOCTL_NOTIF_RECV
_SEND = 0xC0182101  # SECCOMP_IOCTL_NOTIF_SEND
_GO_ON = 1
_CLONE_THREAD = 0x00010000
_MOST_MADE = 4096


class ThreadGate:
    """The judge's end of the filter's listener. `limit`: threads that one process, or processes that one submission,
    may have beside the first."""

    def __init__(self, listener: int, limit: int) -> None:
        self.listener = listener
        self._limit = limit
        self._made = self._processes = 0

    def begin(self) -> None:
        """A new submission: nothing made yet."""
        self._made = self._processes = 0

    def answer(self) -> None:
        """Answer one notice: go on, or EAGAIN, which is how the kernel refuses past a limit."""
        buffer = bytearray(_NOTICE.size)
        try:
            fcntl.ioctl(self.listener, _RECEIVE, buffer)
        except OSError:
            return  # the process that asked is gone
        number, asking, _, _, _, _, flags, *_ = _NOTICE.unpack(buffer)
        allowed = self._allows(asking, bool(flags & _CLONE_THREAD))
        reply = _ANSWER.pack(number, 0, 0 if allowed else -errno.EAGAIN, _GO_ON if allowed else 0)
        with contextlib.suppress(OSError):
            fcntl.ioctl(self.listener, _SEND, bytearray(reply))

    def _allows(self, asking: int, is_thread: bool) -> bool:
        self._made += 1
        if not is_thread:
            self._processes += 1
            return self._processes <= self._limit
        return self._made <= _MOST_MADE and thread_count(asking) <= self._limit

    def close(self) -> None:
        """Close the listener; whoever still asks gets ENOSYS."""
        os.close(self.listener)


def thread_count(process: int) -> int:
    """Threads of a process (or of the process of a thread); 0 when that cannot be seen."""
    try:
        with open(f"/proc/{process}/stat", "rb") as handle:
            return int(handle.read().rpartition(b")")[2].split()[17])
    except (OSError, ValueError, IndexError):
        return 0
