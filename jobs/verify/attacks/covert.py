"""Attacks that leave a sign in the kernel which a submission in another sandbox could read back.

Each tries the means of such a channel on something that both would share: a file of the standard library, a device, a
counter of the machine or of the user.
"""

from __future__ import annotations

from foreshock.jobs.verify.attacks.attack import FULL_ONLY, Attack, body

_G = "covert channels"
_LIBRARY = """
        library = os.open(os.__file__, os.O_RDONLY)
        libc = ctypes.CDLL(None, use_errno=True)
        x86 = os.uname().machine == 'x86_64'
"""


def _try(name: str, text: str) -> Attack:
    return Attack(_G, name, body(_LIBRARY + text))


ATTACKS = [
    _try(
        "drop a library's pages from the cache (posix_fadvise)",
        """
        os.posix_fadvise(library, 0, 0, os.POSIX_FADV_DONTNEED)
        return 'escaped'""",
    ),
    _try(
        "ask whether a page is cached (RWF_NOWAIT)",
        """
        try:
            os.preadv(library, [bytearray(1)], 0, os.RWF_NOWAIT)
        except BlockingIOError:
            return 'escaped: not cached'
        return 'escaped: cached'""",
    ),
    _try(
        "ask whether a page is cached (mincore)",
        """
        address = ctypes.cast(libc.printf, ctypes.c_void_p).value & ~4095
        if libc.mincore(ctypes.c_void_p(address), 4096, ctypes.create_string_buffer(1)) == 0:
            return 'escaped'""",
    ),
    _try(
        "page a library out (madvise)",
        """
        address = ctypes.cast(libc.printf, ctypes.c_void_p).value & ~4095
        for advice in (9, 12, 20, 21, 1):
            if libc.madvise(ctypes.c_void_p(address), 4096, advice) == 0:
                return f'escaped: {advice}'
        return 'stopped'""",
    ),
    _try(
        "POSIX and open-file locks",
        """
        import fcntl
        lock = struct.pack('hhqqi4x', fcntl.F_RDLCK, 0, 1 << 40, 1, 0)
        for command in (fcntl.F_GETLK, fcntl.F_SETLK, 36, 37):
            try:
                fcntl.fcntl(library, command, lock)
                return f'escaped: {command}'
            except OSError:
                pass
        return 'stopped'""",
    ),
    _try(
        "flock and leases",
        """
        import fcntl
        for attempt in (lambda: fcntl.flock(library, fcntl.LOCK_SH), lambda: fcntl.fcntl(library, 1024, fcntl.F_RDLCK),
                        lambda: fcntl.fcntl(library, 1026, 1)):
            try:
                attempt()
                return 'escaped'
            except OSError:
                pass
        return 'stopped'""",
    ),
    _try(
        "wake a futex in a shared library's page",
        """
        address = ctypes.cast(libc.printf, ctypes.c_void_p).value & ~4095
        number = 202 if x86 else 98
        return 'escaped' if libc.syscall(number, ctypes.c_void_p(address), 1, 1, None, None, 0) >= 0 else 'stopped'""",
    ),
    _try(
        "wake a futex as a thread ends (set_tid_address)",
        """
        address = ctypes.cast(libc.printf, ctypes.c_void_p).value & ~4095
        return 'escaped' if libc.syscall(218 if x86 else 96, ctypes.c_void_p(address)) >= 0 else 'stopped'""",
    ),
    _try(
        "count queued signals (real-time signals, timers)",
        """
        signal.pthread_sigmask(signal.SIG_BLOCK, {40})
        number, timer = (222 if x86 else 107), ctypes.c_long()
        if libc.syscall(number, 1, None, ctypes.byref(timer)) == 0:
            return 'escaped: timer'
        os.kill(os.getpid(), 40)
        return 'escaped'""",
    ),
    _try(
        "descriptors in flight (SCM_RIGHTS)",
        """
        left, right = socket.socketpair()
        socket.send_fds(left, [b'x'], [library])
        return 'escaped'""",
    ),
    _try(
        "socket options and cookies",
        """
        left, right = socket.socketpair()
        for attempt in (lambda: left.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20),
                        lambda: left.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1),
                        lambda: left.getsockopt(socket.SOL_SOCKET, 57, 8),
                        lambda: left.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)):
            try:
                attempt()
                return 'escaped'
            except OSError:
                pass
        return 'stopped'""",
    ),
    Attack(
        _G,
        "datagrams from a socketpair",
        body("""
        for kind in (socket.SOCK_DGRAM, socket.SOCK_RAW, socket.SOCK_SEQPACKET, socket.SOCK_STREAM):
            for name in world['datagrams']:
                try:
                    left, right = socket.socketpair(socket.AF_UNIX, kind)
                    left.sendto(b'x', name)
                except OSError:
                    pass
        return 'tried'"""),
    ),
    _try(
        "counters of the machine (sysinfo)",
        """
        return 'escaped' if libc.sysinfo(ctypes.create_string_buffer(256)) == 0 else 'stopped'""",
    ),
    _try(
        "free space and inodes of a shared disk (statfs)",
        """
        os.statvfs(os.path.dirname(os.__file__))
        return 'escaped'""",
    ),
    _try(
        "another process's clock and session",
        """
        for attempt in (lambda: time.clock_gettime((~world['victim'] << 3) | 2), lambda: os.getsid(world['victim']),
                        lambda: os.sched_getaffinity(world['victim']), lambda: os.getpgid(world['victim'])):
            try:
                attempt()
                return 'escaped'
            except OSError:
                pass
        return 'stopped'""",
    ),
    _try(
        "the pool of huge pages",
        """
        import mmap
        try:
            mmap.mmap(-1, 1 << 21, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x40000)
            return 'escaped'
        except OSError as error:
            return 'stopped' if error.errno == 1 else 'escaped: reached the kernel'""",
    ),
    Attack(
        _G,
        "mode and times of a device node",
        body("""
        status = os.stat('/dev/full')
        for attempt in (lambda: os.chmod('/dev/full', status.st_mode & 0o7777),
                        lambda: os.utime('/dev/full', ns=(status.st_atime_ns, status.st_mtime_ns))):
            try:
                attempt()
                return 'escaped'
            except OSError:
                pass
        return 'stopped'"""),
    ),
    Attack(
        _G,
        "times of use of library files",
        body("""
        folder = os.path.dirname(os.__file__)
        for name in sorted(os.listdir(folder)):
            path = os.path.join(folder, name)
            if not os.path.isfile(path):
                continue
            before = os.stat(path).st_atime_ns
            open(path, 'rb').read(1)
            if os.stat(path).st_atime_ns != before:
                return 'escaped'
        return 'unchanged'"""),
        claimed=FULL_ONLY,
    ),
]
