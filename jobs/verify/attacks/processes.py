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


ATTACKS = [
    *map(_system_call, _SYSTEM_CALLS),
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
