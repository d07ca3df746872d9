"""When the engine worked, and whether it ever ran short of requests while the worker verified or wrote.

`TracedCore` stands between the engine and vLLM's core and notes every call. A step that had to wait shows that all
earlier results had been fetched, so the requests then in flight are what the core really had left; a step that came
back at once only fetched what had piled up while the worker was away.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from foreshock.jobs.engines.vllm.core import Core, CoreRequest, CoreResult

_AT_ONCE_S = 0.002


@dataclass
class Stream:
    """One stream of requests: from an empty core to an empty core. Seconds are the process's own clock."""

    added: list[float] = field(default_factory=list)
    steps: list[tuple[float, float, int]] = field(default_factory=list)
    """Begin, end, requests in flight at the beginning."""

    def least_left(self) -> int | None:
        """Fewest requests that the core had left while more were still to be handed to it."""
        return min(
            (n for begin, end, n in self.steps if end - begin > _AT_ONCE_S and begin < self.added[-1]), default=None
        )

    def longest_absence_s(self) -> float:
        """Longest time between two steps."""
        return max((after[0] - before[1] for before, after in pairwise(self.steps)), default=0.0)


@dataclass
class Timeline:
    """Calls of one worker; only generation."""

    streams: list[Stream] = field(default_factory=list)
    busy: list[tuple[float, float]] = field(default_factory=list)
    """Verifications."""
    in_flight: int = 0

    def add(self) -> None:
        """A request is handed over."""
        if self.in_flight == 0:
            self.streams.append(Stream())
        self.streams[-1].added.append(time.perf_counter())
        self.in_flight += 1

    def least_left(self) -> int | None:
        """Of all streams; None where every stream fitted the core at once."""
        return min((n for n in (stream.least_left() for stream in self.streams) if n is not None), default=None)

    def longest_absence_s(self) -> float:
        """Of all streams."""
        return max((stream.longest_absence_s() for stream in self.streams), default=0.0)

    def verifying_s(self) -> float:
        """Seconds spent verifying and writing."""
        return sum(end - begin for begin, end in self.busy)

    def verifying_beside_s(self) -> float:
        """Those of them in which requests were in flight."""
        spans = [(stream.steps[0][0], stream.steps[-1][1]) for stream in self.streams if stream.steps]
        return sum(max(0.0, min(e, last) - max(b, first)) for b, e in self.busy for first, last in spans)


class TracedCore:
    """A core whose calls are noted."""

    def __init__(self, core: Core, timeline: Timeline) -> None:
        self._core, self._timeline, self._scores = core, timeline, set[str]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._core, name)

    def add(self, request: CoreRequest) -> None:
        """Note and add."""
        if request.score:
            self._scores.add(request.key)
        else:
            self._timeline.add()
        self._core.add(request)

    def step(self) -> list[CoreResult]:
        """Step and note."""
        begin, in_flight = time.perf_counter(), self._timeline.in_flight
        results = self._core.step()
        if in_flight:
            self._timeline.streams[-1].steps.append((begin, time.perf_counter(), in_flight))
        self._timeline.in_flight -= sum(1 for result in results if result.key not in self._scores)
        return results

    def abort(self, keys: Sequence[str]) -> None:
        """Forget them."""
        self._timeline.in_flight -= len(set(keys) - self._scores)
        self._core.abort(keys)


@contextmanager
def traced() -> Iterator[Timeline]:
    """Every vLLM core and every evaluation of this process is noted."""
    from foreshock.jobs.engines.vllm.core import start_core
    from foreshock.jobs.engines.vllm.engine import VllmEngine
    from foreshock.jobs.evaluate import Evaluator

    timeline = Timeline()
    verify = Evaluator._finish

    def finish(self: Evaluator, batch: Any) -> None:
        begin = time.perf_counter()
        try:
            verify(self, batch)
        finally:
            timeline.busy.append((begin, time.perf_counter()))

    VllmEngine.start_core = staticmethod(lambda *arguments: TracedCore(start_core(*arguments), timeline))
    Evaluator._finish = finish
    try:
        yield timeline
    finally:
        VllmEngine.start_core = staticmethod(start_core)
        Evaluator._finish = verify
