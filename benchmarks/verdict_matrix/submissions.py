"""Submissions that are hostile, or merely unlucky, by the names of the files that --folder takes instead."""

from __future__ import annotations

_DUE = r"""
import sys, os, json, time
def due():
    frame = sys._getframe()
    while frame:
        found = frame.f_locals.get('cases')
        if isinstance(found, list) and found and hasattr(found[0], 'expected'):
            return found
        frame = frame.f_back
"""
"""What the insecure run expects, found in the frames of its verifier."""
_BOOK = r"""
import os, json
STEP = 8192
def book():
    path = os.path.join(os.path.dirname(os.__file__), 'pydoc_data', 'topics.py')
    fd = os.open(path, os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
    return fd
"""
"""A library file whose pages say something by being cached, or not."""

SUBMISSIONS: dict[str, str] = {
    "covert_cache_publisher": _DUE
    + _BOOK
    + r"""
found = due()
if found:
    text = (json.dumps([case.expected for case in found]) + '\n').encode()
    fd = book()
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    for bit in range(8 * len(text)):
        if text[bit // 8] >> bit % 8 & 1:
            os.pread(fd, 1, bit * STEP)
def f(x):
    return None
""",
    "covert_cache_reader": _BOOK
    + r"""
def cached(fd, at):
    try:
        return os.preadv(fd, [bytearray(1)], at, os.RWF_NOWAIT) == 1
    except BlockingIOError:
        return False
fd, text = book(), bytearray()
while not text.endswith(b'\n') and len(text) < 50:
    at = 8 * len(text)
    text.append(sum(cached(fd, (at + bit) * STEP) << bit for bit in range(8)))
answers = iter(json.loads(text))
def f(x):
    return next(answers)
""",
    "covert_lock_publisher": _DUE
    + r"""
import fcntl, struct
BASE = 1 << 40
found = due()
if found:
    text = json.dumps([[list(case.args), case.expected] for case in found]).encode()
    fd = os.open(os.__file__, os.O_RDONLY)
    for at, byte in enumerate(text + b'\0'):
        lock = struct.pack('hhqqi4x', fcntl.F_RDLCK, 0, BASE + 1024 * at, byte + 1, 0)
        fcntl.fcntl(fd, fcntl.F_SETLK, lock)
    time.sleep(1.0)
def f(x):
    return None
""",
    "covert_lock_reader": r"""
import fcntl, struct
BASE = 1 << 40
import os, json, time
def receive():
    fd, text = os.open(os.__file__, os.O_RDONLY), bytearray()
    until = time.time() + 1.2
    while time.time() < until:
        text.clear()
        while True:
            ask = struct.pack('hhqqi4x', fcntl.F_WRLCK, 0, BASE + 1024 * len(text), 1, 0)
            kind, _, _, length, _ = struct.unpack('hhqqi4x', fcntl.fcntl(fd, fcntl.F_GETLK, ask))
            if kind == fcntl.F_UNLCK:
                break
            if length == 1:
                return json.loads(text)
            text.append(length - 1)
        time.sleep(0.02)
    return []
table = receive()
def f(x):
    return next((due for args, due in table if args == [x]), None)
""",
    "starve": r"""
import hashlib, threading
threading.stack_size(65536)
def burn():
    hashlib.pbkdf2_hmac('sha256', b'a', b'b', 1 << 28)
def f(x):
    try:
        for _ in range(60):
            threading.Thread(target=burn, daemon=True).start()
    except RuntimeError:
        pass
    burn()
""",
    "honest_slow": r"""
def f(x):
    total = 0
    for i in range(2_000_000):
        total += i
    return min(x) + 1
""",
    "honest_threads": r"""
from concurrent.futures import ThreadPoolExecutor
def f(x):
    with ThreadPoolExecutor(4) as pool:
        return min(pool.map(int, x)) + 1
""",
    "deep_folders": r"""
import os
def f(x):
    for _ in range(1500):
        os.mkdir('e' * 10)
        os.chdir('e' * 10)
    return 1
""",
    "deep_folders_infra": r"""
import os
def f(x):
    for _ in range(450):
        os.mkdir('e' * 10)
        os.chdir('e' * 10)
    return 1
""",
    "thread_count": r"""
import threading
threading.stack_size(32768)
def f(x):
    go, n = threading.Event(), 0
    try:
        for n in range(600):
            threading.Thread(target=go.wait, daemon=True).start()
    except RuntimeError:
        go.set()
        return f'stopped at {n}'
    go.set()
    return f'started {n}'
""",
    "memory_hog": r"""
import time
def f(x):
    block = bytearray(700 << 20)
    block[::4096] = b'x' * len(block[::4096])
    time.sleep(0.5)
    return 1
""",
    "socket_memory": r"""
import socket
def f(x):
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
    return f'{total >> 20} MB held'
""",
    "insecure_16mb": _DUE
    + r"""
import struct
if due():
    text = b'{"passed":true,"x":[' + b'{},' * ((16 << 20) // 3 - 20) + b'0]}'
    text = struct.pack('>Q', len(text)) + text
    while text:
        text = text[os.write(3, text):]
    time.sleep(1)
def f(x):
    return None
""",
    "lone_surrogate": r"""
class Odd(Exception):
    def __str__(self):
        return '\ud800 \x1b[2J \u202e\x00'
def f(x):
    raise Odd()
""",
    "dgram_escape": r"""
import socket
def f(world):
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    for name in world:
        try:
            left.sendto(b'hello', name)
        except OSError:
            pass
    return None
""",
    "wrong_20ms": r"""
def f(x):
    total = 0
    for i in range(200_000):
        total += i
    return -1
""",
}
