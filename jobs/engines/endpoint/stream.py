"""Many requests at once from ordinary, blocking code.

An event loop on a thread of its own and a fixed number of workers that draw from the requests. Memory then holds the
requests in flight and a bounded number of finished ones, whatever the length of the list, and leaving the iterator
early cancels what is in flight, which makes a server stop generating for it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")

_FINISHED = 1024
"""Results that may wait for the caller while requests go on."""


class LoopThread:
    """An event loop that runs on a daemon thread until `close`."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="endpoint", daemon=True)
        self._thread.start()

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop and wait for it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def close(self) -> None:
        """Stop the loop and its thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()


class Stream(Generic[T, R]):
    """Results of `work` over `items`, as they finish. Made, read and cancelled on the loop."""

    def __init__(self, items: Iterable[T], work: Callable[[T], Awaitable[R]], concurrency: int) -> None:
        self._items = iter(items)
        self._work = work
        self._finished: asyncio.Queue[R | BaseException | None] = asyncio.Queue(_FINISHED)
        self._tasks = [asyncio.create_task(self._draw()) for _ in range(concurrency)]
        self._running = len(self._tasks)

    async def next_batch(self, linger_s: float, patience_s: float) -> list[R] | None:
        """The next finished result and whatever else finishes within `linger_s` of it; None at the end.

        An empty list says that nothing finished for `patience_s`. Raises what `work` raised; results that finished
        beside it are dropped.
        """
        batch: list[R] = []
        clock = asyncio.get_running_loop().time
        deadline = clock() + patience_s
        while len(batch) < _FINISHED // 4:
            if self._finished.empty():
                if not self._running:
                    return batch or None
                if clock() >= deadline:
                    break
            try:
                async with asyncio.timeout_at(max(deadline, clock() + 0.001)):
                    item = await self._finished.get()
            except TimeoutError:
                break
            if isinstance(item, BaseException):
                raise item
            if item is None:  # a worker ran out of items
                self._running -= 1
            else:
                batch.append(item)
                if len(batch) == 1:
                    deadline = clock() + linger_s
        return batch

    async def cancel(self) -> None:
        """Give up what is in flight."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _draw(self) -> None:
        try:
            for item in self._items:
                await self._finished.put(await self._work(item))
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - handed to the caller, whose thread it belongs to
            await self._finished.put(error)
        else:
            await self._finished.put(None)
