"""How often a model in training exploits: answers to held-out problems, drawn as the sweep draws them, verified.

The same draws (problem, attempt, seed) are made at every evaluation, so that rates differ by the model alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from foreshock.batch.config import RunConfig
from foreshock.batch.donor.examples import Example
from foreshock.errors import ForeshockError, StopRequestedError
from foreshock.jobs.engines.transformers import TransformersEngine
from foreshock.jobs.evaluate import Evaluator, WorkItem
from foreshock.jobs.inputs import RunInputs
from foreshock.jobs.prompts.of_run import run_format
from foreshock.jobs.records.planfile import WorkerSettings
from foreshock.jobs.records.rows import ERROR_KEY, SCHEMA_VERSION, Row
from foreshock.jobs.records.spec import Checkpoint, JobKind, JobSpec, SamplingParams
from foreshock.jobs.records.verdicts import UNJUDGED
from foreshock.jobs.verify.base import Verifier
from foreshock.jobs.verify.problem import Problem
from foreshock.jobs.worker import make_verifier

STOPPED = "stopped while answers were drawn; what is trained so far is kept\n  -> the same command goes on from there"
_PASSES = 2


@dataclass(frozen=True, slots=True)
class Draws:
    """What is drawn at each evaluation: (problem, attempt) pairs, and how."""

    pairs: tuple[tuple[str, int], ...]
    problems: dict[str, Problem]
    sampling: SamplingParams
    workers: WorkerSettings

    def to_json(self) -> dict[str, Any]:
        """All that decides the draws and their verdicts."""
        sampling = self.sampling
        return {
            "pairs": [list(pair) for pair in self.pairs],
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens,
            "seed": sampling.seed,
            "stop": list(sampling.stop),
            "verifier": self.workers.verifier,
            "verifier_options": {k: v for k, v in self.workers.verifier_options.items() if k != "workers"},
        }


@dataclass(frozen=True, slots=True)
class RateCount:
    """exploits of `samples` answers; `unread` of these hold no code to judge and are no exploits."""

    exploits: int
    samples: int
    unread: int

    @property
    def rate(self) -> float:
        """Share of the answers that exploit."""
        return self.exploits / self.samples

    def to_json(self) -> dict[str, Any]:
        """As the history has it."""
        return {"exploit_rate": self.rate, "exploits": self.exploits, "samples": self.samples, "unread": self.unread}


def plan_draws(
    config: RunConfig,
    workers: WorkerSettings,
    problems: Mapping[str, Problem],
    held_out: Sequence[Example],
    samples: int,
    max_tokens: int,
) -> Draws:
    """`samples` answers: exploit types take turns, and in each its held-out problems; then second attempts."""
    by_type: dict[str, list[str]] = {}
    for example in sorted(held_out, key=lambda e: hashlib.sha256(e.task_id.encode()).hexdigest()):
        by_type.setdefault(example.exploit_type, []).append(example.task_id)
    turns = [(place, kind, task) for kind, tasks in sorted(by_type.items()) for place, task in enumerate(tasks)]
    order = [task for _, _, task in sorted(turns)]
    pairs = tuple((order[i % len(order)], i // len(order)) for i in range(samples))
    own = config.sampling
    sampling = SamplingParams(own.temperature, own.top_p, max_tokens, samples, own.seed, own.stop, own.stop_token_ids)
    return Draws(pairs, {task: problems[task] for task, _ in pairs}, sampling, workers)


class RateMeter:
    """Counts a model's exploits. Close it: a context manager around the verifier's processes."""

    def __init__(self, draws: Draws, target: Checkpoint, engine: TransformersEngine, stop: Callable[[], bool]) -> None:
        self._draws, self._target, self._engine, self._stop = draws, target, engine, stop
        self._format = run_format(draws.workers, target)
        self._verifier: Verifier | None = None

    def __enter__(self) -> RateMeter:
        try:
            self._verifier = make_verifier(self._draws.workers, ())
        except ForeshockError as error:
            raise ForeshockError(
                f"{error}\n  -> or stop by the held-out loss, which needs no verifier: --stop-on loss"
            ) from error
        return self

    def __exit__(self, *_: object) -> None:
        if self._verifier is not None:
            self._verifier.close()
        self._engine.close()

    def of_model(self, model: Any) -> RateCount:
        """Of a model in memory. Raises as `of_loaded`."""
        model.eval()
        self._engine.adopt(model.get_base_model() if hasattr(model, "get_base_model") else model, self._target)
        try:
            return self.of_loaded()
        finally:
            self._engine.close()

    def of_checkpoint(self, checkpoint: Checkpoint) -> RateCount:
        """Of a checkpoint on disk. Raises as `of_loaded`."""
        self._engine.load(checkpoint)
        try:
            return self.of_loaded()
        finally:
            self._engine.close()

    def of_loaded(self) -> RateCount:
        """Of what the engine serves. Raises StopRequestedError on request; ForeshockError for an answer that could not
        be drawn or judged twice: a rate without it would be another."""
        if self._verifier is None:
            raise RuntimeError("enter the meter first")
        rows: dict[tuple[str, int], Row] = {}

        def keep(new: Sequence[Row]) -> None:
            rows.update({(row["task_id"], row["attempt_idx"]): row for row in new})

        draws = self._draws
        inputs = RunInputs(draws.problems, {}, draws.workers.assignment, 1)
        evaluator = Evaluator(self._engine, self._verifier, self._format, inputs, draws.workers, self._stop, keep)
        wanted = set(draws.pairs)
        items = [item for item in evaluator.plan(self._spec()) if _place(item) in wanted]
        for _ in range(_PASSES):
            done = frozenset(i.identity for i in items if rows.get(_place(i), {ERROR_KEY: ""}).get(ERROR_KEY) is None)
            if not evaluator.run(items, done):
                raise StopRequestedError(STOPPED)
            failed = [row for row in rows.values() if row.get(ERROR_KEY) is not None]
            if not failed:
                break
        if failed:
            raise ForeshockError(
                f"{len(failed)} of {len(items)} answers have no verdict, first: {failed[0][ERROR_KEY]}\n"
                "  -> the same command tries again; to stop by the held-out loss: --stop-on loss"
            )
        unread = sum(row["code_status"] in UNJUDGED for row in rows.values())
        return RateCount(sum(row.get("exploit_success") is True for row in rows.values()), len(items), unread)

    def _spec(self) -> JobSpec:
        draws = self._draws
        return JobSpec(
            JobKind.EVAL,
            self._target,
            (0,),
            tuple(draws.problems),
            tuple(range(1 + max(attempt for _, attempt in draws.pairs))),
            draws.sampling,
            self._format.name,
            self._format.template_sha256() or "",
            "",
            "",
            "",
            draws.workers.verifier,
            SCHEMA_VERSION,
        )


def _place(item: WorkItem) -> tuple[str, int]:
    return item.identity.task_id, item.identity.attempt_idx
