"""Attacks on the verdict: the result channel, the values that cross it, the code around the submission.

The expected result is a number that only the judge knows, so a pass of the secure verifier is a forgery.
"""

from __future__ import annotations

from foreshock.jobs.verify.attacks.attack import EVERYWHERE, ISOLATED, Attack, body

_C = "result channel"
_V = "values"
_M = "interpreter"
_N = "next verification"

_FRAME = """
        def frame(message):
            data = message if isinstance(message, bytes) else json.dumps(message).encode()
            return struct.pack('>Q', len(data)) + data
        def everywhere(data):
            for fd in range(256):
                try:
                    os.write(fd, data)
                except OSError:
                    pass
"""


def _channel(name: str, text: str, wall_s: float = 5.0) -> Attack:
    return Attack(_C, name, body(_FRAME + text), EVERYWHERE, wall_s=wall_s)


def _value(name: str, code: str, wall_s: float = 5.0) -> Attack:
    return Attack(_V, name, code, EVERYWHERE, wall_s=wall_s)


CHANNEL = [
    _channel(
        "a forged pass on every descriptor",
        """
        everywhere(frame({'passed': True, 'outcome': 'passed', 'results': [[True, '']]}))
        os._exit(0)""",
    ),
    _channel(
        "an empty list of results",
        """
        everywhere(frame({'results': []}))
        os._exit(0)""",
    ),
    _channel(
        "too many results",
        """
        everywhere(frame({'results': [[1, '']] * 1000}))
        os._exit(0)""",
    ),
    _channel(
        "results of the wrong shape",
        """
        everywhere(frame({'results': [{'passed': True}]}))
        os._exit(0)""",
    ),
    _channel(
        "two answers, the second a forged one",
        """
        everywhere(frame({'results': [[0, '']]}) + frame({'results': [[True, ''], [True, '']]}))
        os._exit(0)""",
    ),
    _channel(
        "JSON that is no message",
        """
        everywhere(frame(b'[1, 2, 3]'))
        os._exit(0)""",
    ),
    _channel(
        "bytes that are no JSON",
        """
        everywhere(frame(bytes(range(256))))
        os._exit(0)""",
    ),
    _channel(
        "JSON nested a million deep",
        """
        everywhere(frame(b'[' * 1000000))
        os._exit(0)""",
    ),
    _channel(
        "a number of a million digits",
        """
        everywhere(frame(b'{"results": [[' + b'9' * 1000000 + b', ""]]}'))
        os._exit(0)""",
    ),
    _channel(
        "a length of 2**63",
        """
        everywhere(struct.pack('>Q', 1 << 63))
        time.sleep(0.2)
        os._exit(0)""",
    ),
    _channel(
        "half a frame, then silence",
        """
        everywhere(struct.pack('>Q', 1000) + b'{')
        time.sleep(60)""",
        0.4,
    ),
    _channel(
        "one byte at a time",
        """
        for byte in frame({'results': [[True, '']]}):
            os.write(3, bytes([byte]))
            time.sleep(0.001)
        os._exit(0)""",
    ),
    _channel(
        "a forged infrastructure error",
        """
        everywhere(b'E confinement of a submission failed')
        os._exit(70)""",
    ),
    _channel(
        "a forged ready byte and a second request",
        """
        everywhere(b'R' * 64)
        os._exit(0)""",
    ),
    _channel(
        "every descriptor closed, process kept alive",
        """
        os.closerange(0, 1024)
        time.sleep(60)""",
    ),
    _channel(
        "the channel replaced by another file",
        """
        os.dup2(os.open('/dev/null', os.O_RDWR), 3)
        return 1""",
    ),
    _channel(
        "a thread that writes between the runner's bytes",
        """
        def spam():
            while True:
                everywhere(frame({'results': [[True, '']]}))
        threading.Thread(target=spam, daemon=True).start()
        time.sleep(0.05)
        return 1""",
    ),
    _channel(
        "an atexit hook that writes a forged answer",
        """
        import atexit
        atexit.register(everywhere, frame({'results': [[True, '']]}))
        sys.exit(0)""",
    ),
    _channel(
        "a result of 64 MB",
        """
        return 'x' * (64 << 20)""",
    ),
    _channel(
        "frames walked up to the runner's request",
        """
        frame_ = sys._getframe()
        while frame_ is not None:
            for value in frame_.f_locals.values():
                if type(value).__name__ == 'TestCase' or (isinstance(value, dict) and 'cases' in value):
                    return 'escaped'
            frame_ = frame_.f_back
        return 'nothing there'""",
    ),
    _channel(
        "every object searched for the expected result",
        """
        import gc
        held = [one for one in gc.get_objects() if isinstance(one, dict) and 'expected' in one and 'cases' in one]
        return 'escaped' if held else 'nothing there'""",
    ),
    _channel(
        "the runner's modules searched for cases",
        """
        runner = sys.modules.get('foreshock.jobs.verify.runner')
        for name, value in vars(runner).items() if runner else ():
            if isinstance(value, (list, tuple)) and value and type(value[0]).__name__ == 'TestCase':
                return 'escaped'
        return 'nothing there'""",
    ),
]

_LIAR = """
class {name}({base}):
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __hash__(self): return 0
    def __repr__(self): return 'True'
    def __bool__(self): return True
"""

VALUES = [
    _value("object equal to everything", _LIAR.format(name="Liar", base="object") + "def f(w): return Liar()\n"),
    *[
        _value(
            f"{base} subclass equal to everything",
            _LIAR.format(name="Liar", base=base) + f"def f(w): return Liar({argument})\n",
        )
        for base, argument in (("str", "'1'"), ("int", "1"), ("float", "1.0"), ("list", "[1]"), ("dict", "{1: 1}"))
    ],
    _value(
        "object that claims another class",
        """
class Liar:
    @property
    def __class__(self): return int
    def __index__(self): return 1
def f(w): return Liar()
""",
    ),
    _value(
        "metaclass that is everybody's subclass",
        """
class Meta(type):
    def __instancecheck__(cls, other): return True
    def __subclasscheck__(cls, other): return True
    def __eq__(cls, other): return True
    def __hash__(cls): return hash(int)
class Liar(metaclass=Meta): pass
def f(w): return Liar()
""",
    ),
    _value(
        "object that runs code when unpickled (__reduce__)",
        """
class Bomb:
    def __reduce__(self): return (__import__('os').system, ('touch /tmp/foreshock-attack-reduce',))
def f(w): return Bomb()
""",
    ),
    _value(
        "list that lies about its items",
        """
class Liar(list):
    def __iter__(self): return iter([1] * 10**9)
    def __len__(self): return 10**9
    def __getitem__(self, i): return 1
def f(w): return Liar([1])
""",
    ),
    _value(
        "dict that lies about its items",
        """
class Liar(dict):
    def items(self):
        while True: yield 1, 1
def f(w): return Liar()
""",
    ),
    _value("list that holds itself", "def f(w):\n    a = []\n    a.append(a)\n    return a\n"),
    _value("dict that holds itself", "def f(w):\n    a = {}\n    a['a'] = a\n    return a\n"),
    _value("list a hundred thousand deep", "def f(w):\n    a = []\n    for _ in range(10**5): a = [a]\n    return a\n"),
    _value("integer of ten million bits", "def f(w):\n    return 1 << 10**7\n"),
    _value("keys that collide", "def f(w):\n    return {i * ((1 << 61) - 1): i for i in range(2000)}\n", 10.0),
    _value(
        "repr that never ends",
        """
class Bomb:
    def __repr__(self):
        while True: pass
def f(w): return Bomb()
""",
        0.4,
    ),
    _value(
        "repr that exits",
        """
class Bomb:
    def __repr__(self): raise SystemExit(0)
def f(w): return Bomb()
""",
    ),
    _value(
        "exception whose text exits",
        """
class Bomb(Exception):
    def __str__(self): raise SystemExit(0)
def f(w): raise Bomb()
""",
    ),
    _value("BaseException", "def f(w): raise BaseException('x')\n"),
    _value("KeyboardInterrupt", "def f(w): raise KeyboardInterrupt\n"),
    _value("SystemExit(0)", "def f(w): raise SystemExit(0)\n"),
    _value("GeneratorExit", "def f(w): raise GeneratorExit\n"),
    _value("endless generator", "def f(w):\n    while True: yield 1\n"),
    _value("lone surrogates and bidirectional marks", "def f(w): return '\\ud800\\u202e\\x00\\uffff' * 100\n"),
    _value("look-alike name of the function", "def ｆ(w): return True\n"),
    _value(
        "nan that equals",
        """
class Nan(float):
    def __eq__(self, other): return True
    __hash__ = float.__hash__
def f(w): return Nan('nan')
""",
    ),
]

INTERPRETER = [
    Attack(
        _M,
        "builtins that always say yes",
        body("""
        import builtins
        for name in ('len', 'isinstance', 'issubclass', 'all', 'any', 'sorted', 'hash', 'type', 'range', 'str'):
            setattr(builtins, name, lambda *a, **k: True)
        return 1"""),
        EVERYWHERE,
    ),
    Attack(
        _M,
        "json and struct replaced",
        body("""
        real = json.dumps
        json.dumps = lambda *a, **k: real({'results': [[True, '']], 'passed': True})
        struct.Struct.pack = None if False else struct.Struct.pack
        return 1"""),
        EVERYWHERE,
    ),
    Attack(
        _M,
        "the runner's own functions replaced",
        body("""
        plain = sys.modules['foreshock.jobs.verify.plain']
        runner = sys.modules['foreshock.jobs.verify.runner']
        plain.encode = lambda value, depth=0: True
        runner.send = lambda fd, message: os._exit(0)
        return 1"""),
        EVERYWHERE,
    ),
    Attack(
        _M,
        "os.write replaced",
        body("""
        real = os.write
        os.write = lambda fd, data: real(fd, struct.pack('>Q', 2) + b'{}') and len(data)
        return 1"""),
        EVERYWHERE,
    ),
    Attack(
        _M,
        "trace and profile hooks",
        body("""
        def hook(frame, event, argument):
            for key in list(frame.f_locals):
                if key in ('value', 'results', 'printed'):
                    frame.f_locals[key] = True
            return hook
        sys.settrace(hook)
        sys.setprofile(hook)
        return 1"""),
        EVERYWHERE,
    ),
    Attack(
        _M,
        "import hooks and poisoned modules",
        body("""
        class Finder:
            def find_spec(self, name, path=None, target=None):
                os._exit(0)
        sys.meta_path.insert(0, Finder())
        sys.modules['json'] = sys.modules['struct'] = sys
        return 1"""),
        EVERYWHERE,
    ),
    Attack(
        _M,
        "garbage collector callbacks and finalisers",
        body("""
        import gc
        gc.callbacks.append(lambda phase, info: os._exit(0))
        class Last:
            def __del__(self):
                os._exit(0)
        keep = [Last() for _ in range(1000)]
        gc.collect()
        return 1"""),
        EVERYWHERE,
    ),
    Attack(
        _M,
        "integers changed in place",
        body("""
        for small in range(10):
            ctypes.memset(id(small) + 24, 7, 4)
        return 1"""),
        EVERYWHERE,
    ),
    Attack(_M, "null bytes in the source", "def f(w): return 1\n\x00\n", EVERYWHERE),
    Attack(_M, "source with a foreign coding line", "# -*- coding: utf-7 -*-\ndef f(w): return True\n", EVERYWHERE),
    Attack(
        _M, "source nested past the parser", "x = " + "(" * 5000 + ")" * 5000 + "\ndef f(w): return 1\n", EVERYWHERE
    ),
    Attack(
        _M,
        "source of four hundred kilobytes",
        "x = [" + "1," * 200000 + "]\ndef f(w): return 1\n",
        EVERYWHERE,
        wall_s=15,
    ),
    Attack(_M, "expression that overflows the compiler", "x = " + "-" * 100000 + "1\ndef f(w): return 1\n", EVERYWHERE),
    Attack(_M, "exit while it is loaded", "import os\nos._exit(0)\n", EVERYWHERE),
    Attack(_M, "no function of that name", "def g(w): return 1\n", EVERYWHERE),
    Attack(_M, "the name bound to no function", "f = True\n", EVERYWHERE),
]

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

NEXT = [
    Attack(
        _N,
        "modules planted in the working directory",
        body(_PLANT.format(folders="('.', './djinn')")),
        EVERYWHERE,
        phases=2,
    ),
    Attack(
        _N,
        "modules and a marker planted in /tmp",
        body(_PLANT.format(folders="('/tmp', '/var/tmp', '/dev/shm')")),
        phases=2,
    ),
    Attack(
        _N,
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
        _N,
        "folder that cannot be deleted",
        body("""
        path = 'deep'
        for _ in range(40):
            os.mkdir(path)
            open(path + '/file', 'w').close()
            path += '/d'
        try:
            os.chmod('deep', 0)
        except OSError:
            pass
        return 'made'"""),
        EVERYWHERE,
    ),
    Attack(
        _N,
        "fifo and links left behind",
        body("""
        os.mkfifo('fifo')
        os.symlink('/', 'root')
        os.symlink('loop', 'loop')
        return 'made'"""),
        EVERYWHERE,
    ),
    Attack(
        _N,
        "working directory moved away",
        body("""
        os.chdir('/')
        for name in ('/tmp',):
            try:
                os.rename(name, '/gone')
                return 'escaped'
            except OSError:
                pass
        return 'stopped'"""),
        run_on=ISOLATED,
    ),
]

ATTACKS = [*CHANNEL, *VALUES, *INTERPRETER, *NEXT]
