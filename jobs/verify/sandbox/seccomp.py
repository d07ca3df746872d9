"""The system call filter of a submission, as classic BPF.

A submission is one process. Threads may start, processes may not (fork, vfork, exec), so a fork bomb, a daemon that
outlives the verdict and a memory bomb in a grandchild have nothing to start from, and the address-space limit of that
one process is the limit of the whole tree. Also closed: sockets (a socketpair of its own is open), ptrace, mounts,
namespaces, bpf, keyrings, io_uring, memfd and System V memory (which no address-space limit counts).
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
_NR, _ARCH, _ARG0, _ARG1 = 0, 4, 16, 24
_CLONE_THREAD = 0x00010000

_IOCTLS = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)  # TCGETS TIOCGWINSZ FIONREAD FIONBIO FIONCLEX FIOCLEX
_FCNTLS = (
    0,
    1,
    2,
    3,
    4,
    5,
    6,
    7,
    1030,
    1032,
)  # DUPFD GETFD SETFD GETFL SETFL GETLK SETLK SETLKW DUPFD_CLOEXEC GETPIPE_SZ
_PRCTLS = (15, 16)  # PR_SET_NAME PR_GET_NAME
_AF_UNIX = 1


def _op(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("HBBI", code, if_true, if_false, value)


def _return(action: int) -> bytes:
    return _op(_RET, action)


def _only(argument: int, values: tuple[int, ...]) -> bytes:
    """Allow when the low word of an argument is one of `values`, else EPERM."""
    body = b"".join(_op(_JEQ, value, 0, 1) + _return(_ALLOW) for value in values)
    return _op(_LOAD, argument) + body + _return(_ERRNO | errno.EPERM)


def supported() -> bool:
    """Whether the numbers of this machine are known."""
    return platform.machine() in MACHINES


_PLACEHOLDER = 0x5EC0C0DE


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


def _blocks(own_pid: int) -> dict[str, bytes]:
    """What to do on each call whose arguments decide."""
    clone = _op(_LOAD, _ARG0) + _op(_JSET, _CLONE_THREAD, 0, 1) + _return(_ALLOW) + _return(_ERRNO | errno.EPERM)
    return {
        "clone": clone,
        "clone3": _return(_ERRNO | errno.ENOSYS),
        "kill": _only(_ARG0, (own_pid,)),
        "tgkill": _only(_ARG0, (own_pid,)),
        "prlimit64": _only(_ARG0, (0, own_pid)),
        "ioctl": _only(_ARG1, _IOCTLS),
        "fcntl": _only(_ARG1, _FCNTLS),
        "prctl": _only(_ARG0, _PRCTLS),
        "socketpair": _only(_ARG0, (_AF_UNIX,)),
    }


def _ranges(actions: dict[int, bytes]) -> list[tuple[int, bytes]]:
    """(first number, action) of each run of numbers with one action; whatever is not listed fails with EPERM."""
    refuse = _return(_ERRNO | errno.EPERM)
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
