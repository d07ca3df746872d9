"""Attacks that leave a sign in the kernel which a submission in another sandbox could read back.

Each tries the means of such a channel on something that both would share: a file of the standard library, a device, a
counter of the machine or of the user.
"""

from __future__ import annotations

from textwrap import dedent

from foreshock.jobs.records.verdicts import SandboxTier
from foreshock.jobs.verify.attacks.attack import EVERYWHERE, FULL_ONLY, ISOLATED, Attack, any_of, body

_G = "covert channels"
_LIBRARY = """
library = os.open(os.__file__, os.O_RDONLY)
libc = ctypes.CDLL(None, use_errno=True)
x86 = os.uname().machine == 'x86_64'
"""
_FUTEX = """
def zero_word(library, libc):
    size = os.fstat(library).st_size
    libc.mmap.restype = ctypes.c_void_p
    page = libc.mmap(None, 4096, 1, 1, library, ctypes.c_long(size & ~4095))
    return page + 4092  # behind the file's end
def wait_for(word, libc, x86, cause):
    answers = []
    def wait():
        until = struct.pack('qq', 1, 0)
        answers.append(libc.syscall(202 if x86 else 98, ctypes.c_void_p(word), 0, 0, until, None, 0))
    waiter = threading.Thread(target=wait)
    waiter.start()
    time.sleep(0.3)
    cause()
    waiter.join()
    return answers == [0]
"""
"""A word of a library's page that holds zero, and whether somebody who sleeps on it is woken by `cause`."""


def _try(name: str, text: str, claimed: frozenset[SandboxTier] = ISOLATED) -> Attack:
    return Attack(_G, name, body(_LIBRARY + (_FUTEX if "zero_word" in text else "") + dedent(text)), claimed)


def _any_of(name: str, *attempts: str, before: str = "") -> Attack:
    return _try(name, any_of(*attempts, before=before))


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
    _any_of(
        "POSIX and open-file locks",
        *(f"fcntl.fcntl(library, {command}, lock)" for command in ("fcntl.F_GETLK", 36, 37, 38)),
        before="""
        import fcntl
        lock = struct.pack('hhqqi4x', fcntl.F_RDLCK, 0, 1 << 40, 1, 0)""",
    ),
    _try(
        "take a lock in the kernel (POSIX, flock)",
        """
        import errno, fcntl
        lock = struct.pack('hhqqi4x', fcntl.F_RDLCK, 0, 1 << 40, 1, 0)
        reached = []
        for take in (*(lambda c=c: fcntl.fcntl(999, c, lock) for c in (6, 7)), lambda: fcntl.flock(999, fcntl.LOCK_SH)):
            try:
                take()  # no such descriptor: only a call that the kernel makes says so
            except OSError as error:
                reached.append(error.errno == errno.EBADF)
        return 'escaped' if any(reached) else 'stopped'""",
    ),
    _any_of(
        "file leases",
        "fcntl.fcntl(library, 1024, fcntl.F_RDLCK)",
        "fcntl.fcntl(library, 1026, 1)",
        before="import fcntl",
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
    _any_of(
        "socket options and cookies",
        "left.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)",
        "left.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)",
        "left.getsockopt(socket.SOL_SOCKET, 57, 8)",
        "left.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)",
        before="left, right = socket.socketpair()",
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
    _any_of(
        "another process's clock and session",
        "time.clock_gettime((~world['victim'] << 3) | 2)",
        *(f"os.{call}(world['victim'])" for call in ("getsid", "sched_getaffinity", "getpgid")),
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
    _try(
        "wake a futex by dying with a robust list",
        """
        word = zero_word(library, libc)
        class Head(ctypes.Structure):
            _fields_ = [('list', ctypes.c_void_p), ('offset', ctypes.c_long), ('pending', ctypes.c_void_p)]
        head = Head(None, 0, word)
        head.list = ctypes.addressof(head)
        def die():
            libc.syscall(273 if x86 else 99, ctypes.byref(head), ctypes.sizeof(head))
        woken = wait_for(word, libc, x86, lambda: threading.Thread(target=die).start())
        return 'escaped' if woken else 'stopped'""",
    ),
    _try(
        "wake a futex as a thread ends (CLONE_CHILD_CLEARTID)",
        """
        word, stack = zero_word(library, libc), ctypes.create_string_buffer(1 << 16)
        top = (ctypes.addressof(stack) + (1 << 16) - 256) & ~15
        thread = 0x100 | 0x200 | 0x400 | 0x800 | 0x10000 | 0x40000 | 0x200000
        def start():
            libc.clone(ctypes.cast(libc.getpid, ctypes.c_void_p), ctypes.c_void_p(top), thread, None, None, None,
                       ctypes.c_void_p(word))
        return 'escaped' if wait_for(word, libc, x86, start) else 'stopped'""",
    ),
    _try(
        "ask whether a path was looked up before (RESOLVE_CACHED)",
        """
        name = os.path.join(os.path.dirname(os.__file__), 'foreshock-' + world['token']).encode()
        how = struct.pack('QQQ', os.O_RDONLY, 0, 0x20)
        def ask():
            libc.syscall(437, -100, name, how, len(how))
            return ctypes.get_errno()
        before = ask()
        os.path.exists(name)
        return 'escaped' if before != ask() else 'stopped'""",
    ),
    _try(
        "ask how much of a file is cached (cachestat)",
        """
        span, found = struct.pack('QQ', 0, 0), ctypes.create_string_buffer(64)
        if libc.syscall(451, library, span, found, 0) == 0:
            return 'escaped: ' + str(struct.unpack_from('Q', found)[0])
        return 'stopped' if ctypes.get_errno() in (1, 38) else 'escaped: reached the kernel'""",
    ),
    _try(
        "be told when a library file is opened (inotify, fanotify)",
        """
        for number, arguments in (((294 if x86 else 26), (0,)), ((300 if x86 else 262), (0, 0))):
            if libc.syscall(number, *arguments) >= 0 or ctypes.get_errno() not in (1, 38):
                return 'escaped'
        return 'stopped'""",
    ),
    _try(
        "the machine's allowance of asynchronous requests (io_setup)",
        """
        context = ctypes.c_ulong()
        if libc.syscall(206 if x86 else 0, 1 << 15, ctypes.byref(context)) == 0:
            return 'escaped'
        return 'stopped' if ctypes.get_errno() in (1, 38) else 'escaped: reached the kernel'""",
    ),
    _try(
        "the user's allowance of pipe buffers",
        """
        import fcntl
        held, capacity = [], 0
        try:
            while True:
                held.append(os.pipe())
                os.set_blocking(held[-1][1], False)
        except OSError:
            pass
        for _, end in held:
            try:
                fcntl.fcntl(end, 1031, 1 << 20)
                return 'escaped'
            except OSError:
                pass
        while True:
            try:
                capacity += os.write(held[-1][1], bytes(4096))
            except BlockingIOError:
                return 'escaped: a smaller buffer' if capacity < 1 << 16 else 'stopped'""",
    ),
    _try(
        "count page faults and blocks read (getrusage)",
        """
        import resource
        before = resource.getrusage(resource.RUSAGE_SELF)
        return 'escaped' if before.ru_minflt + before.ru_majflt > 0 else 'stopped'""",
        claimed=frozenset(),
    ),
    _any_of(
        "mode and times of a device node",
        "os.chmod('/dev/full', status.st_mode & 0o7777)",
        "os.utime('/dev/full', ns=(status.st_atime_ns, status.st_mtime_ns))",
        before="status = os.stat('/dev/full')",
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
    Attack(
        _G,
        "flags of a descriptor that processes of one zygote share (F_SETFL)",
        body("""
        import fcntl
        marks = os.O_APPEND | os.O_NONBLOCK
        flags = [fcntl.fcntl(fd, fcntl.F_GETFL) for fd in (0, 1, 2)]
        if world['phase'] == 0:
            for fd, have in enumerate(flags):
                fcntl.fcntl(fd, fcntl.F_SETFL, have | marks)
            return 'set'
        return 'escaped' if any(have & marks for have in flags) else 'clean'"""),
        claimed=EVERYWHERE,
        phases=2,
    ),
    _any_of(
        "mode and times of the host's null device, through an inherited descriptor",
        *(f"os.{call}" for fd in (0, 1, 2) for call in (f"fchmod({fd}, mode)", f"utime({fd})")),
        before="mode = os.fstat(0).st_mode & 0o7777",
    ),
    _any_of(
        "count the user's processes and queued signals by a lowered limit",
        *(f"lower(resource.RLIMIT_{which})" for which in ("NPROC", "SIGPENDING", "MSGQUEUE")),
        before="""
        import resource
        def lower(which):
            try:
                resource.setrlimit(which, (0, resource.getrlimit(which)[1]))
            except ValueError as error:  # how Python says EPERM here
                raise OSError(str(error))""",
    ),
    _any_of(
        "count the links of a library file",
        "os.link(os.__file__, 'linked')",
        "os.link(f'/proc/self/fd/{library}', 'linked', follow_symlinks=True)",
        "os.rename(os.__file__, os.__file__)",
    ),
    _try(
        "count another process's threads and descriptors by a folder's size",
        """
        folder = f"/proc/{world['judge']}/"
        return 'escaped: ' + str((os.stat(folder + 'task').st_nlink, os.stat(folder + 'fd').st_size))""",
        claimed=FULL_ONLY,
    ),
    _any_of(
        "controls of devices, files and terminals (ioctl)",
        "fcntl.ioctl(os.open('/dev/urandom', os.O_RDONLY), 0x80045200, bytes(4))",  # RNDGETENTCNT: what the pool holds
        "fcntl.ioctl(os.open('/dev/urandom', os.O_RDONLY), 0x5207)",  # RNDRESEEDCRNG
        "fcntl.ioctl(library, 0x80086601, bytes(8))",  # FS_IOC_GETFLAGS
        "fcntl.ioctl(library, 0xC020660B, bytes(32))",  # FS_IOC_FIEMAP
        "fcntl.ioctl(socket.socketpair()[0], 0x8904, bytes(4))",  # SIOCGPGRP
        before="import fcntl",
    ),
]
