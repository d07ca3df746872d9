"""Attacks on the verdict through the values that cross the border: objects that lie about what they are.

The expected result is a number that only the judge knows, so a pass of the secure verifier is a forgery.
"""

from __future__ import annotations

from foreshock.jobs.verify.attacks.attack import EVERYWHERE, Attack

_G = "values"

_LIAR = """
class {name}({base}):
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __hash__(self): return 0
    def __repr__(self): return 'True'
    def __bool__(self): return True
"""


def _value(name: str, code: str, wall_s: float = 5.0) -> Attack:
    return Attack(_G, name, code, EVERYWHERE, wall_s=wall_s)


ATTACKS = [
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
    _value(
        "exception whose text is control codes and surrogates",
        "class Odd(Exception):\n    def __str__(self): return '\\ud800\\x1b[2J\\u202e\\x00'\ndef f(w): raise Odd\n",
    ),
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
    _value(
        "SystemExit with a status that lies",
        """
class Status(int):
    def __and__(self, other): return 'x'
    def __repr__(self): raise SystemExit(0)
def f(w): raise SystemExit(Status(0))
""",
    ),
    _value(
        "exception whose type has no name",
        """
class Meta(type):
    @property
    def __name__(cls): raise SystemExit(0)
class Odd(Exception, metaclass=Meta): pass
def f(w): raise Odd
""",
    ),
    _value(
        "group of exceptions nested past every limit",
        """
def f(w):
    error = ValueError('x')
    for _ in range(5000): error = ExceptionGroup('x', [error])
    raise error
""",
    ),
    _value(
        "fraction and decimal that lie about their parts",
        """
from decimal import Decimal
from fractions import Fraction
class Part(Fraction):
    _numerator = property(lambda self: 10 ** 5000)
    _denominator = property(lambda self: 0)
class Tenth(Decimal):
    def as_integer_ratio(self): return (1, 0)
    def is_finite(self): return False
def f(w): return [Part(1, 3), Tenth('0.1'), Tenth('1e999999')]
""",
    ),
    _value(
        "printed text past its limit, its buffer wound back",
        """
import io, sys
def f(w):
    io.StringIO.write(sys.stdout, 'x' * (1 << 24))
    for _ in range(1000):
        sys.stdout.seek(0)
        print('\\ud800' * 100)
""",
    ),
    _value(
        "list and dict that a thread changes while they are read",
        """
import threading
items, names = [0], {}
def change():
    at = 0
    while True:
        at += 1
        names[at % 1000] = at
        names.pop((at * 7) % 1000, None)
        items.append(at) if len(items) < 100_000 else items.clear()
def f(w):
    threading.Thread(target=change, daemon=True).start()
    return [items, names]
""",
    ),
    _value(
        "class whose bases change, weak reference that passes for its object",
        """
import weakref
class Base: pass
class Plain(list): pass
class Late(Base): pass
Late.__bases__ = (type('Same', (), {'__eq__': lambda self, other: True, '__hash__': lambda self: 1}),)
kept = Plain([1])
def f(w): return [Late(), weakref.proxy(kept)]
""",
    ),
]
