"""Right solutions that use the rarer parts of the standard library; `add(a, b)` of each returns the sum."""

from __future__ import annotations

PROGRAMS: dict[str, str] = {
    "asyncio": """
import asyncio
async def go(a, b):
    await asyncio.sleep(0.01)
    return a + b
def add(a, b):
    return asyncio.run(go(a, b))
""",
    "asyncio gather": """
import asyncio
async def one(x):
    await asyncio.sleep(0)
    return x
def add(a, b):
    async def go():
        return sum(await asyncio.gather(one(a), one(b)))
    return asyncio.run(go())
""",
    "asyncio to_thread": """
import asyncio
def add(a, b):
    return asyncio.run(asyncio.to_thread(lambda: a + b))
""",
    "asyncio queue+timeout": """
import asyncio
def add(a, b):
    async def go():
        q = asyncio.Queue()
        await q.put(a + b)
        return await asyncio.wait_for(q.get(), 1)
    return asyncio.run(go())
""",
    "threadpool": """
from concurrent.futures import ThreadPoolExecutor
def add(a, b):
    with ThreadPoolExecutor(8) as p:
        return sum(p.map(int, [a, b]))
""",
    "sqlite memory": """
import sqlite3
def add(a, b):
    c = sqlite3.connect(':memory:')
    return c.execute('select ?+?', (a, b)).fetchone()[0]
""",
    "sqlite in a file": """
import os, sqlite3
def add(a, b):
    if os.path.exists('t.db'):
        os.remove('t.db')
    c = sqlite3.connect('t.db')
    c.execute('create table t (x)')
    c.executemany('insert into t values (?)', [(a,), (b,)])
    c.commit()
    other = sqlite3.connect('t.db')
    return other.execute('select sum(x) from t').fetchone()[0]
""",
    "file locks": """
import fcntl, tempfile
def add(a, b):
    with tempfile.TemporaryFile() as one, open('lock', 'w') as two:
        fcntl.lockf(one, fcntl.LOCK_EX)
        fcntl.flock(two, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(two, fcntl.LOCK_UN)
        return a + b
""",
    "standard input read": """
import sys
DATA = sys.stdin.read()
def add(a, b):
    return a + b + len(DATA)
""",
    "pickle and copy of own classes": """
import copy, pickle
class Node:
    def __init__(self, value):
        self.value, self.me = value, self
def add(a, b):
    return pickle.loads(pickle.dumps(copy.deepcopy(Node(a + b)))).me.value
""",
    "deep recursion thread": """
import sys, threading
sys.setrecursionlimit(1 << 25)
threading.stack_size(1 << 27)
def add(a, b):
    out = []
    def rec(n):
        return 0 if n == 0 else 1 + rec(n - 1)
    t = threading.Thread(target=lambda: out.append(rec(50000)))
    t.start()
    t.join()
    return a + b if out == [50000] else None
""",
    "stack 512 MB": """
import sys, threading
sys.setrecursionlimit(10 ** 6)
threading.stack_size(512 * 1024 * 1024)
def add(a, b):
    out = []
    t = threading.Thread(target=lambda: out.append(a + b))
    t.start()
    t.join()
    return out[0]
""",
    "recursion 9000": """
import sys
sys.setrecursionlimit(20000)
def add(a, b):
    def rec(n):
        return 0 if n == 0 else 1 + rec(n - 1)
    rec(9000)
    return a + b
""",
    "tempfile": """
import tempfile
def add(a, b):
    with tempfile.NamedTemporaryFile('w+') as f:
        f.write(str(a + b))
        f.flush()
        f.seek(0)
        return int(f.read())
""",
    "file in cwd": """
def add(a, b):
    with open('data.txt', 'w') as f:
        f.write(str(a + b))
    return int(open('data.txt').read())
""",
    "zoneinfo": """
from zoneinfo import ZoneInfo
from datetime import datetime
def add(a, b):
    datetime(2020, 1, 1, tzinfo=ZoneInfo('Europe/Berlin')).utcoffset()
    return a + b
""",
    "datetime now": """
import datetime, time
def add(a, b):
    datetime.datetime.now().astimezone()
    time.localtime()
    time.strftime('%Z')
    return a + b
""",
    "uuid": """
import uuid
def add(a, b):
    uuid.uuid4()
    uuid.uuid1()
    uuid.uuid5(uuid.NAMESPACE_DNS, 'x')
    return a + b
""",
    "secrets": """
import secrets, random, os
def add(a, b):
    secrets.token_hex()
    random.SystemRandom().random()
    os.urandom(8)
    return a + b
""",
    "platform": """
import platform, sys, os
def add(a, b):
    platform.system()
    platform.python_version()
    platform.machine()
    os.cpu_count()
    os.getcwd()
    os.getpid()
    return a + b
""",
    "platform.platform": """
import platform
def add(a, b):
    platform.platform()
    platform.uname()
    platform.node()
    return a + b
""",
    "getpass": """
import getpass, os
def add(a, b):
    try:
        getpass.getuser()
    except Exception:
        pass
    os.path.expanduser('~')
    return a + b
""",
    "locale": """
import locale
def add(a, b):
    locale.setlocale(locale.LC_ALL, '')
    return a + b
""",
    "logging file": """
import logging
def add(a, b):
    logging.basicConfig(level=logging.DEBUG)
    logging.info('x')
    logging.getLogger('y').warning('z')
    return a + b
""",
    "signal alarm": """
import signal
def add(a, b):
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.alarm(1)
    signal.alarm(0)
    return a + b
""",
    "setitimer": """
import signal, time
def add(a, b):
    hit = []
    signal.signal(signal.SIGALRM, lambda *_: hit.append(1))
    signal.setitimer(signal.ITIMER_REAL, 0.02)
    time.sleep(0.1)
    return a + b if hit else None
""",
    "resource": """
import resource
def add(a, b):
    resource.getrusage(resource.RUSAGE_SELF)
    resource.getrlimit(resource.RLIMIT_STACK)
    return a + b
""",
    "setrlimit stack": """
import resource, sys
def add(a, b):
    s, hd = resource.getrlimit(resource.RLIMIT_STACK)
    resource.setrlimit(resource.RLIMIT_STACK, (hd, hd))
    return a + b
""",
    "mmap anon": """
import mmap
def add(a, b):
    m = mmap.mmap(-1, 4096)
    m[0] = a
    r = m[0]
    m.close()
    return r + b
""",
    "mmap file": """
import mmap, tempfile
def add(a, b):
    with tempfile.TemporaryFile() as f:
        f.write(bytes(4096))
        f.flush()
        m = mmap.mmap(f.fileno(), 4096)
        m[0] = a
        return m[0] + b
""",
    "ctypes libc": """
import ctypes
def add(a, b):
    return ctypes.CDLL(None).abs(a + b)
""",
    "pipe select": """
import os, select
def add(a, b):
    r, w = os.pipe()
    os.write(w, b'x')
    select.select([r], [], [], 1)
    p = select.poll()
    p.register(r)
    p.poll(10)
    return a + b
""",
    "socketpair": """
import socket
def add(a, b):
    x, y = socket.socketpair()
    x.send(b'1')
    y.recv(1)
    return a + b
""",
    "selectors": """
import selectors, os
def add(a, b):
    s = selectors.DefaultSelector()
    r, w = os.pipe()
    s.register(r, selectors.EVENT_READ)
    os.write(w, b'1')
    s.select(1)
    return a + b
""",
    "queue condition barrier": """
import threading, queue
def add(a, b):
    q = queue.Queue()
    bar = threading.Barrier(2)
    def f():
        bar.wait()
        q.put(a + b)
    t = threading.Thread(target=f)
    t.start()
    bar.wait()
    return q.get(timeout=1)
""",
    "contextvars decimal": """
import decimal, contextvars
def add(a, b):
    decimal.getcontext().prec = 5000
    decimal.Decimal(1) / 3
    return a + b
""",
    "hashlib etc": """
import hashlib, hmac, zlib, bz2, lzma, base64
def add(a, b):
    hashlib.scrypt(b'x', salt=b'y', n=2, r=1, p=1)
    lzma.compress(b'x' * 1000)
    bz2.compress(b'x')
    hashlib.blake2b(b'x')
    return a + b
""",
    "ssl import": """
import ssl, urllib.request, http.client, email, json, xml.etree.ElementTree
def add(a, b):
    xml.etree.ElementTree.fromstring('<a/>')
    return a + b
""",
    "inspect source": """
import inspect
def add(a, b):
    try:
        inspect.getsource(add)
    except OSError:
        pass
    return a + b
""",
    "doctest": """
import doctest
def add(a, b):
    doctest.run_docstring_examples(lambda: None, {})
    return a + b
""",
    "unittest in module": """
import unittest
class T(unittest.TestCase):
    def test(self):
        self.assertEqual(1, 1)
def add(a, b):
    unittest.TextTestRunner(stream=open('/dev/null', 'w')).run(unittest.defaultTestLoader.loadTestsFromTestCase(T))
    return a + b
""",
    "devnull/stdin": """
import sys, os
def add(a, b):
    open(os.devnull, 'w').write('x')
    sys.stdin
    return a + b
""",
    "/dev/urandom": """
def add(a, b):
    open('/dev/urandom', 'rb').read(4)
    return a + b
""",
    "print flush big": """
import sys
def add(a, b):
    print('x' * 100000)
    sys.stdout.flush()
    sys.stderr.write('e' * 1000)
    return a + b
""",
    "atexit/thread daemon": """
import threading, atexit, time
atexit.register(lambda: None)
threading.Thread(target=lambda: time.sleep(60), daemon=True).start()
def add(a, b):
    return a + b
""",
    "non-daemon thread left": """
import threading, time
def add(a, b):
    threading.Thread(target=lambda: time.sleep(0.3)).start()
    return a + b
""",
    "timer thread": """
import threading
def add(a, b):
    t = threading.Timer(30, print)
    t.start()
    return a + b
""",
    "tracemalloc cProfile": """
import tracemalloc, cProfile, io, pstats
def add(a, b):
    tracemalloc.start()
    p = cProfile.Profile()
    p.enable()
    p.disable()
    pstats.Stats(p, stream=io.StringIO()).print_stats()
    return a + b
""",
    "faulthandler": """
import faulthandler, sys
def add(a, b):
    try:
        faulthandler.enable()
    except Exception:
        pass
    return a + b
""",
    "sched/time": """
import sched, time
def add(a, b):
    s = sched.scheduler()
    s.enter(0.01, 1, lambda: None)
    s.run()
    time.perf_counter()
    time.process_time()
    time.thread_time()
    time.monotonic_ns()
    return a + b
""",
    "zip/tar": """
import zipfile, tarfile, io
def add(a, b):
    z = zipfile.ZipFile(io.BytesIO(), 'w')
    z.writestr('a', 'b')
    z.close()
    return a + b
""",
    "os.environ": """
import os
def add(a, b):
    os.environ['X'] = '1'
    os.environ.get('HOME')
    os.getenv('PATH')
    return a + b
""",
    "gc heavy": """
import gc
def add(a, b):
    x = [[i] for i in range(300000)]
    gc.collect()
    return a + b
""",
    "400 MB": """
def add(a, b):
    x = bytearray(400 * 2 ** 20)
    return a + b
""",
}
