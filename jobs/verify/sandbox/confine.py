"""Confinement of the zygote and of each submission's process, tier by tier.

Whatever fails raises. A tier is never entered halfway and never exchanged for a weaker one; the caller reports an
infrastructure error.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from foreshock.jobs.verify.sandbox import kernel, landlock, root, seccomp
from foreshock.jobs.verify.sandbox.gate import thread_count
from foreshock.jobs.verify.sandbox.hidden import DEVICES, package_folders, readable, without
from foreshock.jobs.verify.sandbox.limits import Limits

CHANNEL = 3
"""Descriptor on which a submission's process talks to the judge."""

STOPWATCH = 4
"""Descriptor of the process's own schedstat file, where the zygote was asked for it."""

SIGNALLED = 128
"""Exit code, plus the signal's number, of a zygote whose inner process was killed."""

_STANDARD = 3
"""Descriptors of input, output and errors."""

_WORK = "work"
_OOM_ZYGOTE, _OOM_SUBMISSION = 900, 1000
_INSIDE_ID = 1000
_NAMESPACES = (
    kernel.CLONE_NEWUSER
    | kernel.CLONE_NEWPID
    | kernel.CLONE_NEWNS
    | kernel.CLONE_NEWNET
    | kernel.CLONE_NEWIPC
    | kernel.CLONE_NEWUTS
)

_FULL_RULES = (("/", landlock.READ), ("/dev/null", landlock.READ_WRITE), ("/dev/full", landlock.READ_WRITE))
"""The root of the full tier holds nothing but what may be read; its /tmp is added for each submission."""


class Confinement(ABC):
    """How one tier confines: `prepare` once in the zygote, `fork` and `enter` for each submission."""

    def __init__(self, limits: Limits, scratch: str, hidden: tuple[str, ...]) -> None:
        self.limits = limits
        self.scratch = scratch
        self.hidden = hidden
        self.stopwatch = False
        self._processes: int | None = 0
        self._proc = os.open("/proc", os.O_PATH | os.O_CLOEXEC)
        self.beat: Callable[[], object] = lambda: None

    @abstractmethod
    def prepare(self) -> None:
        """Confine the zygote itself, after it imported everything."""

    @abstractmethod
    def enter(self, channel: int) -> None:
        """Confine the calling process, a fresh fork; afterwards only 0-2 (null) and CHANNEL are open."""

    def fork(self) -> int:
        """As os.fork, into whatever namespaces the tier has."""
        return kernel.clone(0)

    def count_threads(self) -> int | None:
        """Let the judge count this zygote's submissions' threads: the listener for it, None where the kernel has none.

        RLIMIT_NPROC stands in then, which does not hold for root and counts the user's other processes.
        """
        try:
            kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
            listener = kernel.install_listener(self._counting_program())
        except (OSError, KeyError):
            return None
        self._processes = None
        return listener

    def _counting_program(self) -> bytes:
        return seccomp.counting_program(processes_too=False, cookie=0)

    @abstractmethod
    def clean(self, pid: int) -> None:
        """After the submission's process `pid` was reaped: leave nothing of it behind."""

    @abstractmethod
    def finish(self) -> None:
        """The zygote ends: take the scratch folder along, in case the judge no longer can."""

    def _limit(self) -> None:
        one = self.limits
        for which, value in (
            (resource.RLIMIT_CPU, one.cpu_s),
            (resource.RLIMIT_AS, one.memory_bytes),
            (resource.RLIMIT_FSIZE, one.file_bytes),
            (resource.RLIMIT_NOFILE, one.open_files),
            *([] if self._processes is None else [(resource.RLIMIT_NPROC, self._processes + one.threads)]),
            (resource.RLIMIT_CORE, 0),
            (resource.RLIMIT_MEMLOCK, 0),
            (resource.RLIMIT_MSGQUEUE, 0),
        ):
            _, hard = resource.getrlimit(which)
            limit = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(which, (limit, limit))

    def _introduce(self) -> None:
        """What later layers hide: the word to the out-of-memory killer, the stopwatch, null devices of its own.

        Flags of the zygote's own descriptors would stay for the next submission, and so would mode and times of the
        device, which the zygote opened before its root was read-only.
        """
        kernel.prefer_to_kill(self._proc, _OOM_SUBMISSION)
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in range(_STANDARD):
            os.dup2(null, descriptor)
        os.close(null)
        if self.stopwatch:
            self._schedstat = os.open("self/schedstat", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._proc)

    def _keep_only(self, channel: int) -> None:
        if channel != CHANNEL:
            os.dup2(channel, CHANNEL, inheritable=False)
        if self.stopwatch:
            os.dup2(self._schedstat, STOPWATCH, inheritable=False)
        kernel.close_from(STOPWATCH + self.stopwatch)


class RlimitsOnly(Confinement):
    """Limits, a scratch folder and no_new_privs: no isolation to speak of."""

    counts_processes = True
    _fresh: tuple[int, ...] | None = None

    def prepare(self) -> None:
        """Adopt orphans of submissions, so that `clean` finds them."""
        self._processes = _processes_of(os.getuid())
        # At once as its submissions will stand: one that cannot be dumped may not change that any more, but for root.
        kernel.prefer_to_kill(self._proc, _OOM_SUBMISSION)
        self._cookie = int.from_bytes(os.urandom(8))
        kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
        kernel.prctl(kernel.PR_SET_DUMPABLE, 0)

    def fork(self) -> int:
        """Into a working directory as new, with the word that lets it pass the filter."""
        if self._fresh is None:
            self._make_folder()
            self._fresh = _signature(self._work)
        return kernel.clone(0, self._cookie)

    def _make_folder(self) -> None:
        os.mkdir(self._work, 0o700)

    def _counting_program(self) -> bytes:
        return seccomp.counting_program(self.counts_processes, self._cookie)

    def enter(self, channel: int) -> None:
        """Own session, working directory, limits."""
        self._start()
        self._keep_only(channel)

    def _start(self) -> None:
        os.setsid()  # no terminal of the user's; a turn of its own where the kernel shares the CPU by sessions
        self._introduce()
        os.chdir(self._work)
        kernel.drop_capabilities()
        kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
        self._limit()
        kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)

    @property
    def _work(self) -> str:
        return os.path.join(self.scratch, _WORK)

    def clean(self, pid: int) -> None:
        """Kill what is left of its process group and orphans, and take its working directory away if it was used."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
        _kill_children()
        if os.path.islink(self.scratch) or not os.path.isdir(self.scratch):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.scratch)
            os.mkdir(self.scratch, 0o700)
        # One that was emptied keeps its size and attributes, which the next submission could read.
        if os.listdir(self.scratch) != [_WORK] or _signature(self._work) != self._fresh or os.listdir(self._work):
            root.empty_folder(self.scratch)
            self._fresh = None

    def finish(self) -> None:
        """Delete the scratch folder."""
        with contextlib.suppress(OSError):
            root.empty_folder(self.scratch)
            os.chdir("/")
            os.rmdir(self.scratch)


class NoUserns(RlimitsOnly):
    """Landlock and seccomp besides the limits: for nodes that forbid user namespaces."""

    counts_processes = False

    def prepare(self) -> None:
        """See what there is; the ruleset is built with each new working directory."""
        super().prepare()
        self._abi = landlock.abi()
        if self._abi < 1:
            raise OSError("Landlock is not available (kernel < 5.13, or not among the lsm= boot options)")
        if not seccomp.supported():
            raise OSError("no seccomp table for this machine")
        roots = readable()
        hidden = tuple(os.path.realpath(path) for path in (*self.hidden, *package_folders(roots)))
        self._filter = seccomp.program(refuse=seccomp.METADATA)
        self._libraries = without(roots, hidden)
        self._ruleset = -1

    def _make_folder(self) -> None:
        super()._make_folder()
        if self._ruleset >= 0:
            os.close(self._ruleset)
        self._ruleset = landlock.make_ruleset(self._abi)
        landlock.allow_paths(self._ruleset, self._abi, self._libraries, landlock.READ)
        landlock.allow_paths(self._ruleset, self._abi, (*DEVICES, self._work), landlock.READ_WRITE)

    def enter(self, channel: int) -> None:
        """Limits, then Landlock, then the system call filter."""
        self._start()
        landlock.restrict(self._ruleset)
        self._keep_only(channel)
        kernel.install_filter(seccomp.program_for(self._filter, os.getpid()))


class Full(Confinement):
    """Namespaces of its own for every submission, and every other layer that the kernel has."""

    def prepare(self) -> None:
        """Move the zygote into namespaces and a root of its own; returns in a child that is their process 1.

        The process that called stays behind and ends when that child does.
        """
        if not seccomp.supported():
            raise OSError("no seccomp table for this machine")
        self._processes = _processes_of(os.getuid())
        kernel.prefer_to_kill(self._proc, _OOM_ZYGOTE)
        uid, gid = os.geteuid(), os.getegid()
        kernel.unshare(_NAMESPACES)
        kernel.write_id_maps(self._proc, uid, gid, _INSIDE_ID)
        pid = os.fork()
        if pid:
            kernel.close_from(3)
            _, status = os.waitpid(pid, 0)
            code = os.waitstatus_to_exitcode(status)
            os._exit(code if code >= 0 else SIGNALLED - code)
        kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
        self.beat()
        roots = readable()
        root.build_and_enter(self.scratch, roots, (*self.hidden, *package_folders(roots)), DEVICES)
        self.beat()
        self._abi = landlock.abi()
        self._rules = []
        for path, rights in _FULL_RULES if self._abi else ():
            fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
            self._rules.append(landlock.rule(self._abi, fd, rights))
        self._filter = seccomp.program(own_pid=1)

    def fork(self) -> int:
        """Fork into new namespaces, whose process 1 the child is."""
        return kernel.clone(_NAMESPACES)

    def clean(self, pid: int) -> None:
        """Nothing: the namespaces ended with their process 1."""

    def finish(self) -> None:
        """Nothing: the scratch folder was only the place to mount the root on, and the judge deleted it at once."""

    def enter(self, channel: int) -> None:
        """Namespaces, private /tmp, no capabilities, limits, Landlock, filter: in the order each allows the next."""
        kernel.write_id_maps(self._proc, _INSIDE_ID, _INSIDE_ID, _INSIDE_ID)
        self._introduce()
        os.setpgid(0, 0)
        kernel.set_hostname("sandbox")
        size = f"size={self.limits.temporary_bytes},nr_inodes={self.limits.temporary_inodes},mode=0700"
        kernel.mount("tmpfs", "/tmp", "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC, size)
        os.chdir("/tmp")
        kernel.drop_capabilities()
        kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
        self._limit()
        kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
        if self._abi:
            ruleset = landlock.make_ruleset(self._abi)
            for one in self._rules:
                landlock.add(ruleset, one)
            landlock.allow_paths(ruleset, self._abi, ["/tmp"], landlock.READ_WRITE)
            landlock.restrict(ruleset)
        self._keep_only(channel)
        kernel.install_filter(self._filter)


CONFINEMENTS: dict[str, type[Confinement]] = {"full": Full, "no-userns": NoUserns, "rlimits-only": RlimitsOnly}


def confinement(tier: str, config: dict[str, Any]) -> Confinement:
    """The tier's confinement from the zygote's configuration."""
    confined = CONFINEMENTS[tier](Limits(**config["limits"]), config["scratch"], tuple(config["hidden"]))
    confined.stopwatch = config["stopwatch"]
    return confined


def _signature(folder: str) -> tuple[int, ...] | None:
    """What changes when a folder is written to, replaced or changed in its attributes; None when it is gone."""
    try:
        found = os.lstat(folder)
    except OSError:
        return None
    return (found.st_ino, found.st_mode, found.st_nlink, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _processes_of(uid: int) -> int:
    """Processes and threads that count against RLIMIT_NPROC of `uid` now."""
    count = 0
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                count += thread_count(int(name)) if os.stat(f"/proc/{name}").st_uid == uid else 0
            except OSError:
                continue  # ended meanwhile
    return count


def _kill_children() -> None:
    """Kill and reap every child of this process, adopted orphans included, until none is left."""
    while True:
        try:
            with open(f"/proc/self/task/{os.getpid()}/children") as handle:
                children = [int(pid) for pid in handle.read().split()]
        except OSError:
            children = []
        for pid in children:
            try:
                os.kill(pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                continue
        try:
            if os.waitpid(-1, 0 if children else os.WNOHANG)[0] == 0:
                return
        except ChildProcessError:
            return
