"""The system call filter of a submission, as classic BPF.

A submission is one process. Threads may start, processes may not (fork, vfork, exec), so a fork bomb, a daemon that
outlives the verdict and a memory bomb in a grandchild have nothing to start from, and the address-space limit of that
one process is the limit of the whole tree. Also closed: sockets (a stream socketpair of its own is open), ptrace,
mounts, namespaces, bpf, keyrings, io_uring, memfd and System V memory (which no address-space limit counts).

Two submissions must not talk either: what one leaves in the kernel and another can read back is closed by argument.
That is the page cache (fadvise, mincore, RWF_NOWAIT, madvise that pages out), the cache of paths (RESOLVE_CACHED), file
locks (a request is answered with success, and none is taken), futexes in shared library pages, counters of the machine
(sysinfo, statfs), clocks and schedules of other processes, descriptors in flight and queued signals (per-user
counters), socket options and cookies, the pool of huge pages.
"""

from __future__ import annotations

import errno
import platform
import struct

from foreshock.jobs.verify.sandbox.syscall_numbers import ALLOWED, CONDITIONAL, MACHINES

_ALLOW = 0x7FFF0000
_ERRNO = 0x00050000
_KILL = 0x80000000
_LOAD, _JA, _JEQ, _JGE, _JSET, _RET = 0x20, 0x05, 0x15, 0x35, 0x45, 0x06
_FAR = 255
_NR, _ARCH = 0, 4
_CLONE_THREAD = 0x00010000
_USER_NOTIFY = 0x7FC00000
_X32 = 0x40000000

_IOCTLS = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)  # TCGETS TIOCGWINSZ FIONREAD FIONBIO FIONCLEX FIOCLEX
_FCNTLS = (0, 1, 2, 3, 4, 1030)  # DUPFD GETFD SETFD GETFL SETFL DUPFD_CLOEXEC: no locks, leases, owners, pipe sizes
_LOCK_FCNTLS = (6, 7)  # SETLK SETLKW. Answered with success and never made: one process never waits for its own POSIX
# locks, its files are nobody else's, and what is answered to everybody alike tells nothing. So SQLite works in a file.
_PRCTLS = (15, 16)  # PR_SET_NAME PR_GET_NAME
_ADVICE = (0, 4, 8, 14, 15, 16, 17)  # NORMAL DONTNEED FREE HUGEPAGE NOHUGEPAGE DONTDUMP DODUMP: nothing of a file's
_SOCKET_OPTIONS = (3, 4, 30, 38, 39)  # SO_TYPE SO_ERROR SO_ACCEPTCONN SO_PROTOCOL SO_DOMAIN
_SOL_SOCKET = 1
_AF_UNIX = 1
_STREAMS = tuple(1 | flags for flags in (0, 0o4000, 0o2000000, 0o2004000))  # SOCK_STREAM, NONBLOCK, CLOEXEC
_NO_SIGNALS = (9, 19, 20, 21, 22)  # KILL STOP TSTP TTIN TTOU: a stop or a kill so comes from outside, which the judge
# must be able to tell. Queued (real-time) signals count against a limit that processes share.
_FIRST_QUEUED_SIGNAL = 32
_FUTEX_PRIVATE = 0x80
_SHARED_WAITS = (0, 9, 0x109)  # WAIT WAIT_BITSET (real clock): libc's join of a thread. As a thread ends, the kernel
# wakes who sleeps at a place of its choice, a library's page too, and no filter sees that; so nobody sleeps there.
# EAGAIN has a join look again instead, for the moment that a thread takes to end.
_MAP_HUGETLB = 0x40000
_OWN_LIMITS = (1, 2, 3, 4, 5, 7, 9)  # FSIZE DATA STACK CORE RSS NOFILE AS. A lower limit on what is counted by user
# (NPROC, SIGPENDING) tells the count, which other submissions change; at the end of CPU the kernel sends SIGKILL, which
# the judge takes for a kill from outside.
_NEGATIVE = 0x80000000


def _op(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("HBBI", code, if_true, if_false, value)


def _return(action: int) -> bytes:
    return _op(_RET, action)


def _fail(error: int) -> bytes:
    return _return(_ERRNO | error)


def _argument(number: int, high: bool = False) -> bytes:
    """Load the low (or high) word of an argument; both supported machines are little-endian."""
    return _op(_LOAD, 16 + 8 * number + 4 * high)


_REFUSE = _fail(errno.EPERM)


def _need(number: int, values: tuple[int, ...], high: bool = False) -> bytes:
    """Go on when the word of an argument is one of `values`, else EPERM."""
    body = b"".join(_op(_JEQ, value, len(values) - index) for index, value in enumerate(values))
    return _argument(number, high) + body + _REFUSE


def _refuse_bits(number: int, bits: int) -> bytes:
    """EPERM when the low word of an argument has any of `bits`, else go on."""
    return _argument(number) + _op(_JSET, bits, 0, 1) + _REFUSE


def _only(number: int, values: tuple[int, ...], action: bytes | None = None) -> bytes:
    """Allow (or another action) when the low word of an argument is one of `values`, else EPERM."""
    return _need(number, values) + (action or _return(_ALLOW))


def _pretend(number: int, values: tuple[int, ...]) -> bytes:
    """Answer 0 without the call when the low word of an argument is one of `values`, else go on."""
    out = b"".join(_op(_JEQ, value, 0, 1) + _fail(0) for value in values)
    return _argument(number) + out


def _signal(number: int) -> bytes:
    """Allow the signals that a process may send to itself."""
    body = _op(_JGE, _FIRST_QUEUED_SIGNAL, 0, 1) + _REFUSE
    body += b"".join(_op(_JEQ, signal, 0, 1) + _REFUSE for signal in _NO_SIGNALS)
    return _argument(number) + body + _return(_ALLOW)


def _reads_limit() -> bytes:
    """Allow a call without a new limit (third argument), else go on."""
    low = _argument(2) + _op(_JEQ, 0, 0, 3)
    return low + _argument(2, high=True) + _op(_JEQ, 0, 0, 1) + _return(_ALLOW)


def supported() -> bool:
    """Whether the numbers of this machine are known."""
    return platform.machine() in MACHINES


_PLACEHOLDER = 0x5EC0C0DE


ATTRIBUTES = tuple(kind + at + "xattr" for kind in ("", "l", "f") for at in ("set", "get", "list"))
METADATA = frozenset({"chmod", "fchmod", "fchmodat", "utime", "utimes", "utimensat", "futimesat"})
"""Calls that change a file without opening it, which Landlock does not see."""


def program_for(template: bytes, own_pid: int) -> bytes:
    """`program(own_pid)` from `program()`, quickly."""
    return template.replace(struct.pack("I", _PLACEHOLDER), struct.pack("I", own_pid))


def program(own_pid: int = _PLACEHOLDER, refuse: frozenset[str] = frozenset()) -> bytes:
    """The filter for the process that calls itself `own_pid`; 8 bytes an instruction. `refuse` closes more calls.

    Any call not named here, or made through another ABI of the machine (x32), fails with EPERM. clone3 fails with
    ENOSYS, on which libc falls back to clone, whose flags a filter can read.
    """
    index, audit_arch = MACHINES[platform.machine()]
    actions: dict[int, bytes] = {}
    for name, numbers in ALLOWED.items():
        if name not in refuse and (nr := numbers[index]) is not None:
            actions[nr] = _return(_ALLOW)
    actions |= {nr: block for name, block in _blocks(own_pid).items() if (nr := CONDITIONAL[name][index]) is not None}
    out = [_op(_LOAD, _ARCH), _op(_JEQ, audit_arch, 1, 0), _return(_KILL), _op(_LOAD, _NR)]
    return b"".join(out) + _search(_ranges(actions))


def counting_program(processes_too: bool, cookie: int) -> bytes:
    """A filter that asks its listener before every new thread and allows all else.

    With `processes_too` it also asks before every new process, unless the caller of clone passes `cookie` (64 bits) as
    its third argument: so does the zygote, which could not be answered while the judge does something else.
    """
    index, audit_arch = MACHINES[platform.machine()]
    ask, allow = _return(_USER_NOTIFY), _return(_ALLOW)
    clone = _argument(0) + _op(_JSET, _CLONE_THREAD, 0, 1) + ask
    if processes_too:
        clone += _argument(2) + _op(_JEQ, cookie & 0xFFFFFFFF, 1, 0) + ask
        clone += _argument(2, high=True) + _op(_JEQ, cookie >> 32, 1, 0) + ask
    rules = {"clone": clone + allow, "clone3": _fail(errno.ENOSYS)}
    if processes_too:
        rules |= {"fork": ask, "vfork": ask}
    out = _op(_LOAD, _ARCH) + _op(_JEQ, audit_arch, 1, 0) + allow + _op(_LOAD, _NR)
    if processes_too:
        out += _op(_JGE, _X32, 0, 1) + _fail(errno.ENOSYS)
    for name, block in rules.items():
        if (nr := CONDITIONAL[name][index]) is not None:
            out += _op(_JEQ, nr, 0, len(block) // 8) + block
    return out + allow


def _blocks(own_pid: int) -> dict[str, bytes]:
    """What to do on each call whose arguments decide."""
    me = (own_pid,)
    clone = _argument(0) + _op(_JSET, _CLONE_THREAD, 0, 1) + _return(_ALLOW) + _REFUSE
    futex = (
        _argument(1) + _op(_JSET, _FUTEX_PRIVATE, 0, 1) + _return(_ALLOW) + _only(1, _SHARED_WAITS, _fail(errno.EAGAIN))
    )
    static_clock = _refuse_bits(0, _NEGATIVE) + _return(_ALLOW)
    no_flags = _only(5, (0,))
    return {
        "clone": clone,
        "clone3": _fail(errno.ENOSYS),
        **dict.fromkeys(ATTRIBUTES, _fail(errno.ENOTSUP)),  # as on a disk without them, which shutil expects
        "openat2": _fail(errno.ENOSYS),  # RESOLVE_CACHED tells whether somebody looked a path up before
        "kill": _need(0, me) + _signal(1),
        "tgkill": _need(0, me) + _signal(2),
        "prlimit64": _need(0, (0, own_pid)) + _reads_limit() + _only(1, _OWN_LIMITS),
        "ioctl": _only(1, _IOCTLS),
        "fcntl": _pretend(1, _LOCK_FCNTLS) + _only(1, _FCNTLS),
        "flock": _fail(0),
        "prctl": _only(0, _PRCTLS),
        "socketpair": _need(0, (_AF_UNIX,)) + _only(1, _STREAMS),
        "getsockopt": _need(1, (_SOL_SOCKET,)) + _only(2, _SOCKET_OPTIONS),
        "sendto": _need(4, (0,)) + _need(4, (0,), high=True) + _return(_ALLOW),  # to the other end, no address
        "preadv2": no_flags,
        "pwritev2": no_flags,
        "madvise": _only(2, _ADVICE),
        "mmap": _refuse_bits(3, _MAP_HUGETLB) + _return(_ALLOW),
        "futex": futex,
        **dict.fromkeys(("clock_gettime", "clock_getres", "clock_nanosleep"), static_clock),
        **dict.fromkeys(("getpgid", "getsid", "sched_getparam"), _only(0, (0, own_pid))),
        **dict.fromkeys(("sched_getscheduler", "sched_getaffinity"), _only(0, (0, own_pid))),
    }


def _ranges(actions: dict[int, bytes]) -> list[tuple[int, bytes]]:
    """(first number, action) of each run of numbers with one action; whatever is not listed fails with EPERM."""
    refuse = _fail(errno.EPERM)
    out = [(0, actions.get(0, refuse))]
    for nr in sorted({edge for number in actions for edge in (number, number + 1)}):
        action = actions.get(nr, refuse)
        if action != out[-1][1] and nr > 0:
            out.append((nr, action))
    return out


def _search(ranges: list[tuple[int, bytes]]) -> bytes:
    """Binary search over the ranges: the kernel runs the filter for every number when it is installed."""
    if len(ranges) == 1:
        return ranges[0][1]
    middle = len(ranges) // 2
    low, high = _search(ranges[:middle]), _search(ranges[middle:])
    skip = len(low) // 8
    if skip > _FAR:
        return _op(_JGE, ranges[middle][0], 0, 1) + _op(_JA, skip) + low + high
    return _op(_JGE, ranges[middle][0], skip, 0) + low + high
