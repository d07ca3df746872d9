"""Attacks over sockets and shared kernel objects."""

from __future__ import annotations

from foreshock.jobs.verify.attacks.attack import ISOLATED, Attack, any_of, body

_G = "network"

ATTACKS = [
    Attack(
        _G,
        "TCP connection to a local port",
        body("""
        socket.create_connection(('127.0.0.1', world['tcp']), timeout=1).send(b'x')
        return 'escaped'"""),
    ),
    Attack(
        _G,
        "UDP datagram to a local port",
        body("""
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', world['udp']))
        return 'escaped'"""),
    ),
    Attack(
        _G,
        "TCP server of its own",
        body("""
        server = socket.socket()
        server.bind(('0.0.0.0', 0))
        server.listen()
        return 'escaped'"""),
    ),
    Attack(
        _G,
        "unix socket by path",
        body("""
        socket.socket(socket.AF_UNIX).connect(world['unix'])
        return 'escaped'"""),
    ),
    Attack(
        _G,
        "abstract unix socket",
        body("""
        socket.socket(socket.AF_UNIX).connect(chr(0) + world['abstract'])
        return 'escaped'"""),
    ),
    Attack(
        _G,
        "netlink socket",
        body("""
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0).bind((0, 0))
        return 'escaped'"""),
    ),
    Attack(
        _G,
        "raw and packet sockets",
        body(any_of(*(f"socket.socket(socket.{family}, socket.SOCK_RAW, 1)" for family in ("AF_INET", "AF_PACKET")))),
    ),
    Attack(
        _G,
        "socket without libc (raw system call)",
        body("""
        number = 41 if os.uname().machine == 'x86_64' else 198
        return 'escaped' if ctypes.CDLL(None).syscall(number, 2, 1, 0) >= 0 else 'stopped'"""),
    ),
    Attack(
        _G,
        "System V shared memory",
        body("""
        number = 29 if os.uname().machine == 'x86_64' else 194
        return 'escaped' if ctypes.CDLL(None).syscall(number, 4321, 4096, 0o1666) >= 0 else 'stopped'"""),
        run_on=ISOLATED,
    ),
    Attack(
        _G,
        "POSIX shared memory in /dev/shm",
        body("""
        path = '/dev/shm/' + world['token']
        open(path, 'w').write('x')
        os.unlink(path)
        return 'escaped'"""),
    ),
    Attack(
        _G,
        "POSIX message queue",
        body("""
        number = 240 if os.uname().machine == 'x86_64' else 180
        opened = ctypes.CDLL(None).syscall(number, b'/foreshock', 0o102, 0o600, None) >= 0
        return 'escaped' if opened else 'stopped'"""),
        run_on=ISOLATED,
    ),
    Attack(
        _G,
        "sockets of other families and kinds (socketpair, bind to a name)",
        body("""
        for family in range(1, 45):
            for kind in (2, 3, 4, 5):
                try:
                    left, right = socket.socketpair(family, kind)
                    return f'escaped: {family}, {kind}'
                except OSError:
                    pass
        left, right = socket.socketpair()
        left.bind(chr(0) + world['token'] + '-own')
        return 'escaped'"""),
    ),
]
