"""Attacks through processes, signals, privileges and resources."""

from __future__ import annotations

from foreshock.jobs.verify.attacks.attack import EVERYWHERE, FULL_ONLY, ISOLATED, Attack, body

_G = "processes"
_R = "resources"

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
    Attack(
        _R,
        "memory bomb",
        body("""
        blocks = []
        while True:
            blocks.append(bytearray(1 << 26))
            if len(blocks) > 40:
                return 'escaped'"""),
        claimed=EVERYWHERE,
        wall_s=2.0,
    ),
    Attack(
        _R,
        "memory bomb in a grandchild",
        body("""
        if os.fork() == 0:
            if os.fork() == 0:
                blocks = [bytearray(1 << 26) for _ in range(20)]
                open(os.path.join(world['folder'], 'late'), 'w').write('x')
            os._exit(0)
        time.sleep(0.3)
        return 'forked'"""),
        late=True,
    ),
    Attack(
        _R,
        "shared anonymous memory past the limit",
        body("""
        import mmap
        return 'escaped' if mmap.mmap(-1, 3 << 30) else 'stopped'"""),
        claimed=EVERYWHERE,
    ),
    Attack(
        _R,
        "raise its own limits",
        body("""
        import resource
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        return 'escaped'"""),
        claimed=EVERYWHERE,
    ),
    Attack(
        _R,
        "one huge file",
        body("""
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        with open('big', 'wb') as handle:
            for _ in range(64):
                handle.write(bytes(1 << 20))
        return 'escaped'"""),
        claimed=EVERYWHERE,
    ),
    Attack(
        _R,
        "fill the disk with many files",
        body("""
        for index in range(12):
            with open(f'part{index}', 'wb') as handle:
                handle.write(bytes(8 << 20))
        return 'escaped'"""),
        claimed=FULL_ONLY,
    ),
    Attack(
        _R,
        "exhaust inodes",
        body("""
        for index in range(3000):
            open(f'node{index}', 'w').close()
        return 'escaped'"""),
        claimed=FULL_ONLY,
    ),
    Attack(
        _R,
        "exhaust descriptors",
        body("""
        held = [os.open('/dev/null', os.O_RDONLY) for _ in range(2000)]
        return 'escaped'"""),
        claimed=EVERYWHERE,
    ),
    Attack(
        _R,
        "thread bomb",
        body("""
        def wait():
            time.sleep(30)
        try:
            for _ in range(5000):
                threading.Thread(target=wait, daemon=True).start()
        except RuntimeError:
            return 'stopped'
        return 'escaped'"""),
        claimed=EVERYWHERE,
    ),
    Attack(
        _R,
        "more threads than one submission may hold",
        body("""
        threading.stack_size(32768)
        go, held = threading.Event(), 0
        try:
            for held in range(300):
                threading.Thread(target=go.wait, daemon=True).start()
        except RuntimeError:
            go.set()
            return 'stopped' if held <= 64 else 'escaped'
        go.set()
        return 'escaped'"""),
        claimed=EVERYWHERE,
    ),
    Attack(
        _R,
        "more processes than one submission may hold",
        body("""
        made = []
        for _ in range(200):
            try:
                pid = os.fork()
            except OSError:
                break
            if pid == 0:
                time.sleep(60)
                os._exit(0)
            made.append(pid)
        return 'stopped' if len(made) <= 64 else 'escaped'"""),
        claimed=EVERYWHERE,
    ),
    Attack(
        _R,
        "memory in socket buffers",
        body("""
        held, total = [], 0
        for _ in range(28):
            pair = socket.socketpair()
            for one in pair:
                try:
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 30)
                except OSError:
                    pass
                one.setblocking(False)
                try:
                    while True:
                        total += one.send(bytes(1 << 16))
                except BlockingIOError:
                    pass
            held.append(pair)
        return 'escaped' if total > 64 << 20 else 'stopped'"""),
    ),
    Attack(
        _R,
        "burn every core in native threads",
        body("""
        import hashlib
        threading.stack_size(65536)
        def burn():
            hashlib.pbkdf2_hmac('sha256', b'a', b'b', 1 << 28)
        try:
            for _ in range(60):
                threading.Thread(target=burn, daemon=True).start()
        except RuntimeError:
            pass
        burn()"""),
        claimed=EVERYWHERE,
        wall_s=1.0,
    ),
    Attack(_R, "endless loop in Python", "def f(world):\n    while True:\n        pass\n", EVERYWHERE, wall_s=0.4),
    Attack(_R, "endless loop in C", "def f(world):\n    return sum(iter(int, 1))\n", EVERYWHERE, wall_s=0.4),
    Attack(
        _R,
        "loop that swallows every exception",
        body("""
        for number in range(1, 32):
            try:
                signal.signal(number, lambda *_: None)
            except (OSError, ValueError):
                pass
        while True:
            try:
                while True:
                    time.sleep(0.01)
            except BaseException:
                continue"""),
        EVERYWHERE,
        wall_s=0.4,
    ),
    Attack(
        _R,
        "catastrophic regular expression",
        body("""
        import re
        return re.match('(a+)+$', 'a' * 40 + 'b')"""),
        EVERYWHERE,
        wall_s=0.4,
    ),
    Attack(
        _R,
        "sleep without end",
        body("""
        time.sleep(1e6)"""),
        EVERYWHERE,
        wall_s=0.4,
    ),
    Attack(
        _R,
        "stop itself (SIGSTOP)",
        body("""
        os.kill(os.getpid(), signal.SIGSTOP)
        return 'went on'"""),
        EVERYWHERE,
        wall_s=0.4,
    ),
    Attack(_R, "recursion bomb", "def f(world):\n    return f(world)\n", EVERYWHERE),
    Attack(
        _R,
        "recursion past the C stack",
        body("""
        sys.setrecursionlimit(10**9)
        def deep(n):
            return deep(n + 1)
        return deep(0)"""),
        EVERYWHERE,
        wall_s=1.0,
    ),
    Attack(
        _R,
        "segmentation fault",
        body("""
        ctypes.string_at(0)"""),
        EVERYWHERE,
    ),
    Attack(
        _R,
        "abort",
        body("""
        os.abort()"""),
        EVERYWHERE,
    ),
    Attack(
        _R,
        "exit with status 0",
        body("""
        os._exit(0)"""),
        EVERYWHERE,
    ),
    Attack(
        _R,
        "endless output",
        body("""
        for _ in range(20000):
            print('x' * 1000)
        os.write(1, b'x' * 100000)
        os.write(2, b'x' * 100000)
        return 'printed'"""),
        EVERYWHERE,
    ),
    Attack(_R, "constant that the compiler unfolds", "def f(world):\n    return len('a' * (1 << 40))\n", EVERYWHERE),
]
