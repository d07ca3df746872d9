"""Ctrl-C and a scheduler's SIGTERM as a flag, for work that ends where nothing is lost."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def stop_flag() -> Iterator[list[int]]:
    """A list that Ctrl-C or SIGTERM makes non-empty; a second Ctrl-C interrupts at once."""
    got: list[int] = []

    def handle(number: int, frame: Any) -> None:
        if got and number == signal.SIGINT:
            raise KeyboardInterrupt
        got.append(number)

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield got
    finally:
        for number, old in before.items():
            signal.signal(number, old)
