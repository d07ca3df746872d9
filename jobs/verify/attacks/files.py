"""Attacks on files: the user's, the system's, other processes' memory through /proc."""

from __future__ import annotations

from foreshock.jobs.verify.attacks.attack import EVERYWHERE, FULL_ONLY, ISOLATED, Attack, any_of, body

_G = "files"
_PROCESSES = ('"self"', "1", 'world["judge"]', 'world["victim"]')


def _open_device(*names: str) -> str:
    return any_of(*(f"os.open('/dev/{name}', os.O_RDONLY | os.O_NOCTTY)" for name in names))


ATTACKS = [
    Attack(
        _G,
        "read a file of the user",
        body("""
        return 'escaped' if open(world['secret']).read() else 'empty'"""),
    ),
    Attack(
        _G,
        "list a folder of the user",
        body("""
        return 'escaped' if os.listdir(world['folder']) else 'empty'"""),
    ),
    Attack(
        _G,
        "learn that a file exists (stat)",
        body("""
        os.stat(world['secret'])
        return 'escaped'"""),
        claimed=FULL_ONLY,
    ),
    Attack(
        _G,
        "find the file by walking from /",
        body("""
        for folder, _, names in os.walk('/'):
            if folder.startswith(('/proc', '/sys')):
                continue
            if world['token'] in names:
                open(os.path.join(folder, world['token'])).read()
                return 'escaped'
        return 'not found'"""),
        run_on=ISOLATED,
        wall_s=20,
    ),
    Attack(
        _G,
        "climb out of the working directory",
        body("""
        path = '../' * 40 + world['secret'].lstrip('/')
        return 'escaped' if open(path).read() else 'empty'"""),
    ),
    Attack(
        _G,
        "write a file of the user",
        body("""
        open(world['secret'], 'w').write('x')
        return 'escaped'"""),
    ),
    Attack(
        _G,
        "append to a file of the user",
        body("""
        os.write(os.open(world['secret'], os.O_WRONLY | os.O_APPEND), b'x')
        return 'escaped'"""),
    ),
    Attack(
        _G,
        "truncate through a read-only open",
        body("""
        os.open(world['secret'], os.O_RDONLY | os.O_TRUNC)
        return 'escaped'"""),
    ),
    Attack(
        _G,
        "truncate by path",
        body("""
        os.truncate(world['secret'], 0)
        return 'escaped'"""),
    ),
    Attack(
        _G,
        "create a file beside the user's",
        body("""
        open(os.path.join(world['folder'], 'new'), 'w').write('x')
        return 'escaped'"""),
    ),
    Attack(
        _G,
        "delete a file of the user",
        body("""
        os.unlink(world['secret'])
        return 'escaped'"""),
    ),
    Attack(
        _G,
        "rename a file of the user",
        body("""
        os.rename(world['secret'], world['secret'] + '.moved')
        return 'escaped'"""),
    ),
    Attack(
        _G,
        "change the mode of a file of the user",
        body("""
        os.chmod(world['secret'], 0o777)
        return 'escaped'"""),
    ),
    Attack(
        _G,
        "change the times of a file of the user",
        body("""
        os.utime(world['secret'], (1, 1))
        return 'escaped'"""),
    ),
    Attack(
        _G,
        "change an extended attribute of a file of the user",
        body("""
        os.setxattr(world['secret'], 'user.x', b'x')
        return 'escaped'"""),
    ),
    Attack(
        _G,
        "make a folder beside the user's",
        body("""
        os.mkdir(os.path.join(world['folder'], 'new'))
        return 'escaped'"""),
    ),
    Attack(
        _G,
        "read through a symbolic link",
        body("""
        os.symlink(world['secret'], 'link')
        return 'escaped' if open('link').read() else 'empty'"""),
    ),
    Attack(
        _G,
        "read through a hard link",
        body("""
        os.link(world['secret'], 'hard')
        return 'escaped' if open('hard').read() else 'empty'"""),
    ),
    Attack(
        _G,
        "read the judge's environment",
        body("""
        return 'escaped' if b'=' in open(f"/proc/{world['judge']}/environ", 'rb').read() else 'empty'"""),
    ),
    Attack(
        _G,
        "read the environment of process 1",
        body("""
        return 'escaped' if b'=' in open('/proc/1/environ', 'rb').read() else 'empty'"""),
    ),
    Attack(
        _G,
        "map another process's memory",
        body("""
        line = open(f"/proc/{world['victim']}/maps").readline()
        memory = open(f"/proc/{world['victim']}/mem", 'rb')
        memory.seek(int(line.split('-')[0], 16))
        memory.read(16)
        return 'escaped'"""),
    ),
    Attack(
        _G,
        "reach the host's root through /proc",
        body(any_of(*(f"open(f'/proc/{{{pid}}}/root' + world['secret']).read()" for pid in _PROCESSES))),
    ),
    Attack(
        _G,
        "list other processes",
        body("""
        others = [name for name in os.listdir('/proc') if name.isdigit() and int(name) != os.getpid()]
        return 'escaped' if others else 'alone'"""),
    ),
    Attack(
        _G,
        "find a secret in the environment",
        body("""
        import ctypes
        names = dict(os.environ)
        raw = ctypes.CDLL(None).getenv
        raw.restype = ctypes.c_char_p
        if raw(b'FORESHOCK_ATTACK_CANARY') or 'FORESHOCK_ATTACK_CANARY' in names:
            return 'escaped'
        return 'clean'"""),
        claimed=EVERYWHERE,
    ),
    Attack(
        _G,
        "import foreshock's problems for their answers",
        body("""
        import foreshock.jobs.verify.builtin.problems as problems
        return 'escaped' if problems.builtin_problems('train') else 'empty'"""),
    ),
    Attack(
        _G,
        "find foreshock's sources through its modules",
        body("""
        for module in list(sys.modules.values()):
            path = getattr(module, '__file__', None) or ''
            if 'jobs/verify' in path:
                open(path).read()
                return 'escaped'
        return 'no module'"""),
    ),
    Attack(
        _G,
        "open a block device or kernel memory",
        body(_open_device("mem", "kmsg", "vda", "sda", "nvme0n1", "nvidiactl", "fuse")),
    ),
    Attack(
        _G,
        "make a device node",
        body("""
        os.mknod('node', 0o600 | 0o020000, os.makedev(1, 1))
        return 'escaped'"""),
        claimed=EVERYWHERE,
    ),
    Attack(
        _G,
        "write to the standard library",
        body("""
        path = os.path.join(os.path.dirname(json.__file__), 'planted.py')
        open(path, 'w').write('x = 1')
        os.unlink(path)
        return 'escaped'"""),
        run_on=ISOLATED,
    ),
    Attack(
        _G,
        "write a kernel setting",
        body("""
        handle = open('/proc/sys/kernel/hostname', 'w')
        return 'escaped'"""),
        run_on=ISOLATED,
    ),
    Attack(
        _G,
        "terminals and devices that make others (ptmx, tun, fuse, userfaultfd, loop)",
        body(_open_device("ptmx", "tty", "net/tun", "kvm", "userfaultfd", "loop-control", "cuse", "uinput", "shm")),
    ),
]
