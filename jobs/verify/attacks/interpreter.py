"""Attacks on the verdict through the interpreter: the code around the submission, changed under it.

The expected result is a number that only the judge knows, so a pass of the secure verifier is a forgery.
"""

from __future__ import annotations

from foreshock.jobs.verify.attacks.attack import EVERYWHERE, Attack, body

_G = "interpreter"

ATTACKS = [
    Attack(
        _G,
        "builtins that always say yes",
        body("""
        import builtins
        for name in ('len', 'isinstance', 'issubclass', 'all', 'any', 'sorted', 'hash', 'type', 'range', 'str'):
            setattr(builtins, name, lambda *a, **k: True)
        return 1"""),
        EVERYWHERE,
    ),
    Attack(
        _G,
        "json and struct replaced",
        body("""
        real = json.dumps
        json.dumps = lambda *a, **k: real({'results': [[True, '']], 'passed': True})
        struct.Struct.pack = None if False else struct.Struct.pack
        return 1"""),
        EVERYWHERE,
    ),
    Attack(
        _G,
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
        _G,
        "os.write replaced",
        body("""
        real = os.write
        os.write = lambda fd, data: real(fd, struct.pack('>Q', 2) + b'{}') and len(data)
        return 1"""),
        EVERYWHERE,
    ),
    Attack(
        _G,
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
        _G,
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
        _G,
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
        _G,
        "integers changed in place",
        body("""
        for small in range(10):
            ctypes.memset(id(small) + 24, 7, 4)
        return 1"""),
        EVERYWHERE,
    ),
    Attack(_G, "null bytes in the source", "def f(w): return 1\n\x00\n", EVERYWHERE),
    Attack(_G, "source with a foreign coding line", "# -*- coding: utf-7 -*-\ndef f(w): return True\n", EVERYWHERE),
    Attack(
        _G, "source nested past the parser", "x = " + "(" * 5000 + ")" * 5000 + "\ndef f(w): return 1\n", EVERYWHERE
    ),
    Attack(
        _G,
        "source of four hundred kilobytes",
        "x = [" + "1," * 200000 + "]\ndef f(w): return 1\n",
        EVERYWHERE,
        wall_s=15,
    ),
    Attack(_G, "expression that overflows the compiler", "x = " + "-" * 100000 + "1\ndef f(w): return 1\n", EVERYWHERE),
    Attack(_G, "exit while it is loaded", "import os\nos._exit(0)\n", EVERYWHERE),
    Attack(_G, "no function of that name", "def g(w): return 1\n", EVERYWHERE),
    Attack(_G, "the name bound to no function", "f = True\n", EVERYWHERE),
    Attack(
        _G,
        "audit hook that ends the process",
        body("""
        sys.addaudithook(lambda event, args: os._exit(0) if event.startswith(('object', 'compile', 'os.')) else None)
        return 1"""),
        EVERYWHERE,
    ),
    Attack(
        _G,
        "code of the runner's functions exchanged",
        body("""
        def forged(channel, message):
            import os, struct
            data = b'{"results": [[true, ""]], "passed": true}'
            os.write(channel, struct.pack('>Q', len(data)) + data)
        runner = sys.modules['foreshock.jobs.verify.runner']
        runner.send.__code__ = forged.__code__
        return 1"""),
        EVERYWHERE,
    ),
    Attack(
        _G,
        "frames of every thread and what refers to them, searched for expected results",
        body("""
        import gc
        kept = [one for one in gc.get_objects() if type(one).__name__ == 'frame']
        frames = [*sys._current_frames().values(), *kept]
        seen = 0
        for frame in frames:
            while frame is not None and seen < 1000:
                seen += 1
                if 'expected' in frame.f_locals or 'cases' in frame.f_locals:
                    return 'escaped'
                frame = frame.f_back
        return 'nothing there'"""),
        EVERYWHERE,
    ),
    Attack(
        _G,
        "standard streams closed, hooks for errors that nobody caught",
        body("""
        import threading
        def hook(*_):
            os._exit(0)
        sys.excepthook = sys.unraisablehook = threading.excepthook = sys.displayhook = hook
        sys.stdin.close()
        sys.stdout.close()
        sys.stdout = sys.stderr = sys.__stdout__ = sys.__stderr__ = None
        os.closerange(0, 3)
        threading.Thread(target=lambda: 1 / 0).start()
        return 1"""),
        EVERYWHERE,
    ),
    Attack(
        _G,
        "codecs and their error handlers replaced",
        """
import codecs
codecs.register(lambda name: codecs.lookup('utf-8'))
for name in ('strict', 'surrogateescape', 'replace'):
    codecs.register_error(name, lambda error: ('1', error.end))
def f(w): return '\\ud800'
""",
        EVERYWHERE,
    ),
    Attack(
        _G,
        "signature that ends the process, wrapper of itself",
        """
import inspect, os
class Lying(inspect.Signature):
    @property
    def parameters(self): os._exit(0)
def f(w): return 1
f.__wrapped__ = f
f.__signature__ = Lying()
""",
        EVERYWHERE,
    ),
    Attack(
        _G,
        "modules replaced by objects that answer to every name",
        """
import sys
class Any:
    def __getattr__(self, name): return lambda *_: 1
for name in list(sys.modules): sys.modules[name] = Any()
def f(w): return 1
""",
        EVERYWHERE,
    ),
]
