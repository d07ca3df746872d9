"""How a submission's function is called with a test's input: djinn's convention.

djinn stores one input a case, and nothing says whether it is one argument or several; it tries one way and, on a
TypeError, the other. The ways are those of its secure and insecure verifiers at commit 8455a6a, tried in an order
that fits all of them: a tuple, or a list as long as there are parameters, is spread over several parameters, and handed
over whole to a single one; another list is one argument where the signature allows it. Where djinn's secure and
insecure verifiers call alike, the call is theirs (`tests/jobs/verify/djinn/recorded.json`). Both verifiers of
foreshock's own families call in one way too, so that a signature never splits the verdicts.
"""

from __future__ import annotations

import inspect
import mmap
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

_LARGE_STACK = 64 << 20


def call(function: Callable[..., Any], given: Any, apart: bool = False) -> Any:
    """The function's result for a test's input. Raises what the function raises; after several ways, the first error.

    apart: the input is known to be one argument, or a tuple of several (problems that list their arguments), so nothing
    is guessed from a list's length. A TypeError of the function's own also leads to the next way, as in djinn.
    """
    if threading.stack_size() >= _LARGE_STACK:
        _wait_for_room(threading.stack_size())
    first: TypeError | None = None
    for positional, named in _ways(function, given, apart):
        try:
            return function(*positional, **named)
        except TypeError as error:
            first = first or error
    assert first is not None
    raise first


def _wait_for_room(size: int) -> None:
    """Wait a moment for the address space of a thread that the last call joined: `join` returns before it is freed."""
    for _ in range(50):
        try:
            mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS).close()
        except OSError:
            time.sleep(0.002)
        else:
            return


def given_of(arguments: Sequence[Any]) -> Any:
    """The input that a case's arguments make: the argument itself, or a tuple of several."""
    return arguments[0] if len(arguments) == 1 else tuple(arguments)


def _ways(function: Callable[..., Any], given: Any, apart: bool) -> list[tuple[Sequence[Any], dict[str, Any]]]:
    """Positional and named arguments of each try, in order."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # built-in functions may have none
        signature = None
    if signature is not None and not signature.parameters:
        return [((), {})]
    whole: tuple[Sequence[Any], dict[str, Any]] = ((given,), {})
    if isinstance(given, dict):
        by_name = bool(given) and all(isinstance(key, str) for key in given) and _takes(signature, (), given)
        return [whole, ((), given)] if by_name else [whole]
    if not isinstance(given, tuple | list):
        return [whole]
    spread: tuple[Sequence[Any], dict[str, Any]] = (given, {})
    if signature is None:
        return [spread, whole]
    parameters = list(signature.parameters.values())
    if len(parameters) == 1:
        several = apart and parameters[0].kind is parameters[0].VAR_POSITIONAL and isinstance(given, tuple)
        return [spread, whole] if several else [whole, spread]
    one = isinstance(given, list) and (apart or len(given) != len(parameters))
    if one and _takes(signature, (given,), {}):
        return [whole, spread]
    return [spread, whole]


def _takes(signature: inspect.Signature | None, positional: Sequence[Any], named: dict[str, Any]) -> bool:
    if signature is None:
        return False
    try:
        signature.bind(*positional, **named)
    except TypeError:
        return False
    return True
