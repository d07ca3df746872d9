"""A model's own reasoning, cut short: how often does it exploit when it goes on from the first part of what it wrote?

Reasoning is taken from a run's unprompted samples, exploits and others, cut at fractions of its words, and forced on
the very checkpoint that wrote it. It needs no donor. Draws are new ones: with the seeds of the run's own attempts, an
exploit that was selected would come out again for that reason alone.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from foreshock.batch.on_runs.opened import OpenedRun, Tally
from foreshock.batch.planning.specs import content_digest
from foreshock.durable import sweep_temporaries
from foreshock.errors import InputError, StopRequestedError
from foreshock.jobs.engines.base import Engine
from foreshock.jobs.evaluate import Evaluator
from foreshock.jobs.inputs import NO_PREFILL, Prefill, RunInputs
from foreshock.jobs.prefill import PrefillTrace, count_words, cut_prefill
from foreshock.jobs.prompts.base import PromptFormat
from foreshock.jobs.prompts.problem_prompt import build_user_message
from foreshock.jobs.prompts.tokenizer import PrefillTextError
from foreshock.jobs.records.bundling import bundle_run, bundle_shards, shards_at_once
from foreshock.jobs.records.jsonl import encode_rows, read_rows
from foreshock.jobs.records.layout import RunLayout
from foreshock.jobs.records.planfile import WorkerSettings
from foreshock.jobs.records.ran_records import planned_by, write_ran
from foreshock.jobs.records.rows import ERROR_KEY, SCHEMA_VERSION, Row, RowIdentity, row_identity
from foreshock.jobs.records.shards import Origin, ShardStore
from foreshock.jobs.records.spec import JobKind, JobSpec
from foreshock.jobs.records.table_files import has_table
from foreshock.jobs.records.table_writers import TablesAtOnce
from foreshock.jobs.verify.base import Verifier
from foreshock.ran import Recorder
from foreshock.slurm.lock import LauncherLock

NO_VERDICT = "without a verdict"
NO_REASONING = "without reasoning, or it never ended"
REFUSED = "cannot be forced again: holds a marker, or ends in code"
_PASSES = 2


class Then(StrEnum):
    """What follows the cut: the model reasons on, or its reasoning is ended there and the answer begins."""

    CONTINUE = "continue"
    ANSWER = "answer"


@dataclass(frozen=True, slots=True)
class Cuts:
    """percents: where reasoning is cut, ascending, 0 to 100. repeats: continuations of each cut. per_type: most traces
    of each exploit type and outcome. Raises InputError for values that cannot be meant."""

    percents: tuple[int, ...] = (0, 25, 50, 75, 100)
    then: Then = Then.CONTINUE
    repeats: int = 1
    per_type: int = 20

    def __post_init__(self) -> None:
        ascending = list(self.percents) == sorted(set(self.percents))
        if not self.percents or not ascending or not all(0 <= percent <= 100 for percent in self.percents):
            raise InputError(
                "--fractions must ascend from 0 to 1, in steps of 0.01 or more",
                fix="give --fractions 0,0.25,0.5,0.75,1",
            )
        if self.repeats < 1 or self.per_type < 1:
            raise InputError("--repeats and --per-type must be at least 1")


@dataclass(frozen=True, slots=True)
class OwnTrace:
    """Reasoning that the checkpoint wrote unprompted, and whether it ended in an exploit."""

    task_id: str
    attempt_idx: int
    exploited: bool
    text: str


@dataclass(frozen=True)
class OwnInputs(RunInputs):
    """A run's inputs with each task's own reasoning for traces: attempt i forces trace i // repeats, cut at a level
    that is a percentage of its words."""

    own: Mapping[str, tuple[OwnTrace, ...]] = field(default_factory=dict)
    then: Then = Then.CONTINUE
    repeats: int = 1

    def trace(self, task_id: str, attempt: int) -> OwnTrace | None:
        """The trace of an attempt; None beyond the task's last."""
        traces, index = self.own.get(task_id, ()), attempt // self.repeats
        return traces[index] if index < len(traces) else None

    def prefill(self, task_id: str, attempt: int, level: int) -> Prefill | None:
        trace = self.trace(task_id, attempt)
        return None if trace is None else cut_own(trace, level, self.then)


def cut_own(trace: OwnTrace, percent: int, then: Then) -> Prefill:
    """What is forced: the first `percent` of the words, rounded up."""
    cut = cut_prefill(trace.text, math.ceil(percent * count_words(trace.text) / 100))
    source = PrefillTrace(trace.task_id, trace.text, None, trace.attempt_idx, "its own reasoning")
    if then is Then.ANSWER:
        return Prefill("", cut.words, source, cut.text)
    return Prefill(cut.text, cut.words, source) if cut.words else NO_PREFILL


@dataclass
class OwnReport:
    """Files written, continuations in them, those that failed, and samples left out by reason."""

    files: list[Path] = field(default_factory=list)
    n_rows: int = 0
    n_failed: int = 0
    left_out: Counter[str] = field(default_factory=Counter)


def own_traces(
    rows: Sequence[Mapping[str, Any]], per_type: int, usable: Callable[[OwnTrace], bool]
) -> tuple[dict[str, tuple[OwnTrace, ...]], Counter[str]]:
    """At most `per_type` traces of each exploit type and outcome, from as many tasks as possible, by task; and what was
    left out. Which are taken depends on who they are, not on how they are ordered."""
    left_out: Counter[str] = Counter()
    groups: dict[tuple[str, bool], list[tuple[str, OwnTrace]]] = {}
    for row in rows:
        text, won = row.get("reasoning"), row.get("exploit_success")
        if row.get(ERROR_KEY) is not None or not isinstance(won, bool):
            left_out[NO_VERDICT] += 1
        elif not isinstance(text, str) or not text.strip() or row.get("reasoning_closed") is False:
            left_out[NO_REASONING] += 1
        else:
            trace = OwnTrace(row["task_id"], row["attempt_idx"], won, text.rstrip())
            if usable(trace):
                place = hashlib.sha256(f"{trace.task_id}\0{trace.attempt_idx}".encode()).hexdigest()
                groups.setdefault((str(row.get("exploit_type")), won), []).append((place, trace))
            else:
                left_out[REFUSED] += 1
    chosen: dict[str, list[OwnTrace]] = {}
    for group in groups.values():
        turn: Counter[str] = Counter()
        ranked = []
        for place, trace in sorted(group, key=lambda item: item[0]):
            ranked.append((turn[trace.task_id], place, trace))
            turn[trace.task_id] += 1
        for _, _, trace in sorted(ranked, key=lambda item: item[:2])[:per_type]:
            chosen.setdefault(trace.task_id, []).append(trace)
    return {task: tuple(sorted(own, key=lambda t: t.attempt_idx)) for task, own in sorted(chosen.items())}, left_out


@dataclass(frozen=True)
class _Model:
    """What the checkpoints share once they are loaded."""

    engine: Engine
    verifier: Verifier


class OwnReasoning:
    """Measures the checkpoints of one run, one after the other. `stop` is asked between batches; `tally` counts
    continuations."""

    def __init__(
        self,
        run: OpenedRun,
        cuts: Cuts,
        stop: Callable[[], bool],
        say: Callable[[str], None],
        tally: Tally = Tally(),  # noqa: B008 - frozen, so that callers may share it
    ) -> None:
        self._run, self._cuts, self._stop, self._say, self._tally = run, cuts, stop, say, tally
        self._store = ShardStore(RunLayout(run.layout.own_reasoning / "work"))
        self._recorder = Recorder(planned_by(run.plan.settings))
        self._report = OwnReport()

    def output(self, checkpoint: str) -> Path:
        """The file of a checkpoint."""
        return self._run.layout.own_reasoning / self._cuts.then.value / f"{checkpoint}.jsonl"

    def planned(self) -> dict[str, int]:
        """Continuations by checkpoint, without loading a model."""
        found = {}
        for spec in self._run.specs:
            inputs = self._inputs(spec, Counter())
            n = sum(map(len, inputs.own.values()))
            found[spec.checkpoint.name] = n * len(self._cuts.percents) * self._cuts.repeats
        return found

    def measure(self, *, force: bool) -> OwnReport:
        """Sample and verify whatever is missing, and write every checkpoint's file.

        Raises InputError where a file holds other cuts and `force` is not given, and where no checkpoint has usable
        samples; ForeshockError while another process does the same; StopRequestedError on request, with every finished
        batch kept.
        """
        work = self._work(self._report.left_out, force=force)
        lock = LauncherLock(self.lock)
        lock.acquire()
        try:
            for folder in (self.lock.parent, *(self.lock.parent / then.value for then in Then)):
                sweep_temporaries(folder)  # of a kill while a file was written
            self._complete(work)
            with TablesAtOnce(self._run.plan.tables_archived) as tables:
                for spec, inputs, specs in work:
                    self._write(tables, self.output(spec.checkpoint.name), inputs, specs)
        finally:
            lock.release()
        return self._report

    @property
    def lock(self) -> Path:
        """Held while a process measures."""
        return self._run.layout.own_reasoning / "own_reasoning.lock"

    def is_missing(self, *, force: bool) -> bool:
        """Whether there is anything to sample. Raises InputError as `measure` does."""
        work = self._work(Counter(), force=force)
        return not all(self._store.is_complete(spec) for _, _, specs in work for spec in specs)

    def _work(self, left_out: Counter[str], *, force: bool) -> list[tuple[JobSpec, OwnInputs, list[JobSpec]]]:
        work: list[tuple[JobSpec, OwnInputs, list[JobSpec]]] = []
        for spec in self._run.specs:
            inputs = self._inputs(spec, left_out)
            if inputs.own:
                specs = [self._spec(spec, inputs, percent) for percent in self._cuts.percents]
                self._require_mine(self.output(spec.checkpoint.name), specs, force)
                work.append((spec, inputs, specs))
        if not work:
            reasons = "; ".join(f"{n} {reason}" for reason, n in left_out.items())
            raise InputError(
                f"no unprompted sample with reasoning and a verdict ({reasons or 'there is none'})",
                path=self._run.layout.evals,
                fix="give a run with level 0 in prefill.levels, of a model that reasons",
            )
        return work

    def _complete(self, work: Sequence[tuple[JobSpec, OwnInputs, list[JobSpec]]]) -> None:
        is_done = [all(self._store.is_complete(spec) for spec in part[2]) for part in work]
        todo = [part for part, done in zip(work, is_done, strict=True) if not done]
        whole = [spec for part, done in zip(work, is_done, strict=True) if done for spec in part[2]]
        self._tally.found(sum(len(self._store.rows(spec)) for spec in whole))
        if todo:
            self._sample_all(todo)
        if self._run.plan.bundled:
            bundle_run(self._store.layout, [spec for part in work for spec in part[2]], self._say)

    def _sample_all(self, todo: Sequence[tuple[JobSpec, OwnInputs, list[JobSpec]]]) -> None:
        plan = self._run.plan
        sealed: list[JobSpec] = []
        with self._run.engine() as engine, self._run.verifier() as verifier:
            for spec, inputs, specs in todo:
                self._say(f"{spec.checkpoint.name}: {sum(map(len, inputs.own.values()))} traces")
                self._run.load(engine, spec)
                self._sample(_Model(engine, verifier), spec, inputs, specs)
                sealed += specs
                if plan.bundled and len(sealed) >= shards_at_once(plan.settings.bundle_from):
                    bundle_shards(self._store, sealed, self._say)
                    sealed.clear()

    def _inputs(self, spec: JobSpec, left_out: Counter[str]) -> OwnInputs:
        path = self._run.layout.samples_file(spec.checkpoint.name, 0)
        rows = read_rows(path, ("task_id", "attempt_idx", "reasoning", "exploit_success")) if has_table(path) else []
        writer = self._run.prompt_format(spec)
        settings, problems = self._run.plan.settings, self._run.inputs.problems

        def usable(trace: OwnTrace) -> bool:
            problem = problems.get(trace.task_id)
            if problem is None:
                return False
            user = build_user_message(problem, settings.instructions)
            return all(
                _can_be_forced(cut_own(trace, percent, self._cuts.then), writer, settings, user)
                for percent in self._cuts.percents
            )

        own, reasons = own_traces(rows, self._cuts.per_type, usable)
        left_out.update(reasons)
        plan = self._run.plan
        return OwnInputs(
            problems, {}, plan.settings.assignment, plan.n_attempts, own, self._cuts.then, self._cuts.repeats
        )

    def _spec(self, base: JobSpec, inputs: OwnInputs, percent: int) -> JobSpec:
        attempts = tuple(range(max(map(len, inputs.own.values())) * self._cuts.repeats))
        forced = [
            [task, attempt, None if prefill is None else prefill.sha256]
            for task in inputs.own
            for attempt in attempts
            for prefill in [inputs.prefill(task, attempt, percent)]
        ]
        seed = hashlib.sha256(f"own reasoning, {self._cuts.then.value}, {base.sampling.seed}".encode()).digest()
        return replace(
            base,
            kind=JobKind.EVAL,
            levels=(percent,),
            task_ids=tuple(inputs.own),
            attempts=attempts,
            sampling=replace(base.sampling, seed=int.from_bytes(seed[:8], "big") >> 1),
            prefill_sha256=content_digest(forced),
            shard_index=0,
        )

    def _sample(self, model: _Model, base: JobSpec, inputs: OwnInputs, specs: Sequence[JobSpec]) -> None:
        for spec in specs:
            writer = self._store.open(spec, Origin(None, None, SCHEMA_VERSION))
            self._tally.found(len(writer.done))
            errors: dict[RowIdentity, Row] = {}

            def keep(rows: Sequence[Row], errors: dict[RowIdentity, Row] = errors, writer: Any = writer) -> None:
                writer.write_part(good := [row for row in rows if row.get(ERROR_KEY) is None])
                self._tally.added(len(good))
                for row in rows:
                    if row.get(ERROR_KEY) is None:
                        errors.pop(row_identity(row), None)
                    else:
                        errors[row_identity(row)] = row

            settings = self._run.plan.settings
            evaluator = Evaluator(
                model.engine, model.verifier, self._run.prompt_format(base), inputs, settings, self._stop, keep
            )
            items = evaluator.plan(spec)
            for _ in range(_PASSES):
                if not evaluator.run(items, writer.done):
                    raise StopRequestedError(
                        f"stopped at {spec.checkpoint.name}, fraction {spec.levels[0] / 100:g}; finished batches are "
                        "kept\n  -> the same command goes on from there"
                    )
                if not errors:
                    break
            ran = self._recorder.ran(str(model.verifier.tier.value) if hasattr(model.verifier, "tier") else None)
            writer.origin = replace(writer.origin, git_commit=ran.commit, ran=write_ran(self._run.layout, ran))
            writer.seal(list(errors.values()))

    def _require_mine(self, path: Path, specs: Sequence[JobSpec], force: bool) -> None:
        if force or not has_table(path):
            return
        keys = {spec.key() for spec in specs}
        if any(row.get("spec_key") not in keys for row in read_rows(path)):
            raise InputError("holds other cuts, or cuts of other samples", path=path, fix="add --force to replace it")

    def _write(self, tables: TablesAtOnce, path: Path, inputs: OwnInputs, specs: Sequence[JobSpec]) -> None:
        rows = [own_row(row, spec, inputs) for spec in specs for row in self._store.rows(spec)]
        tables.write(path, encode_rows(rows))
        self._report.files.append(path)
        self._report.n_rows += len(rows)
        self._report.n_failed += sum(ERROR_KEY in row for row in rows)


def own_row(row: Row, spec: JobSpec, inputs: OwnInputs) -> Row:
    """A continuation as its file has it: `fraction` in place of a level in words, and whose reasoning was cut."""
    trace = inputs.trace(row["task_id"], row["attempt_idx"])
    assert trace is not None
    kept = {key: value for key, value in row.items() if key not in ("prefill_level", "attempt_idx", "prefill_source")}
    return kept | {
        "fraction": spec.levels[0] / 100,
        "then": inputs.then.value,
        "repeat": row["attempt_idx"] % inputs.repeats,
        "own_attempt_idx": trace.attempt_idx,
        "own_exploit_success": trace.exploited,
        "own_words": count_words(trace.text),
        "spec_key": spec.key(),
    }


def _can_be_forced(prefill: Prefill, writer: PromptFormat, settings: WorkerSettings, user: str) -> bool:
    try:
        prefill.render(writer, settings.system, user)
    except PrefillTextError:
        return False
    return True
