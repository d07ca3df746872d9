"""Attempts that a confined process must fail at, run in the sandbox to learn what a tier really forbids.

A layer counts as present when an attempt fails, not when a version number promises it.
"""

from __future__ import annotations

import json
import os
import resource
import socket
import struct
from collections.abc import Callable
from typing import Any


def prepare(options: dict[str, Any]) -> None:
    """Nothing to import."""


def run(channel: int) -> int:
    """Make every attempt of the request and report which succeeded."""
    (size,) = struct.unpack(">Q", os.read(channel, 8))
    request = json.loads(os.read(channel, size))
    answer = {name: _attempt(name, request) for name in request["attempts"]}
    payload = json.dumps(answer).encode()
    os.write(channel, struct.pack(">Q", len(payload)) + payload)
    return 0


def _attempt(name: str, request: dict[str, Any]) -> str:
    """'done' when the attempt succeeded, else why it failed."""
    try:
        ATTEMPTS[name](request)
    except (OSError, MemoryError) as error:
        return f"{type(error).__name__}: {error}"
    return "done"


def _read_file(request: dict[str, Any]) -> None:
    with open(request["secret"], "rb") as handle:
        handle.read()


def _write_file(request: dict[str, Any]) -> None:
    with open(request["target"], "wb") as handle:
        handle.write(b"x")


def _truncate_file(request: dict[str, Any]) -> None:
    os.close(os.open(request["secret"], os.O_RDONLY | os.O_TRUNC))


def _change_mode(request: dict[str, Any]) -> None:
    os.chmod(request["secret"], 0o600)


def _read_judge_memory(request: dict[str, Any]) -> None:
    with open(f"/proc/{request['judge']}/environ", "rb") as handle:
        handle.read()


def _connect(request: dict[str, Any]) -> None:
    with socket.socket() as client:
        client.settimeout(1)
        client.connect(("127.0.0.1", request["port"]))


def _udp(request: dict[str, Any]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.sendto(b"x", ("127.0.0.1", request["port"]))


def _fork(request: dict[str, Any]) -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def _signal(request: dict[str, Any]) -> None:
    os.kill(request["other"], 0)


def _private_tmp(request: dict[str, Any]) -> None:
    with open(f"/tmp/{request['marker']}", "wb"):
        pass


def _memory(request: dict[str, Any]) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    if hard == resource.RLIM_INFINITY:
        return
    block = bytearray(hard)
    del block


def _capability(request: dict[str, Any]) -> None:
    os.chroot("/")


def _namespace(request: dict[str, Any]) -> None:
    unshare = getattr(os, "unshare", None)  # since Python 3.12
    if unshare is not None:
        unshare(0x10000000)
        return
    import ctypes

    if ctypes.CDLL(None, use_errno=True).unshare(0x10000000) != 0:
        raise OSError(ctypes.get_errno(), "unshare")


ATTEMPTS: dict[str, Callable[[dict[str, Any]], None]] = {
    "read the user's files": _read_file,
    "write the user's files": _write_file,
    "truncate the user's files": _truncate_file,
    "change modes of the user's files": _change_mode,
    "read the judge's environment": _read_judge_memory,
    "connect to a local port": _connect,
    "send a datagram": _udp,
    "start a process": _fork,
    "signal another process": _signal,
    "allocate past the memory limit": _memory,
    "enter a new user namespace": _namespace,
    "use a capability": _capability,
    "write to /tmp": _private_tmp,
}
