"""A killed engine core wakes whoever waits for it.

vLLM 0.32's synchronous client notices a core that was killed, marks it dead and stops listening, and leaves a caller
that waits for output or for an answer waiting for ever.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import InvalidStateError
from multiprocessing.connection import wait
from typing import Any


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
