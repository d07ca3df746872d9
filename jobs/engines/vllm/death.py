"""A killed engine core wakes whoever waits for it, and may have been killed together with us.

vLLM 0.32's synchronous client notices a core that was killed, marks it dead and stops listening, and leaves a caller
that waits for output or for an answer waiting for ever.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import InvalidStateError
from multiprocessing.connection import wait
from typing import Any

from foreshock.jobs.engines.base import Stop, never

_GRACE_S = 1.0
"""A core that dies of a signal meant for all processes dies before this one has seen the signal."""


def wake_on_death(client: Any, death: Callable[[], Exception]) -> None:
    """Once one of the client's core processes has ended, raise `death()` in every wait, present or to come.

    `client` is vLLM's SyncMPClient: `resources` (engine_manager.processes, engine_dead), `outputs_queue` and
    `utility_results` are used. After an orderly shutdown nobody waits, and this does no harm.
    """
    sentinels = [os.dup(process.sentinel) for process in client.resources.engine_manager.processes]

    def watch() -> None:
        wait(sentinels)
        for sentinel in sentinels:
            os.close(sentinel)
        client.resources.engine_dead = True  # refuses what is asked from here on
        client.outputs_queue.put_nowait(death())
        for answer in list(client.utility_results.values()):
            try:
                answer.set_exception(death())
            except InvalidStateError:
                continue  # it came in time

    threading.Thread(target=watch, name="foreshock-vllm-death", daemon=True).start()


def stopped_soon(stop: Stop) -> bool:
    """Whether the process is being stopped, as a signal that killed the core may have said to both."""
    give_up = time.monotonic() + _GRACE_S
    while not stop():
        if stop is never or time.monotonic() > give_up:
            return False
        time.sleep(0.05)
    return True
