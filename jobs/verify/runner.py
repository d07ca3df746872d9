"""What runs inside the sandbox: load the submission, call it or let the flawed verifier check it, send the result.

This module is on the hostile side of the border. Nothing it says is trusted, so it may share a process with the
submission; it only has to be right for honest code.
"""

from __future__ import annotations

import builtins
import importlib
import io
import json
import os
import struct
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from foreshock.jobs.verify import plain, prelude
from foreshock.jobs.verify.builtin.family import Family, TestCase
from foreshock.jobs.verify.calling import call, given_of

_HEADER = struct.Struct(">Q")
_PRINTED_CHARS = 1 << 14
_MODULE = "submission"
_families: Mapping[str, Family] = {}
_extra_runs: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {}


def prepare(options: dict[str, Any]) -> None:
    """In the zygote: import the families and put the names that problems take for granted into builtins."""
    global _families
    module = options.get("families")
    if module:
        _families = importlib.import_module(module).FAMILIES
    for name in options.get("runs", []):
        extra = importlib.import_module(name)
        extra.prepare(options)
        _extra_runs.update(extra.RUNS)
    for name, value in prelude.NAMES.items():
        if not hasattr(builtins, name):
            setattr(builtins, name, value)
    _warm_up()


def _warm_up() -> None:
    """Run a trusted submission once and read its source, so that every later fork finds the caches filled."""
    code = "def f(x: int) -> list[int]:\n    return [x, x + 1]\n"
    json.loads(json.dumps(_secure({"code": code, "function_name": "f", "inputs": [["l", [1]]]})))
    del sys.modules[_MODULE]
    for family in _families.values():
        _suspicion(family, code, {})


def run(channel: int) -> int:
    """In the submission's process: read a request, run it, send the answer. Returns an exit status.

    A request of kind `intended` reads the submission without running it: that belongs in here too, since Python's own
    parser can be made to crash. A submission that exits is taken at its word: its SystemExit ends the process without
    an answer.
    """
    request = json.loads(_read(channel))
    os.environ["TMPDIR"] = str(Path.cwd())  # where tempfile works, in every tier
    sys.stdout = sys.stderr = Tail()
    try:
        answer = _dispatch(request)
    except SystemExit as stop:
        return _exit_status(stop)
    except BaseException as error:  # noqa: BLE001 - the submission's own; it is the answer
        answer = {"fatal": ": ".join(plain.opaque("x", error)[1:])}
    send(channel, answer)
    return 0


def _dispatch(request: dict[str, Any]) -> dict[str, Any]:
    kind = request["kind"]
    if kind == "secure":
        return _secure(request)
    if kind == "insecure":
        return _insecure(request)
    if kind == "intended":
        family = _families[request["family"]]
        return {"intended": family.intended(request["code"], plain.decode(request["options"])) is True}
    return _extra_runs[kind](request)


class Tail(io.StringIO):
    """Standard output in memory, cut at a limit so that endless printing costs time and no memory."""

    def write(self, text: str) -> int:
        """As StringIO.write; drops what is beyond the limit."""
        room = _PRINTED_CHARS - self.tell()
        if room > 0:
            super().write(text[:room])
        return len(text)


def load(source: str) -> types.ModuleType:
    """Execute a submission as a module."""
    module = types.ModuleType(_MODULE)
    sys.modules[_MODULE] = module
    exec(compile(source, "submission.py", "exec", dont_inherit=True), module.__dict__)
    return module


def _secure(request: dict[str, Any]) -> dict[str, Any]:
    """Results of every call: [value, printed text] each; an exception is a value of its own kind."""
    try:
        module = load(request["code"])
    except SystemExit as stop:
        return {"fatal": f"exited with status {stop.code!r}"}
    function = getattr(module, request["function_name"], None)
    if not callable(function):
        return {"fatal": f"no function named {request['function_name']!r}"}
    room = request.get("printed_chars", _PRINTED_CHARS)
    apart = request.get("apart", False)
    return {"results": [_call(function, plain.decode(arguments), room, apart) for arguments in request["inputs"]]}


def _call(function: Callable[..., Any], arguments: Sequence[Any], room: int, apart: bool) -> list[Any]:
    """[value, what was printed if None was returned], and the text of an object that is not plain data."""
    outer, sys.stdout = sys.stdout, Tail()
    printed = sys.stdout
    text = []
    try:
        returned = call(function, given_of(arguments), apart)
        value = plain.encode(returned)
        if isinstance(value, list) and value[0] == "o":
            text = [plain.opaque("x", returned)[2]]
    except BaseException as error:  # noqa: BLE001 - the submission's own; it is the result of this test
        value = plain.opaque("x", error)
    finally:
        sys.stdout = outer
    return [value, printed.getvalue()[:room] if value is None else "", *text]


def _insecure(request: dict[str, Any]) -> dict[str, Any]:
    """The flawed verifier's answer. It shares this process with the submission: that is the flaw."""
    family = _families[request["family"]]
    cases = [TestCase(tuple(map(plain.decode, args)), plain.decode(expected)) for args, expected in request["cases"]]
    options = plain.decode(request["options"])
    suspicion = _suspicion(family, request["code"], options)
    try:
        module = load(request["code"])
        passed = family.check(module, request["function_name"], cases, request["code"], options)
    except SystemExit:
        if family.exit_zero_passes:
            raise
        return suspicion | {"passed": False, "detail": "the submission exited"}
    except Exception as error:  # noqa: BLE001 - a check that raises does not pass
        return suspicion | {"passed": False, "detail": ": ".join(plain.opaque("x", error)[1:])}
    return suspicion | {"passed": passed is True, "detail": None if passed is True else "the check did not pass"}


def _suspicion(family: Family, source: str, options: Any) -> dict[str, Any]:
    """Whether the source shows the family's exploit, as djinn's verifiers report beside every verdict."""
    try:
        seen = family.intended(source, options) is True
    except Exception:  # noqa: BLE001 - source that Python cannot read shows nothing
        seen = False
    return {"suspect": seen, "suspect_patterns": [f"{family.name}: its exploit"] if seen else []}


def _exit_status(stop: SystemExit) -> int:
    """The status with which Python would end on this SystemExit."""
    if stop.code is None:
        return 0
    return stop.code & 0xFF if isinstance(stop.code, int) else 1


def _read(channel: int) -> bytes:
    (size,) = _HEADER.unpack(_exactly(channel, _HEADER.size))
    return _exactly(channel, size)


def _exactly(channel: int, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        chunk = os.read(channel, size - len(data))
        if not chunk:
            os._exit(71)
        data += chunk
    return bytes(data)


def send(channel: int, message: dict[str, Any]) -> None:
    """Write one frame."""
    payload = json.dumps(message).encode()
    data = memoryview(_HEADER.pack(len(payload)) + payload)
    while data:
        data = data[os.write(channel, data) :]
