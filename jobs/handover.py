"""Finished rows on their way from the engine to the verifier and the disk, while the engine goes on.

The receiver takes rows by the clock, not when the next one arrives. An engine may be busy for minutes with
continuations that are all long; what it finished before must not wait for them in memory.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Generic, Self, TypeVar

T = TypeVar("T")


class Handover(Generic[T]):
    """Hands what is `put` to `receive`, on a thread of its own, in order.

    `receive` gets everything that waits once that is `rows` rows, or the oldest has waited for `seconds`, or nothing
    more comes. What was put together is received together. At most `most_waiting` rows wait, one `put` beyond: then
    `put` blocks. An error of `receive` ends the thread and is raised by the next `put`, or when the context ends.
    """

    def __init__(self, receive: Callable[[Sequence[T]], None], *, rows: int, seconds: float, most_waiting: int) -> None:
        self._receive = receive
        self._rows, self._seconds, self._most_waiting = min(rows, most_waiting), seconds, most_waiting
        self._changed = threading.Condition()
        self._waiting: list[T] = []
        self._oldest = 0.0
        self._ended = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="verify")
        self.blocked_s = 0.0
        """Seconds that `put` waited for the receiver."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait until everything is received; when somebody wants to leave at once, only what is being received."""
        with self._changed:
            self._ended = True
            if kind is not None and not issubclass(kind, Exception):
                self._waiting.clear()
            self._changed.notify_all()
        self._thread.join()
        if self._error is not None and kind is None:
            raise self._error

    def put(self, items: Sequence[T]) -> None:
        """Hand over rows that are finished."""
        started = time.monotonic()
        with self._changed:
            self._changed.wait_for(lambda: len(self._waiting) < self._most_waiting or self._error is not None)
            now = time.monotonic()
            self.blocked_s += now - started
            if self._error is not None:
                raise self._error
            is_first = not self._waiting
            if is_first:
                self._oldest = now
            self._waiting += items
            if is_first or len(self._waiting) >= self._rows:
                self._changed.notify_all()

    def _take(self) -> list[T]:
        """What to receive next; empty at the end."""
        with self._changed:
            while not self._ended and len(self._waiting) < self._rows:
                left = self._oldest + self._seconds - time.monotonic() if self._waiting else None
                if left is not None and left <= 0:
                    break
                self._changed.wait(left)
            taken, self._waiting = self._waiting, []
            self._changed.notify_all()
            return taken

    def _run(self) -> None:
        try:
            while taken := self._take():
                self._receive(taken)
        except BaseException as error:  # noqa: BLE001 - raised where the rows come from
            with self._changed:
                self._error = error
                self._changed.notify_all()
