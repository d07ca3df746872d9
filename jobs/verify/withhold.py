"""What the insecure run is told of the secure verifier's answers: those that the submission gave itself.

Where a problem has no cases of its own for the insecure verifier, or some that the secure one uses too, the insecure
run gets the same inputs. The expected result stands beside an input if the submission came to it in the secure run, or
close enough for any lax comparison; else another value stands there, which nothing honest returns. A flaw that passes
whatever is expected, or that gives the expected result away, works as before; a wrong answer is still wrong.
"""

from __future__ import annotations

import random
import string
from collections.abc import Sequence
from typing import Any

from foreshock.jobs.verify import plain

Pair = tuple[Any, Any]
_DRAWS = 30
_DIGITS = 6


def withhold(
    problem_id: str, secure: Sequence[Pair], insecure: Sequence[Pair], results: Sequence[Any] | None
) -> list[Any]:
    """Expected results for the insecure verifier's cases, in their order.

    secure, insecure: (input, expected). results: for each secure case [form of the value, printed text] as the secure
    run sent it, or None when it sent nothing readable.
    """
    places: dict[str, int] = {}
    for index, (given, _) in enumerate(secure):
        if (key := _key(given)) is not None:
            places.setdefault(key, index)
    out = []
    for given, expected in insecure:
        place = None if (key := _key(given)) is None else places.get(key)
        if place is None:
            out.append(expected)
            continue
        result = results[place] if results is not None and place < len(results) else None
        out.append(expected if came_close(result, expected) else _stand_in(f"{problem_id}/{place}", expected, result))
    return out


def _key(given: Any) -> str | None:
    try:
        return plain.canonical(plain.encode(given), top=False)
    except (plain.PlainError, RecursionError):
        return None


def came_close(result: Any, expected: Any) -> bool:
    """Whether some lax comparison could take a secure run's [value, printed text] for `expected`."""
    if not isinstance(result, list) or len(result) < 2:
        return False
    value, printed, *more = result
    try:
        due = _readings(plain.encode(expected))
        if due & _readings(value):
            return True
        texts = [text for text in (printed, *more) if isinstance(text, str)]
        return any(due & _readings(text) for text in texts if text.strip())
    except (plain.PlainError, ValueError, TypeError, IndexError, ArithmeticError, RecursionError):
        return False


def _readings(form: Any) -> set[str]:
    """Texts that stand for a form: as str() writes it, and its parts without their order and types."""
    readings = {"written:" + _squeezed(_written(form, top=True))}
    if not isinstance(form, list) or form[0] not in ("o", "x"):
        readings.add("parts:" + "\0".join(sorted(_parts(form))))
    return readings


def _squeezed(text: str) -> str:
    return "".join(text.casefold().split())


def _written(form: Any, top: bool) -> str:
    """About what str() makes of the value behind a form, without making that value."""
    if isinstance(form, str):
        return form if top else repr(form)
    if not isinstance(form, list):
        return str(form)
    tag, body = form[0], form[1]
    if tag == "i":
        return str(int(body, 16))
    if tag == "f":
        return repr(float.fromhex(body))
    if tag == "q":
        return repr(int(body, 16) / int(form[2], 16))
    if tag in ("l", "t", "s", "z"):
        inner = ",".join(_written(item, top=False) for item in body)
        return {"l": f"[{inner}]", "t": f"({inner})"}.get(tag, "{" + inner + "}")
    if tag == "d":
        return "{" + ",".join(f"{_written(k, top=False)}:{_written(v, top=False)}" for k, v in body) + "}"
    return str(form[2] if tag in ("o", "x") else body)


def _parts(form: Any) -> list[str]:
    """Texts of a form's scalars: numbers by value to six digits, whether written as text or not."""
    if isinstance(form, list) and form[0] in ("l", "t", "s", "z"):
        return [part for item in form[1] for part in _parts(item)]
    if isinstance(form, list) and form[0] == "d":
        return [part for pair in form[1] for item in pair for part in _parts(item)]
    text = str(int(form)) if isinstance(form, bool) else _written(form, top=True)
    try:
        return [format(float(text), f".{_DIGITS}g")]
    except (ValueError, OverflowError):
        return [_squeezed(text)]


def _stand_in(seed: str, expected: Any, result: Any) -> Any:
    """A value of the same kind as `expected`, drawn without regard to it, that comes close to neither.

    Of two values one is always close to the result, so for a bool the other is the expected one: a submission that
    learns that its answer was wrong knows as much.
    """
    drawn: Any = None
    for draw in range(_DRAWS):
        drawn = _like(expected, random.Random(f"{seed}/{draw}"), depth=0)
        if came_close(result, drawn):
            continue
        if isinstance(expected, bool) or not came_close([plain.encode(drawn), ""], expected):
            return drawn
    return drawn if not came_close(result, drawn) else "withheld"


def _like(value: Any, rng: random.Random, depth: int) -> Any:
    if isinstance(value, bool):
        return rng.random() < 0.5
    if isinstance(value, float):
        return round(rng.uniform(-100.0, 1000.0), 3)
    if isinstance(value, str):
        return "".join(rng.choices(string.ascii_lowercase, k=rng.randint(4, 9)))
    if isinstance(value, bytes | bytearray):
        return type(value)(rng.randbytes(rng.randint(4, 9)))
    if depth < plain.MAX_DEPTH and isinstance(value, list | tuple | set | frozenset | dict):
        return _like_container(value, rng, depth + 1)
    return rng.randint(-99, 9999)


def _like_container(value: Any, rng: random.Random, depth: int) -> Any:
    if isinstance(value, dict):
        drawn = {_like(key, rng, depth): _like(item, rng, depth) for key, item in value.items()}
        return drawn or {"k": rng.randint(1, 9999)}
    items = [_like(item, rng, depth) for item in value]
    items = items[: len(items) - rng.randint(0, 1)] if len(items) > 2 else items
    kind = next(base for base in (list, tuple, set, frozenset) if isinstance(value, base))
    return kind(items or [rng.randint(-99, 9999)])
