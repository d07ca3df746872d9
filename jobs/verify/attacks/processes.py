"""Attacks through processes, signals and privileges."""

from __future__ import annotations

from foreshock.jobs.verify.attacks.attack import EVERYWHERE, ISOLATED, Attack, any_of, body

_G = "processes"

ATTACKS = [
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
        body(
            any_of(
                "os.setpriority(os.PRIO_PROCESS, world['victim'], 5)",
                "os.sched_setaffinity(world['victim'], {0})",
                "resource.prlimit(world['victim'], resource.RLIMIT_CORE, (0, 0))",
                before="import resource",
            )
        ),
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
