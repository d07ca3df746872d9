"""Pooled sandbox workers behind every verifier: retries, the rate stop, and many submissions at a time.

An infrastructure failure is tried again and then reported as such; when too many submissions end so, the job stops,
because a table with holes that follow the load of the machine is not a result.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import queue
import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any

from foreshock.errors import ForeshockError
from foreshock.jobs.closing import Closing
from foreshock.jobs.records.verdicts import SandboxTier
from foreshock.jobs.verify.base import Outcome, Submission, Verdict, Verification
from foreshock.jobs.verify.problem import Problem
from foreshock.jobs.verify.sandbox.memory import available_bytes, fitting
from foreshock.jobs.verify.sandbox.worker import START_S, InfraError, Run, StarvedError, Worker, ZygoteConfig

_log = logging.getLogger(__name__)
_TRIES = 3
_RATE = 0.05
_MINIMUM = 20
_IN_A_ROW = 8


class InfraRateExceededError(ForeshockError):
    """So many verifications failed for reasons of infrastructure that the job must stop."""


class RateStop:
    """Counts infrastructure errors. Thread-safe."""

    def __init__(self, rate: float = _RATE, minimum: int = _MINIMUM, in_a_row: int = _IN_A_ROW) -> None:
        self._limits = (rate, minimum, in_a_row)
        self._lock = threading.Lock()
        self._total = self._errors = self._row = 0

    def record(self, detail: str | None) -> None:
        """Count one verification; `detail` of its infrastructure error, None if it had none.

        Raises InfraRateExceededError past the rate (once `minimum` were counted) or after `in_a_row` at a stretch.
        """
        rate, minimum, in_a_row = self._limits
        with self._lock:
            self._total += 1
            self._errors += detail is not None
            self._row = self._row + 1 if detail is not None else 0
            too_many = self._total >= minimum and self._errors > rate * self._total
            if detail is not None and (too_many or self._row >= in_a_row):
                raise InfraRateExceededError(
                    f"{self._errors} of {self._total} verifications failed for reasons of infrastructure, the last "
                    f"{self._row} in a row; last: {detail}. Nothing of this was counted as an outcome. "
                    "Next: foreshock doctor"
                )


class WorkerPool:
    """`size` zygotes, or as many as the memory is enough for; each runs one submission at a time.

    Zygotes start when first used. Thread-safe.
    """

    def __init__(self, config: ZygoteConfig, size: int) -> None:
        if size < 1:
            raise ValueError(f"workers={size}; must be at least 1")
        self.size = fitting(size, config.limits, available_bytes())
        if self.size < size:
            _log.warning(
                "memory for %d submissions at a time, each up to %d MB: %d verification workers instead of %d",
                self.size,
                config.limits.memory_bytes >> 20,
                self.size,
                size,
            )
        self._idle: queue.LifoQueue[Worker] = queue.LifoQueue()
        self._all = [Worker(config) for _ in range(self.size)]
        for worker in self._all:
            self._idle.put(worker)
        self._closed = False

    def call(self, task: Callable[[Worker], Verification]) -> Verification:
        """Run a task with a worker of its own; raises InfraError after `_TRIES` tries, or START_S of starting."""
        if self._closed:
            raise RuntimeError("this verifier is closed")
        worker = self._idle.get()
        started = time.monotonic()
        try:
            for attempt in range(1, _TRIES + 1):
                try:
                    return task(worker)
                except StarvedError:
                    raise
                except InfraError as error:
                    late = error.at_start and time.monotonic() - started > START_S / 2
                    if attempt == _TRIES or late:
                        raise InfraError(f"{error} (tried {attempt} times)") from error
            raise AssertionError("unreachable")
        finally:
            self._idle.put(worker)

    def close(self) -> None:
        """Stop every zygote."""
        self._closed = True
        for worker in self._all:
            worker.close()


class SandboxedVerifier(Closing):
    """Common part of the verifiers: no code fails both; otherwise two confined runs, judged here."""

    name: str

    def __init__(self, config: ZygoteConfig, workers: int) -> None:
        self.tier: SandboxTier = config.tier
        self.wall_s = config.limits.wall_s
        self._limits = config.limits
        self.heavy_bytes = config.limits.memory_bytes // 8
        self._pool = WorkerPool(config, workers)
        self._rate = RateStop()

    @abstractmethod
    def identity(self) -> str:
        """Name and version; a change means that verdicts may differ."""

    def conditions(self) -> str:
        """What a verdict depends on beside problem and code."""
        return f"{self.identity()}:{self.tier.value}:{self._limits!r}:python {platform.python_version()}"

    @abstractmethod
    def supports(self, problem: Problem) -> bool:
        """Whether the exploit type is known."""

    @abstractmethod
    def _verify_in(self, worker: Worker, problem: Problem, code: str) -> Verification:
        """Both verdicts, from two runs in `worker`."""

    def verify(self, problem: Problem, code: str | None) -> Verification:
        """Both verdicts. No code fails both, without running anything.

        Raises ValueError for an unknown exploit type and InfraRateExceededError past the rate of infrastructure errors.
        """
        if not self.supports(problem):
            raise ValueError(
                f"problem {problem.id!r} has exploit type {problem.exploit_type!r}, which verifier {self.name!r} "
                f"does not know; valid: {', '.join(self.exploit_types())}"
            )
        if code is None:
            missing = Verdict(Outcome.FAILED, "the response held no code")
            return Verification(missing, missing, self.tier)
        try:
            verification = self._pool.call(lambda worker: self._verify_in(worker, problem, code))
        except InfraError as error:
            broken = Verdict(Outcome.INFRA_ERROR, str(error))
            verification = Verification(broken, broken, self.tier)
        self._rate.record(_infra_detail(verification))
        return verification

    @abstractmethod
    def exploit_types(self) -> Sequence[str]:
        """The exploit types this verifier knows, sorted."""

    def verify_many(self, submissions: Sequence[Submission]) -> Iterator[tuple[int, Verification]]:
        """(submission_id, Verification) of each, as they finish, over this verifier's workers."""
        with ThreadPoolExecutor(self._pool.size, thread_name_prefix="verify") as threads:
            waiting: dict[Future[Verification], int] = {}
            rest = iter(submissions)
            try:
                while True:
                    while len(waiting) < 2 * self._pool.size and (one := next(rest, None)) is not None:
                        waiting[threads.submit(self.verify, one.problem, one.code)] = one.submission_id
                    if not waiting:
                        return
                    done, _ = wait(waiting, return_when=FIRST_COMPLETED)
                    for future in done:
                        yield waiting.pop(future), future.result()
            finally:
                for future in waiting:
                    future.cancel()

    def close(self) -> None:
        """Stop every worker process."""
        self._pool.close()


def _infra_detail(verification: Verification) -> str | None:
    for verdict in (verification.secure, verification.insecure):
        if verdict.outcome is Outcome.INFRA_ERROR:
            return verdict.detail or "no reason given"
    return None


def run_request(
    worker: Worker, request: dict[str, Any], wall_s: float | None = None, result_bytes: int | None = None
) -> Run:
    """Send one request to a confined process of `worker`; `wall_s`, `result_bytes` instead of the worker's limits."""
    return worker.run(json.dumps(request).encode(), wall_s, result_bytes)


def default_workers() -> int:
    """One worker a usable core."""
    return max(1, len(os.sched_getaffinity(0)))
