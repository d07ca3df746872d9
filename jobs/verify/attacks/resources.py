"""Attacks on memory, disk, descriptors, threads and time, and on whom their failure is blamed."""

from __future__ import annotations

from foreshock.jobs.verify.attacks.attack import EVERYWHERE, FULL_ONLY, Attack, any_of, body

_G = "resources"

ATTACKS = [
    Attack(
        _G,
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
        _G,
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
        _G,
        "shared anonymous memory past the limit",
        body("""
        import mmap
        return 'escaped' if mmap.mmap(-1, 3 << 30) else 'stopped'"""),
        claimed=EVERYWHERE,
    ),
    Attack(
        _G,
        "raise its own limits",
        body("""
        import resource
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        return 'escaped'"""),
        claimed=EVERYWHERE,
    ),
    Attack(
        _G,
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
        _G,
        "fill the disk with many files",
        body("""
        for index in range(12):
            with open(f'part{index}', 'wb') as handle:
                handle.write(bytes(8 << 20))
        return 'escaped'"""),
        claimed=FULL_ONLY,
    ),
    Attack(
        _G,
        "exhaust inodes",
        body("""
        for index in range(3000):
            open(f'node{index}', 'w').close()
        return 'escaped'"""),
        claimed=FULL_ONLY,
    ),
    Attack(
        _G,
        "exhaust descriptors",
        body("""
        held = [os.open('/dev/null', os.O_RDONLY) for _ in range(2000)]
        return 'escaped'"""),
        claimed=EVERYWHERE,
    ),
    Attack(
        _G,
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
        _G,
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
        _G,
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
        _G,
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
        _G,
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
    Attack(_G, "endless loop in Python", "def f(world):\n    while True:\n        pass\n", EVERYWHERE, wall_s=0.4),
    Attack(_G, "endless loop in C", "def f(world):\n    return sum(iter(int, 1))\n", EVERYWHERE, wall_s=0.4),
    Attack(
        _G,
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
        _G,
        "catastrophic regular expression",
        body("""
        import re
        return re.match('(a+)+$', 'a' * 40 + 'b')"""),
        EVERYWHERE,
        wall_s=0.4,
    ),
    Attack(
        _G,
        "sleep without end",
        body("""
        time.sleep(1e6)"""),
        EVERYWHERE,
        wall_s=0.4,
    ),
    Attack(
        _G,
        "stop itself (SIGSTOP)",
        body("""
        os.kill(os.getpid(), signal.SIGSTOP)
        return 'went on'"""),
        EVERYWHERE,
        wall_s=0.4,
    ),
    Attack(
        _G,
        "first thread ends, another sleeps on",
        body("""
        number = 60 if os.uname().machine == 'x86_64' else 93
        threading.Thread(target=time.sleep, args=(1e6,), daemon=True).start()
        ctypes.PyDLL(None).syscall(number, 0)"""),
        EVERYWHERE,
        wall_s=0.4,
    ),
    Attack(
        _G,
        "sleep where the kernel waits for a thread (CLONE_VFORK)",
        body("""
        libc, stack = ctypes.CDLL(None), ctypes.create_string_buffer(1 << 16)
        top = (ctypes.addressof(stack) + (1 << 16) - 256) & ~15
        thread = 0x100 | 0x200 | 0x400 | 0x800 | 0x4000 | 0x10000 | 0x40000
        libc.clone(ctypes.cast(libc.pause, ctypes.c_void_p), ctypes.c_void_p(top), thread, None)
        time.sleep(1e6)"""),
        EVERYWHERE,
        wall_s=0.4,
    ),
    Attack(
        _G,
        "kernel memory for mappings and pipes",
        body("""
        libc, held = ctypes.CDLL(None), []
        libc.mmap.restype = ctypes.c_void_p
        block = libc.mmap(None, 1 << 28, 3, 0x22, -1, ctypes.c_long(0))
        for page in range(0, 1 << 28, 8192):  # every second page, so that each is a mapping of its own
            if libc.mprotect(ctypes.c_void_p(block + page), 4096, 1) != 0:
                break
        try:
            while True:
                held.append(os.pipe())
                os.set_blocking(held[-1][1], False)
                os.write(held[-1][1], bytes(1 << 16))
        except OSError:
            return 'stopped'"""),
        EVERYWHERE,
    ),
    Attack(_G, "recursion bomb", "def f(world):\n    return f(world)\n", EVERYWHERE),
    Attack(
        _G,
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
        _G,
        "segmentation fault",
        body("""
        ctypes.string_at(0)"""),
        EVERYWHERE,
    ),
    Attack(
        _G,
        "abort",
        body("""
        os.abort()"""),
        EVERYWHERE,
    ),
    Attack(
        _G,
        "exit with status 0",
        body("""
        os._exit(0)"""),
        EVERYWHERE,
    ),
    Attack(
        _G,
        "endless output",
        body("""
        for _ in range(20000):
            print('x' * 1000)
        os.write(1, b'x' * 100000)
        os.write(2, b'x' * 100000)
        return 'printed'"""),
        EVERYWHERE,
    ),
    Attack(_G, "constant that the compiler unfolds", "def f(world):\n    return len('a' * (1 << 40))\n", EVERYWHERE),
    Attack(
        _G,
        "have the kernel kill it by a limit of its own (RLIMIT_CPU)",
        body("""
        import resource
        resource.setrlimit(resource.RLIMIT_CPU, (1, 1))
        return 'escaped'"""),
    ),
    Attack(
        _G,
        "every limit of its own lowered to nothing",
        body("""
        import resource
        for which in range(16):
            try:
                resource.setrlimit(which, (0, 0))
            except (OSError, ValueError):
                pass
        return [bytes(1 << 20) for _ in range(9)]"""),
        EVERYWHERE,
    ),
    Attack(
        _G,
        "spare itself from the out-of-memory killer",
        body(
            any_of(
                *(
                    f"os.write(os.open('/proc/self/{name}', os.O_WRONLY), b'{value}')"
                    for name, value in (("oom_score_adj", 0), ("oom_adj", -17))
                )
            )
        ),
    ),
    Attack(
        _G,
        "lock memory (mmap with MAP_LOCKED)",
        body("""
        import mmap
        mmap.mmap(-1, 1 << 24, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x2000)
        return 'escaped'"""),
        EVERYWHERE,
    ),
    Attack(
        _G,
        "relay of threads, each starting the next",
        body("""
        threading.stack_size(65536)
        def follow():
            try:
                threading.Thread(target=follow, daemon=True).start()
            except RuntimeError:
                follow()
        for _ in range(20):
            follow()
        time.sleep(1e6)"""),
        EVERYWHERE,
        wall_s=0.2,
    ),
    Attack(
        _G,
        "copy in the kernel without end (sendfile from /dev/zero)",
        body("""
        source, sink = os.open('/dev/zero', os.O_RDONLY), os.open('/dev/null', os.O_WRONLY)
        while True:
            os.sendfile(sink, source, 0, 1 << 30)"""),
        EVERYWHERE,
        wall_s=0.2,
    ),
    Attack(
        _G,
        "a fault that its handler returns to",
        body("""
        for number in (signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE):
            signal.signal(number, lambda *_: None)
        ctypes.string_at(0)"""),
        EVERYWHERE,
        wall_s=0.2,
    ),
]
