"""Attacks on the verifications that come after: what one submission leaves for the next.

The expected result is a number that only the judge knows, so a pass of the secure verifier is a forgery.
"""

from __future__ import annotations

from foreshock.jobs.verify.attacks.attack import EVERYWHERE, ISOLATED, Attack, body

_G = "next verification"

_PLANT = """
        if world['phase'] == 0:
            for folder in {folders}:
                for name in ('json.py', 'struct.py', 'random.py', 'psutil.py', 'sitecustomize.py', world['token']):
                    try:
                        os.makedirs(folder, exist_ok=True)
                        open(os.path.join(folder, name), 'w').write('import os; os._exit(0)')
                    except OSError:
                        pass
            return 'planted'
        for folder in {folders}:
            if os.path.exists(os.path.join(folder, world['token'])):
                return 'escaped'
        return 'clean'"""

ATTACKS = [
    Attack(
        _G,
        "modules planted in the working directory",
        body(_PLANT.format(folders="('.', './djinn')")),
        EVERYWHERE,
        phases=2,
    ),
    Attack(
        _G,
        "modules and a marker planted in /tmp",
        body(_PLANT.format(folders="('/tmp', '/var/tmp', '/dev/shm')")),
        phases=2,
    ),
    Attack(
        _G,
        "marker in the interpreter",
        body("""
        if world['phase'] == 0:
            import builtins, random
            builtins.len = random.foreshock = lambda *a: 1
            os.environ['FORESHOCK_MARK'] = '1'
            return 'planted'
        import random
        return 'escaped' if hasattr(random, 'foreshock') or 'FORESHOCK_MARK' in os.environ else 'clean'"""),
        EVERYWHERE,
        phases=2,
    ),
    Attack(
        _G,
        "folder that cannot be deleted",
        body("""
        path = 'deep'
        for _ in range(40):
            os.mkdir(path)
            open(path + '/file', 'w').close()
            path += '/d'
        os.chmod('deep', 0)
        return 'made'"""),
        EVERYWHERE,
    ),
    *[
        Attack(
            _G,
            f"chain of {depth} folders",
            body(f"""
        for _ in range({depth}):
            os.mkdir('d' * 10)
            os.chdir('d' * 10)
        return 'made'"""),
            EVERYWHERE,
        )
        for depth in (450, 3000)
    ],
    Attack(
        _G,
        "working directory taken away, a link in its place",
        body("""
        here = os.getcwd()
        os.rmdir(here)
        os.symlink(world['folder'], here)
        return 'replaced'"""),
        EVERYWHERE,
    ),
    Attack(
        _G,
        "size and attributes of the emptied working directory",
        body("""
        if world['phase'] == 0:
            try:
                os.setxattr('.', 'user.foreshock', b'x')
            except OSError:
                pass
            try:
                for number in range(3000):
                    open(f'{number:0200}', 'w').close()
            except OSError:
                pass
            return 'left'
        try:
            marked = 'user.foreshock' in os.listxattr('.')
        except OSError:
            marked = False
        return 'escaped' if marked or os.stat('.').st_size > 1 << 16 else 'clean'"""),
        EVERYWHERE,
        phases=2,
    ),
    Attack(
        _G,
        "many folders in many folders",
        body("""
        for outer in range(1, 6):
            for inner in range(1, 6):
                os.makedirs(f'{outer}/{inner}/{outer}')
        open('6', 'w').close()
        return 'made'"""),
        EVERYWHERE,
    ),
    Attack(
        _G,
        "fifo and links left behind",
        body("""
        os.mkfifo('fifo')
        os.symlink('/', 'root')
        os.symlink('loop', 'loop')
        return 'made'"""),
        EVERYWHERE,
    ),
    Attack(
        _G,
        "working directory moved away",
        body("""
        os.chdir('/')
        os.rename('/tmp', '/gone')
        return 'escaped'"""),
        run_on=ISOLATED,
    ),
    Attack(
        _G,
        "names that no text can hold, odd modes, links in the place of folders",
        body("""
        os.mkdir(b'\\xff' * 200)
        os.mkdir('\\n')
        os.symlink(world['folder'], b'\\xff' * 200 + b'/folder')
        for mode in (0o1000, 0o7777, 0):
            os.mkdir(f'{mode}')
            os.symlink('/', f'{mode}/root')
            try:
                os.chmod(f'{mode}', mode)
            except OSError:
                pass
        return 'made'"""),
        EVERYWHERE,
    ),
    Attack(
        _G,
        "file that only an administrator may delete (immutable)",
        body("""
        import fcntl
        handle = open('kept', 'w')
        fcntl.ioctl(handle, 0x40086602, struct.pack('L', 0x10 | 0x20))
        return 'escaped'"""),
        EVERYWHERE,
    ),
    Attack(
        _G,
        "folders and links exchanged while the verdict falls",
        body("""
        def swap():
            while True:
                try:
                    os.mkdir('a')
                    os.rmdir('a')
                    os.symlink(world['folder'], 'a')
                    os.unlink('a')
                except OSError:
                    pass
        for _ in range(8):
            threading.Thread(target=swap, daemon=True).start()
        time.sleep(0.05)
        return 'swapping'"""),
        EVERYWHERE,
    ),
]
