"""Type-tagged plain data: how values cross the sandbox's border, and when two of them are equal.

JSON with tags, never pickle, and equality of canonical texts rather than of objects. The judge so builds no object
that a submission shaped, and no hash table whose keys a submission chose.

Forms: null, true, false, text and integers below 2**63 stand for themselves; everything else is a list whose
first item is a tag: i (integer, hexadecimal), f (float, hexadecimal or nan, inf, -inf), q (Fraction or Decimal:
numerator and denominator, hexadecimal), c (complex), b (bytes), B (bytearray), l (list), t (tuple), s (set), z
(frozenset), d (dict, as pairs), o (any other object: type name and repr), x (raised exception: type name and message).
"""

from __future__ import annotations

import json
import math
from decimal import Decimal
from fractions import Fraction
from typing import Any

MAX_DEPTH = 200
_SMALL = 1 << 63
_REPR_CHARS = 200


_LONGEST_SHOWN = 20_000
"""Characters of a number that a message still names."""

_MOST_DIGITS = 4000
"""Of a Decimal's exponent, either way; a larger one would fill the memory when written out."""


class PlainError(ValueError):
    """A value or message that is not plain data as described here."""


class IncomparableError(PlainError):
    """An object or exception, which equals nothing."""


def encode(value: Any, depth: int = 0) -> Any:
    """JSON-able form of a value; subclasses of plain types count as the plain type, read past their overrides.

    Raises PlainError when nested deeper than MAX_DEPTH (a cycle, or a recursion bomb).
    """
    kind = type(value)
    if value is None or kind is bool or kind is str:
        return value
    if issubclass(kind, int):
        number = int.__index__(value)
        return number if -_SMALL < number < _SMALL else ["i", format(number, "x")]
    if issubclass(kind, str):
        return str.__str__(value)
    if issubclass(kind, float):
        return ["f", float.hex(value)]
    if depth >= MAX_DEPTH:
        raise PlainError(f"nested deeper than {MAX_DEPTH} levels")
    if issubclass(kind, complex):
        return ["c", float.hex(complex.__complex__(value).real), float.hex(complex.__complex__(value).imag)]
    if issubclass(kind, bytes):
        return ["b", bytes.hex(value)]
    if issubclass(kind, bytearray):
        return ["B", bytearray.hex(value)]
    return _encode_container(value, kind, depth + 1)


def _encode_container(value: Any, kind: type, depth: int) -> Any:
    for base, tag in ((list, "l"), (tuple, "t"), (set, "s"), (frozenset, "z")):
        if issubclass(kind, base):
            return [tag, [encode(item, depth) for item in base.__iter__(value)]]
    if issubclass(kind, dict):
        return ["d", [[encode(key, depth), encode(item, depth)] for key, item in dict.items(value)]]
    ratio = _ratio(value, kind)
    return opaque("o", value) if ratio is None else ratio


def _ratio(value: Any, kind: type) -> list[str] | None:
    """Form of a Fraction or Decimal; None for any other object and for a Decimal too long to write out."""
    if issubclass(kind, Fraction):
        return ["q", *(format(int.__index__(part), "x") for part in (value._numerator, value._denominator))]
    if not issubclass(kind, Decimal):
        return None
    if not Decimal.is_finite(value):
        return ["f", "nan" if Decimal.is_nan(value) else "-inf" if Decimal.is_signed(value) else "inf"]
    if abs(Decimal.adjusted(value)) > _MOST_DIGITS:
        return None
    return ["q", *(format(part, "x") for part in Decimal.as_integer_ratio(value))]


def opaque(tag: str, value: Any) -> list[str]:
    """Form of an object or exception that only its type name and text describe; its repr may misbehave."""
    try:
        text = str(value) if tag == "x" else repr(value)
    except BaseException as error:  # noqa: BLE001 - hostile __repr__; whatever it raises is only a description
        text = f"<no text: {type(error).__name__}>"
    text = str.__str__(text)
    text = text if len(text) <= _REPR_CHARS else f"{text[: _REPR_CHARS - 3]}..."
    return [tag, str(type(value).__name__)[:_REPR_CHARS], text]


def decode(node: Any) -> Any:
    """The value behind a form. For forms that the judge wrote; o and x raise PlainError."""
    if node is None or isinstance(node, bool | str | int):
        return node
    tag, body = node[0], node[1]
    if tag == "i":
        return int(body, 16)
    if tag == "f":
        return float.fromhex(body)
    if tag == "q":
        return Fraction(int(body, 16), int(node[2], 16))
    if tag == "c":
        return complex(float.fromhex(body), float.fromhex(node[2]))
    if tag in ("b", "B"):
        return bytes.fromhex(body) if tag == "b" else bytearray.fromhex(body)
    if tag == "d":
        return {decode(key): decode(item) for key, item in body}
    kinds: dict[str, Any] = {"l": list, "t": tuple, "s": set, "z": frozenset}
    if tag not in kinds:
        raise PlainError(f"{tag!r} is not a value")
    return kinds[tag](decode(item) for item in body)


def canonical(node: Any, top: bool = True) -> str:
    """Text that two forms share exactly when the judge counts their values as equal.

    Lists equal tuples, sets equal frozensets, bytes equal bytearrays, numbers compare by value whatever their
    type, nan equals nan, order of sets and dicts is ignored. A bool equals a number inside a container, as in
    Python, but not at the top: a predicate must answer with a bool.

    Raises IncomparableError for an object or exception anywhere in it, PlainError for anything that is not a form
    described in this module.
    """
    if node is None:
        return "null"
    if isinstance(node, bool):
        return ("true" if node else "false") if top else f"n{int(node):x}"
    if isinstance(node, str):
        return json.dumps(node)
    if isinstance(node, int):
        return f"n{node:x}"
    if not isinstance(node, list) or not node or not isinstance(node[0], str):
        raise PlainError(f"not plain data: {type(node).__name__}")
    try:
        return _canonical_tagged(node[0], node)
    except PlainError:
        raise
    except (ValueError, TypeError, IndexError, OverflowError, AttributeError) as error:
        raise PlainError(f"not plain data: {error}") from None


def _canonical_tagged(tag: str, node: list[Any]) -> str:
    if tag == "i":
        return f"n{int(node[1], 16):x}"
    if tag == "f":
        return _number(float.fromhex(node[1]))
    if tag == "q":
        return _rational(int(node[1], 16), int(node[2], 16))
    if tag == "c":
        real, imaginary = float.fromhex(node[1]), float.fromhex(node[2])
        return _number(real) if imaginary == 0 else f"({_number(real)},{_number(imaginary)})"
    if tag in ("b", "B"):
        return "b" + bytes.fromhex(node[1]).hex()
    if tag in ("l", "t"):
        return "[" + ",".join([canonical(item, False) for item in node[1]]) + "]"
    if tag in ("s", "z"):
        return "{" + ",".join(sorted({canonical(item, False) for item in node[1]})) + "}"
    if tag == "d":
        pairs = [f"{canonical(key, False)}:{canonical(item, False)}" for key, item in node[1]]
        return "<" + ",".join(sorted(pairs)) + ">"
    if tag in ("o", "x"):
        raise IncomparableError(f"{tag!r} equals nothing")
    raise PlainError(f"unknown tag {tag[:20]!r}")


def _number(value: float) -> str:
    if math.isnan(value):
        return "nan"
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    return f"n{int(value):x}" if value.is_integer() else f"r{value.hex()}"


def _rational(numerator: int, denominator: int) -> str:
    """As the integer or float of the same value, if there is one. In lowest terms, as `encode` writes every fraction.

    Another form equals nothing: to reduce one of millions of digits would take the judge an hour.
    """
    if denominator <= 0:
        raise PlainError("not plain data: a fraction without a positive denominator")
    if denominator == 1:
        return f"n{numerator:x}"
    if denominator & (denominator - 1) == 0:  # a power of two, as every float's
        try:
            value = numerator / denominator
        except OverflowError:
            value = math.inf
        if math.isfinite(value) and value.as_integer_ratio() == (numerator, denominator):
            return _number(value)
    return f"q{numerator:x}/{denominator:x}"


def items(node: Any) -> list[Any] | None:
    """Forms of the items of a list or tuple; None for anything else."""
    if isinstance(node, list) and len(node) == 2 and node[0] in ("l", "t") and isinstance(node[1], list):
        return node[1]
    return None


def describe(node: Any) -> str:
    """Short text of a form, for messages. Takes no longer for a large form than for a small one."""
    if isinstance(node, list) and node and node[0] in ("o", "x"):
        if len(node) != 3 or not (isinstance(node[1], str) and isinstance(node[2], str)):
            return "unreadable data"
        return f"{node[1]}({node[2]})" if node[0] == "x" else f"{node[1]} object {node[2]}"
    try:
        return repr(decode(_beginning(node, [_REPR_CHARS])))[:_REPR_CHARS]
    except Exception:  # noqa: BLE001 - untrusted form; the text is only a description
        return "unreadable data"


def _beginning(node: Any, room: list[int]) -> Any:
    """The form cut to `room[0]` parts in all, each of which is short: no table of keys that collide is made of it."""
    room[0] -= 1
    if not isinstance(node, list):
        return node
    if node[0] == "d":
        return ["d", [[_beginning(half, room) for half in pair] for pair in node[1] if room[0] > 0]]
    if node[0] in ("l", "t", "s", "z"):
        return [node[0], [_beginning(item, room) for item in node[1] if room[0] > 0]]
    if any(len(part) > _LONGEST_SHOWN for part in node):
        raise PlainError("too long to show")
    return node
