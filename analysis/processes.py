"""Further interpreters on this machine, for work that one core is too slow for.

They are new processes, not forks, since this one may have threads; and they live no longer than the work is wanted.
Each listens to a pipe whose other end closes when the work is given up (Ctrl-C, an error) or when this process ends,
by whatever signal.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

from foreshock.freed_memory import keep_freed

_MOST_KEPT_BYTES = 1 << 28


def n_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def keep_freed_memory() -> None:
    """For a process that allocates and frees large blocks over and over: pages that are fetched anew can cost more than
    what is done with them."""
    keep_freed(_MOST_KEPT_BYTES, _MOST_KEPT_BYTES)


@contextmanager
def process_pool(
    n_processes: int, start: Callable[..., None] | None = None, *arguments: Any
) -> Iterator[ProcessPoolExecutor]:
    """A pool of `n_processes`; each calls `start(*arguments)` once. An error inside the block ends their work."""
    context = multiprocessing.get_context("spawn")
    listening, held = context.Pipe(duplex=False)
    with listening, held:
        pool = ProcessPoolExecutor(n_processes, context, _begin, (listening, start, arguments))
        try:
            yield pool
        except BaseException:
            held.close()
            pool.shutdown(cancel_futures=True)
            raise
        pool.shutdown()


def _begin(listening: Connection, start: Callable[..., None] | None, arguments: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the terminal: whoever started this process stops it
    threading.Thread(target=_leave_when_closed, args=(listening,), daemon=True).start()
    if start is not None:
        start(*arguments)


def _leave_when_closed(listening: Connection) -> None:
    listening.poll(None)
    os._exit(1)  # what is half written is a temporary file
