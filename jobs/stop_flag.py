"""A stop that a signal asks for and that work looks at between batches, so that it ends where nothing is lost."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)


@dataclass
class StopFlag:
    """Set by a signal, asked between batches."""

    requested: bool = False

    def __call__(self) -> bool:
        return self.requested

    def install(self) -> None:
        """Set the flag on SIGTERM, SIGINT and SIGUSR2; a second SIGINT leaves at once."""

        def handle(number: int, frame: FrameType | None) -> None:
            if self.requested and number == signal.SIGINT:
                raise KeyboardInterrupt
            self.requested = True

        for number in _SIGNALS:
            signal.signal(number, handle)

    @contextmanager
    def installed(self) -> Iterator[StopFlag]:
        """Installed for a while: the former handlers come back afterwards."""
        before = {number: signal.getsignal(number) for number in _SIGNALS}
        self.install()
        try:
            yield self
        finally:
            for number, old in before.items():
                signal.signal(number, old)
