"""The system call filter of a submission, as classic BPF.

The one hard decision: a submission is one process. Threads may start, processes may not (fork, vfork, exec), so
a fork bomb, a daemon that outlives the verdict and a memory bomb in a grandchild have nothing to start from, and
the address-space limit of that one process is the limit of the whole tree. Also closed: sockets (a socketpair of
its own is open), ptrace, mounts, namespaces, bpf, keyrings, io_uring, memfd and System V memory (which no
address-space limit counts).
"""

from __future__ import annotations

import errno
import platform
import struct

from foreshock.jobs.verify.sandbox.syscall_numbers import ALLOWED, CONDITIONAL, MACHINES

_ALLOW = 0x7FFF0000
_ERRNO = 0x00050000
_KILL = 0x80000000
_LOAD, _JEQ, _JSET, _RET = 0x20, 0x15, 0x45, 0x06
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


def _only(nr: int, argument: int, values: tuple[int, ...]) -> bytes:
    """Allow call `nr` when the low word of an argument is one of `values`, else EPERM."""
    body = _op(_LOAD, argument)
    body += b"".join(_op(_JEQ, value, 0, 1) + _return(_ALLOW) for value in values)
    body += _return(_ERRNO | errno.EPERM)
    return _op(_JEQ, nr, 0, len(body) // 8) + body


def supported() -> bool:
    """Whether the numbers of this machine are known."""
    return platform.machine() in MACHINES


def program(own_pid: int) -> bytes:
    """The filter for the process that calls itself `own_pid`; 8 bytes an instruction.

    Any call not named here, or made through another ABI of the machine (x32), fails with EPERM. clone3 fails with
    ENOSYS, on which libc falls back to clone, whose flags a filter can read.
    """
    index, audit_arch = MACHINES[platform.machine()]
    out = [_op(_LOAD, _ARCH), _op(_JEQ, audit_arch, 1, 0), _return(_KILL), _op(_LOAD, _NR)]
    for numbers in ALLOWED.values():
        if (nr := numbers[index]) is not None:
            out += [_op(_JEQ, nr, 0, 1), _return(_ALLOW)]
    known = {name: numbers[index] for name, numbers in CONDITIONAL.items()}
    clone = [_op(_LOAD, _ARG0), _op(_JSET, _CLONE_THREAD, 0, 1), _return(_ALLOW), _return(_ERRNO | errno.EPERM)]
    out += [_op(_JEQ, known["clone"] or 0, 0, len(clone)), *clone]
    out += [_op(_JEQ, known["clone3"] or 0, 0, 1), _return(_ERRNO | errno.ENOSYS)]
    out += [_only(known["kill"] or 0, _ARG0, (own_pid,)), _only(known["tgkill"] or 0, _ARG0, (own_pid,))]
    out += [_only(known["prlimit64"] or 0, _ARG0, (0, own_pid))]
    out += [_only(known["ioctl"] or 0, _ARG1, _IOCTLS), _only(known["fcntl"] or 0, _ARG1, _FCNTLS)]
    out += [_only(known["prctl"] or 0, _ARG0, _PRCTLS), _only(known["socketpair"] or 0, _ARG0, (_AF_UNIX,))]
    out.append(_return(_ERRNO | errno.EPERM))
    return b"".join(out)
