"""Landlock: what a process may open, connect to or signal, enforced without namespaces.

Nothing is granted but the paths named; the ruleset asks for every right that this kernel knows (ABI 1 of Linux 5.13
to ABI 6 of 6.12) and what an older kernel lacks is left to seccomp.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterable

from foreshock.jobs.verify.sandbox.kernel import syscall
from foreshock.jobs.verify.sandbox.syscall_numbers import (
    LANDLOCK_ADD_RULE,
    LANDLOCK_CREATE_RULESET,
    LANDLOCK_RESTRICT_SELF,
)

_VERSION_FLAG = 1
_RULE_PATH_BENEATH = 1
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1, 2, 4, 8
_TRUNCATE, _IOCTL_DEV = 1 << 14, 1 << 15
_FILE_RIGHTS = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
_ALL_BY_ABI = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1}
_ALL_FROM_5 = (1 << 16) - 1
_NET_TCP = 3
_SCOPE_ALL = 3
_DEVICE_NODES = (1 << 6) | (1 << 11)  # make character and block devices: never granted

READ = _READ_FILE | _READ_DIR
READ_WRITE = _ALL_FROM_5 & ~_DEVICE_NODES & ~_EXECUTE & ~_IOCTL_DEV


def abi() -> int:
    """Version of the kernel's Landlock; 0 when it has none or it is off."""
    try:
        return syscall(LANDLOCK_CREATE_RULESET, None, 0, _VERSION_FLAG)
    except OSError:
        return 0


def make_ruleset(version: int) -> int:
    """Descriptor of an empty ruleset that handles (so forbids) everything version `version` can."""
    files = _ALL_BY_ABI.get(version, _ALL_FROM_5)
    attributes = struct.pack("QQQ", files, _NET_TCP if version >= 4 else 0, _SCOPE_ALL if version >= 6 else 0)
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    return syscall(LANDLOCK_CREATE_RULESET, attributes[:size], size, 0)


def rule(version: int, path_fd: int, rights: int) -> bytes:
    """The rule that grants `rights` beneath the file or directory behind `path_fd`."""
    rights &= _ALL_BY_ABI.get(version, _ALL_FROM_5)
    if not stat.S_ISDIR(os.fstat(path_fd).st_mode):
        rights &= _FILE_RIGHTS
    return struct.pack("=Qi", rights, path_fd)


def add(ruleset: int, one: bytes) -> None:
    """Put a rule into a ruleset."""
    syscall(LANDLOCK_ADD_RULE, ruleset, _RULE_PATH_BENEATH, one, 0)


def allow_paths(ruleset: int, version: int, paths: Iterable[str], rights: int) -> None:
    """Grant `rights` beneath each path that exists."""
    for path in paths:
        try:
            fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            add(ruleset, rule(version, fd, rights))
        finally:
            os.close(fd)


def restrict(ruleset: int) -> None:
    """Put this process and its descendants under the ruleset, for good. Needs no_new_privs."""
    syscall(LANDLOCK_RESTRICT_SELF, ruleset, 0)
