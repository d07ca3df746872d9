"""Attacks through processes, signals and privileges."""

from __future__ import annotations

from foreshock.jobs.verify.attacks.attack import EVERYWHERE, ISOLATED, Attack, body

_G = "processes"

_SYSTEM_CALLS = {  # x86_64, aarch64, arguments
    "ptrace": (101, 117, "16, world['victim'], 0, 0"),
    "process_vm_readv": (310, 270, "world['victim'], 0, 0, 0, 0, 0"),
    "pidfd_open": (434, 434, "world['victim'], 0"),
    "unshare": (272, 97, "0x10000000"),
    "setns": (308, 268, "0, 0"),
    "mount": (165, 40, "b'none', b'/tmp', b'tmpfs', 0, 0"),
    "open_tree": (428, 428, "-100, b'/', 1"),
    "fsopen": (430, 430, "b'tmpfs', 0"),
    "bpf": (321, 280, "5, 0, 0"),
    "io_uring_setup": (425, 425, "1, ctypes.create_string_buffer(256)"),
    "userfaultfd": (323, 282, "1"),
    "perf_event_open": (298, 241, "ctypes.create_string_buffer(128), 0, -1, -1, 0"),
    "add_key": (248, 217, "b'user', b'foreshock', b'x', 1, -3"),
    "keyctl": (250, 219, "0, -3, 1"),
    "memfd_create": (319, 279, "b'x', 0"),
    "personality": (135, 92, "0x0040000"),
    "clone3": (435, 435, "ctypes.create_string_buffer(88), 88"),
    "sched_setscheduler": (144, 119, "0, 1, ctypes.byref(ctypes.c_int(1))"),
    "sethostname": (170, 161, "b'x', 1"),
    "finit_module": (313, 273, "0, b'', 0"),
    "landlock or seccomp of its own": (317, 277, "1, 0, 0"),
}


def _system_call(name: str) -> Attack:
    x86, arm, arguments = _SYSTEM_CALLS[name]
    code = body(f"""
        libc = ctypes.CDLL(None, use_errno=True)
        number = {x86} if os.uname().machine == 'x86_64' else {arm}
        if libc.syscall(number, {arguments}) >= 0:
            return 'escaped'
        return 'stopped' if ctypes.get_errno() in (1, 38) else 'escaped: reached the kernel'""")
    return Attack("system calls", name, code, run_on=ISOLATED)


_ON_OTHERS = {
    "pidfd_send_signal": (424, 424, "-1, 0, 0, 0"),
    "pidfd_getfd": (438, 438, "-1, 0, 0"),
    "process_madvise": (440, 440, "-1, 0, 0, 21, 0"),
    "process_mrelease": (448, 448, "-1, 0"),
    "process_vm_writev": (311, 271, "world['victim'], 0, 0, 0, 0, 0"),
    "kcmp": (312, 272, "world['victim'], world['judge'], 1, 0, 0"),
    "move_pages": (279, 239, "world['victim'], 0, 0, 0, 0, 0"),
    "migrate_pages": (256, 238, "world['victim'], 0, 0, 0"),
    "get_robust_list": (274, 100, "world['victim'], 0, 0"),
    "rt_sigqueueinfo": (129, 138, "world['victim'], 0, bytes(128)"),
    "rt_tgsigqueueinfo": (297, 240, "world['victim'], world['victim'], 0, bytes(128)"),
    "tkill": (200, 130, "world['victim'], 0"),
    "setpgid": (109, 154, "0, 0"),
    "sched_setattr": (314, 274, "0, bytes(48), 0"),
}
_ON_THE_MACHINE = {
    "clock_settime": (227, 112, "0, bytes(16)"),
    "clock_adjtime": (305, 266, "0, bytes(256)"),
    "adjtimex": (159, 171, "bytes(256)"),
    "settimeofday": (164, 170, "0, 0"),
    "syslog": (103, 116, "10, 0, 0"),
    "acct": (163, 89, "b'/none'"),
    "swapoff": (168, 225, "b'/none'"),
    "reboot": (169, 142, "0, 0, 0, 0"),
    "kexec_load": (246, 104, "0, 0, 0, -1"),
    "delete_module": (176, 106, "b'none', 0"),
    "quotactl": (179, 60, "0, 0, 0, 0"),
    "setdomainname": (171, 162, "b'x', 1"),
    "open_by_handle_at": (304, 265, "-1, 0, 0"),
    "name_to_handle_at": (303, 264, "-100, b'/', bytes(64), bytes(8), 0"),
    "vhangup": (153, 58, ""),
    "sync": (162, 81, ""),
    "set_mempolicy": (238, 237, "0, 0, 0"),
}
_ON_PAGES = {
    "readahead": (187, 213, "0, 0, 0"),
    "sync_file_range": (277, 84, "0, 0, 0, 0"),
    "remap_file_pages": (216, 234, "0, 0, 0, 0, 0"),
    "fallocate": (285, 47, "0, 0, 0, 0"),
    "splice": (275, 76, "0, 0, 0, 0, 0, 0"),
    "tee": (276, 77, "0, 0, 0, 0"),
    "vmsplice": (278, 75, "0, 0, 0, 0"),
    "mlock": (149, 228, "0, 0"),
    "mlockall": (151, 230, "4"),
    "memfd_secret": (447, 447, "0"),
    "msgget": (68, 186, "4321, 0o1666"),
    "semget": (64, 190, "4321, 1, 0o1666"),
    "sendmsg": (46, 211, "3, 0, 0"),
    "recvmsg": (47, 212, "3, 0, 0"),
    "sendmmsg": (307, 269, "3, 0, 0, 0"),
}
_PASSED_ON = (436, 439, 441)
"""New calls that the filter allows: close_range, faccessat2, epoll_pwait2."""


def _refused(name: str, calls: dict[str, tuple[int, int, str]]) -> Attack:
    """An attack that succeeds where one of several system calls reaches the kernel."""
    attempts = "".join(
        f"""
        libc.syscall({x86} if x86_64 else {arm}{arguments and ", " + arguments})
        reached += [{call!r}] * (ctypes.get_errno() not in (1, 38))
        ctypes.set_errno(0)"""
        for call, (x86, arm, arguments) in calls.items()
    )
    code = f"""
        libc, x86_64, reached = ctypes.CDLL(None, use_errno=True), os.uname().machine == 'x86_64', []{attempts}
        return f'escaped: {{reached}}' if reached else 'stopped'"""
    return Attack("system calls", name, body(code), run_on=ISOLATED)


ATTACKS = [
    *map(_system_call, _SYSTEM_CALLS),
    _refused("calls that name another process", _ON_OTHERS),
    _refused("calls that change the machine (clocks, modules, quotas, accounting)", _ON_THE_MACHINE),
    _refused("calls that move or pin pages, queues and messages", _ON_PAGES),
    Attack(
        "system calls",
        "every number behind the newest that the filter knows",
        body(f"""
        libc, reached = ctypes.CDLL(None, use_errno=True), []
        for number in range(424, 640):
            ctypes.set_errno(0)
            if number not in {_PASSED_ON}:
                libc.syscall(number, -1, -1, -1, -1, -1, -1)
                reached += [number] * (ctypes.get_errno() not in (1, 38))
        return f'escaped: {{reached}}' if reached else 'stopped'"""),
        run_on=ISOLATED,
    ),
    Attack(
        "system calls",
        "settings of a process that outlive or shield it (prctl)",
        body("""
        libc, reached = ctypes.CDLL(None, use_errno=True), []
        # death signal, dumpable, timer slack, machine checks, memory map, subreaper, huge pages, core scheduling,
        # merging, tracers, securebits, ambient capabilities
        for option in (1, 4, 29, 33, 35, 36, 41, 62, 67, 0x59616d61, 28, 47):
            ctypes.set_errno(0)
            if libc.prctl(option, 0, 0, 0, 0) == 0 or ctypes.get_errno() != 1:
                reached.append(option)
        return f'escaped: {reached}' if reached else 'stopped'"""),
    ),
    Attack(
        _G,
        "kill the process that forked it",
        body("""
        os.kill(os.getppid(), signal.SIGKILL)
        return 'escaped'"""),
        run_on=ISOLATED,
    ),
    Attack(
        _G,
        "priority, cores and limits of another process",
        body("""
        import resource
        for attempt in (
            lambda: os.setpriority(os.PRIO_PROCESS, world['victim'], 5),
            lambda: os.sched_setaffinity(world['victim'], {0}),
            lambda: resource.prlimit(world['victim'], resource.RLIMIT_CORE, (0, 0)),
        ):
            try:
                attempt()
                return 'escaped'
            except OSError:
                pass
        return 'stopped'"""),
    ),
    Attack(
        _G,
        "signal another process",
        body("""
        os.kill(world['victim'], signal.SIGUSR1)
        return 'escaped'"""),
    ),
    Attack(
        _G,
        "kill every process of the user",
        body("""
        os.kill(-1, signal.SIGUSR1)
        return 'escaped'"""),
        run_on=ISOLATED,
    ),
    Attack(
        _G,
        "signal through a file's owner (F_SETOWN)",
        body("""
        import fcntl
        left, right = socket.socketpair()
        fcntl.fcntl(left, fcntl.F_SETOWN, world['victim'])
        fcntl.fcntl(left, fcntl.F_SETSIG, signal.SIGUSR1)
        fcntl.fcntl(left, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
        right.send(b'x')
        return 'escaped'"""),
    ),
    Attack(
        _G,
        "fork",
        body("""
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        return 'escaped'"""),
    ),
    Attack(
        _G,
        "fork bomb",
        body("""
        while True:
            os.fork()"""),
        run_on=ISOLATED,
        wall_s=1.0,
    ),
    Attack(
        _G,
        "run a program",
        body("""
        import subprocess
        subprocess.run(['/bin/true'], check=False)
        return 'escaped'"""),
    ),
    Attack(
        _G,
        "replace itself by a program",
        body("""
        os.execv(sys.executable or '/bin/true', ['true'])"""),
    ),
    Attack(
        _G,
        "daemon that writes after the verdict (setsid, two forks)",
        body("""
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                time.sleep(0.15)
                open(os.path.join(world['folder'], 'late'), 'w').write('x')
            os._exit(0)
        return 'forked'"""),
        late=True,
    ),
    Attack(
        _G,
        "thread that writes after the verdict",
        body("""
        def later():
            time.sleep(0.15)
            open(os.path.join(world['folder'], 'late'), 'w').write('x')
        threading.Thread(target=later, daemon=False).start()
        return 'started'"""),
        late=True,
        claimed=EVERYWHERE,
    ),
    Attack(
        _G,
        "atexit hook that writes after the verdict",
        body("""
        import atexit
        atexit.register(lambda: open(os.path.join(world['folder'], 'late'), 'w').write('x'))
        return 'registered'"""),
        late=True,
        claimed=EVERYWHERE,
    ),
    Attack(
        _G,
        "system calls by another ABI (x32, the 32-bit gate)",
        body("""
        libc = ctypes.CDLL(None, use_errno=True)
        if os.uname().machine != 'x86_64':
            return 'no such ABI here'
        if libc.syscall(0x40000000 | 39) > 0 or libc.syscall(0x40000000 | 57) > 0:
            return 'escaped: x32'
        libc.mmap.restype = ctypes.c_void_p
        code = bytes.fromhex('b814000000' 'cd80' 'c3')  # getpid's number there: mov eax, 20; int 0x80; ret
        page = libc.mmap(None, 4096, 7, 0x22, -1, ctypes.c_long(0))
        ctypes.memmove(page, code, len(code))
        return 'escaped: 32 bit' if ctypes.CFUNCTYPE(ctypes.c_int)(page)() > 0 else 'stopped'"""),
        run_on=ISOLATED,
    ),
    Attack(
        _G,
        "gain privileges (setuid, chroot, capabilities)",
        body("""
        for attempt in (lambda: os.setuid(0), lambda: os.chroot('/'), lambda: os.setgroups([0])):
            try:
                attempt()
                if os.getuid() != 0 or attempt.__code__.co_names != ('os', 'setuid'):
                    return 'escaped'
            except OSError:
                pass
        return 'stopped'"""),
        run_on=ISOLATED,
    ),
]
