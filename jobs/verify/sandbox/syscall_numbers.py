"""System call numbers: the ones a submission may use, the ones it may use with certain arguments, and ours.

The filter lists what is allowed, not what is forbidden, so a call that a newer kernel adds is closed until somebody
opens it. Numbers are the kernel's user ABI (arch/x86/entry/syscalls/syscall_64.tbl and
include/uapi/asm-generic/unistd.h) and never change.
"""

from __future__ import annotations

import platform

ALLOWED: dict[str, tuple[int, int | None]] = {
    "read": (0, 63),
    "write": (1, 64),
    "readv": (19, 65),
    "writev": (20, 66),
    "pread64": (17, 67),
    "pwrite64": (18, 68),
    "preadv": (295, 69),
    "pwritev": (296, 70),
    "close": (3, 57),
    "close_range": (436, 436),
    "fstat": (5, 80),
    "newfstatat": (262, 79),
    "stat": (4, None),
    "lstat": (6, None),
    "statx": (332, 291),
    "lseek": (8, 62),
    "mprotect": (10, 226),
    "munmap": (11, 215),
    "mremap": (25, 216),
    "brk": (12, 214),
    "msync": (26, 227),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "rt_sigpending": (127, 136),
    "rt_sigtimedwait": (128, 137),
    "rt_sigsuspend": (130, 133),
    "sigaltstack": (131, 132),
    "access": (21, None),
    "faccessat": (269, 48),
    "faccessat2": (439, 439),
    "pipe": (22, None),
    "pipe2": (293, 59),
    "select": (23, None),
    "pselect6": (270, 72),
    "poll": (7, None),
    "ppoll": (271, 73),
    "epoll_create": (213, None),
    "epoll_create1": (291, 20),
    "epoll_ctl": (233, 21),
    "epoll_wait": (232, None),
    "epoll_pwait": (281, 22),
    "epoll_pwait2": (441, 441),
    "eventfd": (284, None),
    "eventfd2": (290, 19),
    "timerfd_create": (283, 85),
    "timerfd_settime": (286, 86),
    "timerfd_gettime": (287, 87),
    "sched_yield": (24, 124),
    "getcpu": (309, 168),
    "sched_get_priority_max": (146, 125),
    "sched_get_priority_min": (147, 126),
    "dup": (32, 23),
    "dup2": (33, None),
    "dup3": (292, 24),
    "nanosleep": (35, 101),
    "gettimeofday": (96, 169),
    "time": (201, None),
    "times": (100, 153),
    "getpid": (39, 172),
    "getppid": (110, 173),
    "gettid": (186, 178),
    "getuid": (102, 174),
    "geteuid": (107, 175),
    "getgid": (104, 176),
    "getegid": (108, 177),
    "getresuid": (118, 148),
    "getresgid": (120, 150),
    "getgroups": (115, 158),
    "getpgrp": (111, None),
    "uname": (63, 160),
    "ftruncate": (77, 46),
    "truncate": (76, 45),
    "getdents": (78, None),
    "getdents64": (217, 61),
    "getcwd": (79, 17),
    "chdir": (80, 49),
    "fchdir": (81, 50),
    "rename": (82, None),
    "renameat": (264, 38),
    "renameat2": (316, 276),
    "mkdir": (83, None),
    "mkdirat": (258, 34),
    "rmdir": (84, None),
    "unlink": (87, None),
    "unlinkat": (263, 35),
    "symlink": (88, None),
    "symlinkat": (266, 36),
    "link": (86, None),
    "linkat": (265, 37),
    "readlink": (89, None),
    "readlinkat": (267, 78),
    "chmod": (90, None),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "umask": (95, 166),
    "utime": (132, None),
    "utimes": (235, None),
    "utimensat": (280, 88),
    "futimesat": (261, None),
    "rseq": (334, 293),
    "exit": (60, 93),
    "exit_group": (231, 94),
    "getrandom": (318, 278),
    "getrlimit": (97, 163),
    "getrusage": (98, 165),
    "setitimer": (38, 103),
    "getitimer": (36, 102),
    "alarm": (37, None),
    "pause": (34, None),
    "openat": (257, 56),
    "open": (2, None),
    "creat": (85, None),
    "restart_syscall": (219, 128),
    "arch_prctl": (158, None),
    "recvfrom": (45, 207),
    "shutdown": (48, 210),
    "getsockname": (51, 204),
    "getpeername": (52, 205),
    "fsync": (74, 82),
    "fdatasync": (75, 83),
    "copy_file_range": (326, 285),
    "sendfile": (40, 71),
    "membarrier": (324, 283),
    "wait4": (61, 260),
    "waitid": (247, 95),
}
"""Allowed whatever the arguments: (x86_64, aarch64), None where the architecture lacks the call."""

CONDITIONAL: dict[str, tuple[int, int | None]] = {
    "clone": (56, 220),
    "clone3": (435, 435),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "getxattr": (191, 8),
    "lgetxattr": (192, 9),
    "fgetxattr": (193, 10),
    "listxattr": (194, 11),
    "llistxattr": (195, 12),
    "flistxattr": (196, 13),
    "openat2": (437, 437),
    "fork": (57, None),
    "vfork": (58, None),
    "kill": (62, 129),
    "tgkill": (234, 131),
    "prlimit64": (302, 261),
    "ioctl": (16, 29),
    "prctl": (157, 167),
    "socketpair": (53, 199),
    "fcntl": (72, 25),
    "flock": (73, 32),
    "preadv2": (327, 286),
    "pwritev2": (328, 287),
    "madvise": (28, 233),
    "getsockopt": (55, 209),
    "sendto": (44, 206),
    "clock_gettime": (228, 113),
    "clock_getres": (229, 114),
    "clock_nanosleep": (230, 115),
    "mmap": (9, 222),
    "futex": (202, 98),
    "getpgid": (121, 155),
    "getsid": (124, 156),
    "sched_getparam": (143, 121),
    "sched_getscheduler": (145, 120),
    "sched_getaffinity": (204, 123),
}
"""Allowed for some arguments only; see seccomp.py."""

ADMINISTRATIVE: dict[str, tuple[int, int | None]] = {
    "unshare": (272, 97),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "capset": (126, 91),
    "sethostname": (170, 161),
    "seccomp": (317, 277),
}
"""What the sandbox itself needs to set up; never allowed to a submission."""

LANDLOCK_CREATE_RULESET = 444
LANDLOCK_ADD_RULE = 445
LANDLOCK_RESTRICT_SELF = 446
"""The same on every architecture."""

MACHINES: dict[str, tuple[int, int]] = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
"""Machine name -> (column of the tables, AUDIT_ARCH_* value that seccomp reports)."""


def column() -> int | None:
    """This machine's column in the tables; None when the machine is neither x86_64 nor aarch64."""
    machine = MACHINES.get(platform.machine())
    return None if machine is None else machine[0]


def number(name: str) -> int:
    """Number of a call of CONDITIONAL or ADMINISTRATIVE here. Raises OSError on an unknown machine."""
    index = column()
    value = None if index is None else (CONDITIONAL | ADMINISTRATIVE)[name][index]
    if value is None:
        raise OSError(f"no system call number of {name!r} for {platform.machine()!r}; known: {', '.join(MACHINES)}")
    return value
