"""Thin wrappers around the system calls that confinement needs, without any dependency.

`ctypes` on libc's `syscall` and no binding package. The packages cost 16-57 ms of imports a process and need
libseccomp on the node; this needs nothing (docs/decisions).
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import struct

from foreshock.jobs.verify.sandbox.syscall_numbers import number

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_NOATIME = 1024
MS_NODIRATIME = 2048
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18
MS_RELATIME = 1 << 21
MNT_DETACH = 2

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_SECCOMP = 22
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
SECCOMP_MODE_FILTER = 2

MAX_DESCRIPTORS = 256
"""Limit of the zygote, and so above every descriptor that a confined process could inherit."""

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_SET_MODE_FILTER, _NEW_LISTENER = 1, 8
_CAPABILITY_VERSION_3 = 0x20080522


def syscall(nr: int, *args: int | bytes | None) -> int:
    """Raw system call. Raises OSError with the kernel's errno."""
    converted = [ctypes.c_long(arg) if isinstance(arg, int) else arg for arg in args]
    result = int(_libc.syscall(ctypes.c_long(nr), *converted))
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result


def unshare(flags: int) -> None:
    """Move this process (its children, for CLONE_NEWPID) into new namespaces."""
    try:
        syscall(number("unshare"), flags)
    except OSError as error:
        why = "user.max_user_namespaces is reached" if error.errno == errno.ENOSPC else error.strerror
        raise OSError(error.errno, f"new namespaces refused: {why}") from None


def clone(namespaces: int, cookie: int = 0) -> int:
    """Fork into new namespaces; returns as os.fork does. `cookie`: see seccomp.counting_program; the kernel ignores it.

    The bare system call, without the at-fork hooks of Python and libc: they cost a third of a fork, and a process
    with one thread that holds no lock needs none of them. Only for the zygote, which never starts a thread.
    """
    return syscall(number("clone"), namespaces | signal.SIGCHLD, 0, cookie, 0, 0)


def mount(source: str, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    """mount(2); errors name the target."""
    try:
        syscall(
            number("mount"),
            os.fsencode(source),
            os.fsencode(target),
            None if kind is None else kind.encode(),
            flags,
            None if data is None else data.encode(),
        )
    except OSError as error:
        raise OSError(error.errno, f"mount {kind or 'bind'} on {target}: {error.strerror}") from None


def unmount(target: str, flags: int) -> None:
    """umount2(2)."""
    syscall(number("umount2"), os.fsencode(target), flags)


def pivot_root(new_root: str, put_old: str) -> None:
    """pivot_root(2)."""
    syscall(number("pivot_root"), os.fsencode(new_root), os.fsencode(put_old))


def set_hostname(name: str) -> None:
    """sethostname(2), in this process's UTS namespace."""
    raw = name.encode()
    syscall(number("sethostname"), raw, len(raw))


def prctl(option: int, value: int = 0) -> None:
    """prctl(2) with one argument."""
    if _libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"prctl({option}, {value}): {os.strerror(error)}")


def install_filter(program: bytes) -> None:
    """Attach a seccomp BPF program (8 bytes an instruction) to this process, for good."""
    buffer = ctypes.create_string_buffer(program, len(program))
    fprog = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(buffer))
    if _libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, fprog, 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"seccomp filter refused: {os.strerror(error)}")


def install_listener(program: bytes) -> int:
    """Attach a seccomp program with SECCOMP_RET_USER_NOTIF to this process; the descriptor that hears what it asks."""
    buffer = ctypes.create_string_buffer(program, len(program))
    fprog = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(buffer))
    return syscall(number("seccomp"), _SET_MODE_FILTER, _NEW_LISTENER, fprog)


def drop_capabilities() -> None:
    """Empty every capability set of this process. no_new_privs then keeps an exec from refilling them."""
    header = struct.pack("Ii", _CAPABILITY_VERSION_3, 0)
    syscall(number("capset"), header, bytes(24))


def prefer_to_kill(proc: int, score: int) -> None:
    """Have the kernel's out-of-memory killer prefer this process: 1000 before all others. `proc`: as write_id_maps."""
    try:
        fd = os.open("self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC, dir_fd=proc)
    except OSError:
        return  # no such file in this /proc: nothing to prefer
    try:
        os.write(fd, str(score).encode())
    except PermissionError:
        pass  # it stands higher already, and only an administrator may lower it
    finally:
        os.close(fd)


def write_id_maps(proc: int, uid: int, gid: int, inside: int) -> None:
    """Map one id of the new user namespace, `inside`, to this process's own `uid` and `gid`.

    proc: descriptor of a proc mount, since the caller's root may hold none.
    """
    for name, text in (
        ("self/setgroups", "deny"),
        ("self/uid_map", f"{inside} {uid} 1"),
        ("self/gid_map", f"{inside} {gid} 1"),
    ):
        fd = os.open(name, os.O_WRONLY | os.O_CLOEXEC, dir_fd=proc)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)


def close_from(first: int) -> None:
    """Close every descriptor from `first` up to the zygote's own limit (one by one where close_range is missing)."""
    os.closerange(first, MAX_DESCRIPTORS)
