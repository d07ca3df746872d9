"""Work killed at its writes, and started again until it gets through."""

from __future__ import annotations

import itertools
import os
import socket
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

Result = TypeVar("Result")


def die_at(work: Callable[[], object], at: int) -> int:
    """Work in a process that ends, as by SIGKILL, before its Nth operation on files; returns how many it began."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # other threads may run, of which the child needs none
        pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    seen = 0

    def hook(event: str, _: object) -> None:
        nonlocal seen
        if event == "open" or event.startswith(("os.", "shutil.")):
            seen += 1
            if seen == at:
                os._exit(seen)

    sys.addaudithook(hook)
    work()
    os._exit(seen)


class KilledError(Exception):
    """In place of kill -9."""


def until_done(work: Callable[[], Result], monkeypatch: pytest.MonkeyPatch) -> tuple[Result, int]:
    """What `work` returns, and its attempts: the n-th is killed at its n-th file, in turn before the file is in its
    place (what was written then stays, as a dead process's temporary) and just after."""
    replace = Path.replace

    def killing(at: int) -> Callable[[Path, Path], Path]:
        count = itertools.count(1)

        def replace_or_die(self: Path, target: Path) -> Path:
            if (n := next(count)) == at and n % 2:
                replace(self, self.with_name(f".{target.name}.{socket.gethostname()}-{2**22 + 1}.tmp"))
                raise KilledError
            done = replace(self, target)
            if n == at:
                raise KilledError
            return done

        return replace_or_die

    for attempt in itertools.count(1):
        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", killing(attempt))
            try:
                return work(), attempt
            except KilledError:
                continue
    raise AssertionError
