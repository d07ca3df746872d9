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
from typing import Any

from foreshock.jobs.engines.vllm.core import Core, CoreRequest, CoreResult

_AT_ONCE_S = 0.002


@dataclass
class Timeline:
    """Calls of one worker, in seconds since its start. `requests` and `steps` hold only generation."""

    requests: list[float] = field(default_factory=list)
    steps: list[tuple[float, float, int]] = field(default_factory=list)
    """Begin, end, requests in flight at the beginning."""
    busy: list[tuple[float, float]] = field(default_factory=list)
    """Verifications."""
    in_flight: int = 0

    def least_left(self) -> int | None:
        """Fewest requests that the core had left while more were still to be handed to it."""
        last = max(self.requests, default=0.0)
        return min((n for begin, end, n in self.steps if end - begin > _AT_ONCE_S and begin < last), default=None)

    def longest_absence_s(self) -> float:
        """Longest time between two steps of a stream of requests."""
        pairs = zip(self.steps, self.steps[1:], strict=False)
        return max((after[0] - before[1] for before, after in pairs if after[2] > 0 and before[2] > 0), default=0.0)

    def verifying_s(self) -> float:
        """Seconds spent verifying."""
        return sum(end - begin for begin, end in self.busy)

    def verifying_beside_s(self) -> float:
        """Those of them in which requests were in flight: between a stream's first step and its last."""
        if not self.steps:
            return 0.0
        first, last = self.steps[0][0], self.steps[-1][1]
        return sum(max(0.0, min(end, last) - max(begin, first)) for begin, end in self.busy)


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
            self._timeline.requests.append(time.perf_counter())
            self._timeline.in_flight += 1
        self._core.add(request)

    def step(self) -> list[CoreResult]:
        """Step and note."""
        begin, in_flight = time.perf_counter(), self._timeline.in_flight
        results = self._core.step()
        if in_flight:
            self._timeline.steps.append((begin, time.perf_counter(), in_flight))
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
