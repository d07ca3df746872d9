"""Run one array task: its specs in order, one model load per checkpoint, every finished batch durable.

A worker is stopped by a flag, not by an exception. Signals set it, the loop looks at it between batches, and what is
finished is on disk before the process leaves with 75, which asks to be requeued.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby
from typing import Any

from foreshock.code_version import running_commit
from foreshock.errors import ForeshockError
from foreshock.jobs.admission.load_record import record_load
from foreshock.jobs.as_planned import (
    require_gpus,
    require_planned_model,
    require_planned_place,
    require_planned_verifier,
)
from foreshock.jobs.device_name import device_of
from foreshock.jobs.engines.base import Engine
from foreshock.jobs.evaluate import Evaluator, Timings, WorkItem
from foreshock.jobs.inputs import RunInputs
from foreshock.jobs.progress import ProgressReporter
from foreshock.jobs.prompts.base import PromptFormat
from foreshock.jobs.prompts.of_run import run_format
from foreshock.jobs.records.bundling import Bundling
from foreshock.jobs.records.layout import RunLayout
from foreshock.jobs.records.planfile import EXPLOIT_CODE, PlanFile, WorkerSettings, read_task
from foreshock.jobs.records.ran_records import planned_by, write_ran
from foreshock.jobs.records.rows import ERROR_KEY, SCHEMA_VERSION, Row, RowIdentity, row_identity
from foreshock.jobs.records.shards import Origin, ShardStore, ShardWriter
from foreshock.jobs.records.spec import SAMPLED_KINDS, ArrayTask, Checkpoint, JobKind, JobSpec
from foreshock.jobs.scoring.exploit_code import score_code_spec
from foreshock.jobs.scoring.of_specs import score_spec
from foreshock.jobs.stop_flag import StopFlag
from foreshock.jobs.verify.base import Verifier
from foreshock.ran import Recorder

EXIT_COMPLETE = 0
EXIT_FAILED = 1
EXIT_STOPPED = 75
"""EX_TEMPFAIL: everything finished is on disk, run me again."""

_PASSES = 2
"""Times a spec's error rows are tried in one task before they are left for the next resume."""


@dataclass
class Worker:
    """Everything an array task needs. Engine and verifier are made once, on first use, by the given factories."""

    layout: RunLayout
    plan: PlanFile
    make_engine: Callable[[], Engine]
    make_verifier: Callable[[], Verifier]
    stop: StopFlag
    progress: ProgressReporter
    slurm_job: str | None = None
    recorder: Recorder | None = None
    failures: list[str] = field(default_factory=list)
    loads: int = 0
    """Checkpoints loaded so far: the first one starts the engine, the others are swaps."""
    _engine: Engine | None = None
    _verifier: Verifier | None = None

    def run(self, task: ArrayTask) -> int:
        """Do the task's unfinished specs; returns an exit code. One bad checkpoint does not stop the others."""
        store = ShardStore(self.layout)
        now = self.progress.now
        now.rows_total = sum(spec.n_rows for spec in task.specs)
        now.state = "running"
        todo = [spec for spec in task.specs if not store.is_complete(spec)]
        bundling = Bundling(store, task.specs, self.plan.settings.bundle_from, _say) if self.plan.bundled else None
        now.rows_resumed = now.rows_done = now.rows_total - sum(spec.n_rows for spec in todo)
        self.progress.say(force=True)
        try:
            for checkpoint, specs in groupby(todo, key=lambda spec: spec.checkpoint):
                if self.stop():
                    break
                own = list(specs)
                self._run_checkpoint(store, checkpoint, own)
                if bundling is not None and not self.stop():
                    bundling.sealed(len(own))
        finally:
            self.close()
        if bundling is not None and not self.stop():
            bundling.join()
        if self.stop() and not all(store.is_complete(spec) for spec in todo):
            return self._leave("stopped", EXIT_STOPPED)
        return self._leave("failed", EXIT_FAILED) if self.failures else self._leave("completed", EXIT_COMPLETE)

    def close(self) -> None:
        """Release engine and verifier."""
        for resource in (self._engine, self._verifier):
            if resource is not None:
                resource.close()
        self._engine = self._verifier = None

    def _leave(self, state: str, code: int) -> int:
        self.progress.now.state = state
        self.progress.now.message = "\n".join(self.failures)
        self.progress.say(force=True)
        return code

    def _run_checkpoint(self, store: ShardStore, checkpoint: Checkpoint, specs: list[JobSpec]) -> None:
        try:
            session = CheckpointSession(self, store, checkpoint, specs)
            session.run()
        except ForeshockError as error:
            self.failures.append(f"{checkpoint.name}: {error}")
        except Exception:  # noqa: BLE001 - a bug in one checkpoint's work must not lose the others
            self.failures.append(f"{checkpoint.name}: {traceback.format_exc()}")

    def engine(self) -> Engine:
        if self._engine is None:
            self._engine = self.make_engine()
        return self._engine

    def origin(self, *, ran_code: bool = False) -> Origin:
        """Who computes rows, as measured; `ran_code`: rows that the verifier judged, so its sandbox tier counts."""
        if self.recorder is None:
            return Origin(running_commit(), None, SCHEMA_VERSION, self.slurm_job)
        tier = getattr(self._verifier, "tier", None) if ran_code else None
        ran = self.recorder.ran(None if tier is None else str(tier.value))
        image = None if ran.image is None else ran.image.digest
        return Origin(ran.commit, image, SCHEMA_VERSION, self.slurm_job, ran=write_ran(self.layout, ran))

    def verifier(self) -> Verifier:
        if self._verifier is None:
            self._verifier = self.make_verifier()
        return self._verifier


class CheckpointSession:
    """The specs of one loaded checkpoint."""

    def __init__(self, worker: Worker, store: ShardStore, checkpoint: Checkpoint, specs: list[JobSpec]) -> None:
        self._worker = worker
        self._store = store
        self._checkpoint = checkpoint
        self._specs = specs
        self._settings = worker.plan.settings
        self._formats: dict[str, PromptFormat] = {}
        self._inputs = RunInputs.read(worker.layout, self._settings.assignment, worker.plan.n_attempts)
        started = time.perf_counter()
        worker.progress.now.doing = f"loading {checkpoint.name}"
        worker.progress.say()
        require_planned_model(checkpoint, specs[0].model_fingerprint)
        engine = worker.engine()
        swaps = getattr(engine, "swaps", 0)
        engine.load(checkpoint)
        swapped = getattr(engine, "swaps", 0) > swaps
        record_load(worker.layout, checkpoint, engine, swapped=swapped, together=worker.plan.bundled)
        self._loading = {"load_s": time.perf_counter() - started, "first_load": float(worker.loads == 0)}
        worker.loads += 1

    def run(self) -> None:
        """Scoring first, since it is short; then evaluation, all specs at once if the engine batches continuously."""
        scoring = [spec for spec in self._specs if spec.kind not in SAMPLED_KINDS]
        sampling = [spec for spec in self._specs if spec not in scoring]
        for spec in scoring:
            if self._worker.stop():
                return
            self._score(spec)
        groups = [sampling] if self._worker.engine().batch_rows is None else [[spec] for spec in sampling]
        for group in groups:
            if group and not self._worker.stop():
                self._sample(group)

    def _open(self, spec: JobSpec) -> ShardWriter:
        writer = self._store.open(spec, Origin(None, None, SCHEMA_VERSION))  # measured by the time it is sealed
        self._worker.progress.now.rows_done += len(writer.done)
        self._worker.progress.now.rows_resumed += len(writer.done)
        return writer

    def _format(self, spec: JobSpec) -> PromptFormat:
        if spec.prompt_format not in self._formats:
            self._formats[spec.prompt_format] = run_format(self._settings, spec.checkpoint, spec.prompt_format)
        return self._formats[spec.prompt_format]

    def _advance(self, spec: JobSpec, rows: Sequence[Row]) -> None:
        now = self._worker.progress.now
        now.doing = f"{spec.kind.value} {spec.checkpoint.name}" + (
            f" at {spec.levels[0]} words" if len(spec.levels) == 1 else ""
        )
        good = [row for row in rows if row.get(ERROR_KEY) is None]
        now.rows_done += len(good)
        now.rows_failed += len(rows) - len(good)
        now.exploits += sum(1 for row in good if row.get("exploit_success"))
        self._worker.progress.say()

    def _score(self, spec: JobSpec) -> None:
        writer = self._open(spec)
        started = time.perf_counter()
        errors: dict[RowIdentity, Row] = {}
        for rows in self._scored(spec, writer.done):
            writer.write_part([row for row in rows if row.get(ERROR_KEY) is None])
            errors |= {row_identity(row): row for row in rows if row.get(ERROR_KEY) is not None}
            self._advance(spec, rows)
            if self._worker.stop():
                break
        else:
            timings = {"score_s": time.perf_counter() - started, "rows": float(spec.n_rows)}
            self._seal(spec, writer, errors, timings | self._loading)

    def _scored(self, spec: JobSpec, done: frozenset[RowIdentity]) -> Iterator[list[Row]]:
        engine, own_format = self._worker.engine(), self._format(spec)
        if spec.kind in (JobKind.EXPLOIT_LOGPROB, JobKind.HONEST_LOGPROB):
            common = int(self._worker.plan.extra[EXPLOIT_CODE]["common_tokens"])
            return score_code_spec(engine, own_format, self._inputs, self._settings, spec, done, common)
        return score_spec(engine, own_format, self._inputs, self._settings, spec, done)

    def _sample(self, specs: list[JobSpec]) -> None:
        writers = {spec.key(): self._open(spec) for spec in specs}
        errors: dict[str, dict[RowIdentity, Row]] = {spec.key(): {} for spec in specs}
        owner: dict[RowIdentity, JobSpec] = {}
        evaluator = self._evaluator(writers, errors, owner)
        counted = engine_counters(self._worker.engine())
        items: list[WorkItem] = []
        for spec in specs:
            planned = evaluator.plan(spec)
            owner |= {item.identity: spec for item in planned}
            items += planned
        for _ in range(_PASSES):
            done = frozenset().union(*(writer.done for writer in writers.values()))
            if not evaluator.run(items, done):
                return
            if not any(errors.values()):
                break
        timings = {name: float(value) for name, value in asdict(evaluator.timings).items()}
        timings |= counted_since(counted, engine_counters(self._worker.engine()))
        total = sum(spec.n_rows for spec in specs)
        for spec in specs:
            share = {k: v * spec.n_rows / total for k, v in timings.items()} | self._loading
            self._seal(spec, writers[spec.key()], errors[spec.key()], share)

    def _evaluator(
        self,
        writers: dict[str, ShardWriter],
        errors: dict[str, dict[RowIdentity, Row]],
        owner: dict[RowIdentity, JobSpec],
    ) -> Evaluator:
        def keep(rows: Sequence[Row]) -> None:
            by_spec: dict[JobSpec, list[Row]] = {}
            for row in rows:
                by_spec.setdefault(owner[row_identity(row)], []).append(row)
            for spec, own in by_spec.items():
                key = spec.key()
                writers[key].write_part([row for row in own if row.get(ERROR_KEY) is None])
                for row in own:
                    identity = row_identity(row)
                    if row.get(ERROR_KEY) is None:
                        errors[key].pop(identity, None)
                    else:
                        errors[key][identity] = row
                self._advance(spec, own)

        return Evaluator(
            self._worker.engine(),
            self._worker.verifier(),
            self._format(next(iter(self._specs))),
            self._inputs,
            self._settings,
            self._worker.stop,
            keep,
            Timings(),
        )

    def _seal(
        self, spec: JobSpec, writer: ShardWriter, errors: dict[RowIdentity, Row], timings: dict[str, float]
    ) -> None:
        device = device_of(self._worker.engine(), self._settings.engine_options)
        writer.origin = replace(self._worker.origin(ran_code=spec.kind in SAMPLED_KINDS), device=device)
        writer.seal(list(errors.values()), timings=timings)
        if errors:
            first = next(iter(errors.values()))[ERROR_KEY]
            self._worker.failures.append(
                f"{spec.checkpoint.name} {spec.kind.value} {spec.levels}: {len(errors)} rows failed, first: {first}"
            )


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def engine_counters(engine: Engine) -> dict[str, int]:
    """What an engine counts of its own work since it started; empty for one that does not count."""
    count = getattr(engine, "counters", None)
    return {} if count is None else dict(count())


def counted_since(before: Mapping[str, int], now: Mapping[str, int]) -> dict[str, float]:
    """The difference, of counters that began at 0 again if the engine was started anew in between."""
    return {
        name: float(value - before.get(name, 0) if value >= before.get(name, 0) else value)
        for name, value in now.items()
    }


def engine_options(planned: Mapping[str, Any], halvings: int, halved: Sequence[str]) -> dict[str, Any]:
    """The planned engine options; those that are `halved`, once for each time that this task was killed for memory.

    Resources are no part of a result's identity, so rows of smaller batches complete the same shard.
    """
    return {
        name: max(1, value >> halvings) if name in halved and isinstance(value, int) else value
        for name, value in planned.items()
    }


def make_verifier(settings: WorkerSettings, specs: Sequence[JobSpec]) -> Verifier:
    """The verifier that the specs were planned with. Raises ForeshockError where this machine's is another."""
    from foreshock.jobs.verify.memo import MemoVerifier
    from foreshock.jobs.verify.registry import create_verifier

    verifier = create_verifier(settings.verifier, settings.verifier_options)
    try:
        require_planned_verifier(verifier, specs)
    except ForeshockError:
        verifier.close()
        raise
    return MemoVerifier(verifier) if settings.reuse_verdicts else verifier


def run_array_task(
    layout: RunLayout, pack: int, index: int, stop: StopFlag, slurm_job: str | None = None, gpus: int = 0
) -> int:
    """Run task `index` of pack `pack` with the engine and verifier that the plan names; returns an exit code.

    `gpus`: how many the job was planned for.
    """
    from foreshock.jobs.engines.registry import ENGINES, create_engine

    plan = PlanFile.read(layout)
    recorder = Recorder(planned_by(plan.settings))
    require_gpus(gpus)
    require_planned_place(recorder, strict=plan.settings.strict)
    task = read_task(layout, pack, index, plan)
    settings = plan.settings
    halvings = int(os.environ.get("FORESHOCK_BATCH_HALVINGS") or 0)  # the job script counts them
    options = engine_options(settings.engine_options, halvings, ENGINES.get(settings.engine).halved)
    worker = Worker(
        layout,
        plan,
        lambda: create_engine(settings.engine, options),
        lambda: make_verifier(settings, task.specs),
        stop,
        ProgressReporter(layout.progress_file(index), pack, index),
        slurm_job,
        recorder,
    )
    return worker.run(task)
