"""What one array task does when things go wrong, and how little it computes when they go right."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from foreshock.batch.config import RunConfig
from foreshock.batch.packing.measured import pack_tasks
from foreshock.batch.planning.make_plan import make_plan
from foreshock.batch.running.run import create_run
from foreshock.batch.site import resolve_site
from foreshock.errors import ForeshockError
from foreshock.jobs.answers.extract import Extraction
from foreshock.jobs.as_planned import require_planned_verifier
from foreshock.jobs.engines.base import FinishReason, GenerationRequest, GenerationResult, Stop, never
from foreshock.jobs.engines.registry import ENGINES
from foreshock.jobs.engines.transformers import TransformersEngine
from foreshock.jobs.progress import ProgressReporter, TaskProgress
from foreshock.jobs.records.jsonl import read_rows
from foreshock.jobs.records.layout import RunLayout
from foreshock.jobs.records.planfile import PlanFile
from foreshock.jobs.records.shards import ShardStore
from foreshock.jobs.records.spec import ArrayTask, JobKind
from foreshock.jobs.records.verdicts import UNJUDGED, CodeStatus, SandboxTier
from foreshock.jobs.stop_flag import StopFlag
from foreshock.jobs.verify.base import Outcome, Verdict, Verification
from foreshock.jobs.verify.builtin.verifier import BuiltinVerifier
from foreshock.jobs.verify.fake import FakeVerifier
from foreshock.jobs.worker import (
    EXIT_COMPLETE,
    EXIT_FAILED,
    EXIT_STOPPED,
    Worker,
    engine_options,
)

MakeConfig = Callable[..., RunConfig]
BROKEN = Verification(Verdict(Outcome.INFRA_ERROR, "the zygote is gone"), Verdict(Outcome.FAILED), SandboxTier.FULL)


class Setup:
    """A planned run of one array task."""

    def __init__(self, config: RunConfig) -> None:
        self.plan = make_plan(config)
        self.layout: RunLayout = create_run(config, self.plan, ["foreshock"])
        self.task: ArrayTask = pack_tasks(list(self.plan.file.specs), resolve_site(config))[0]
        self.engine = TransformersEngine(device="cpu", batch_size=8)
        self.stop = StopFlag()
        self.verifier = FakeVerifier()

    def worker(self) -> Worker:
        reporter = ProgressReporter(self.layout.progress_file(0), 0, 0)
        plan = PlanFile.read(self.layout)
        return Worker(self.layout, plan, lambda: self.engine, lambda: self.verifier, self.stop, reporter)

    def progress(self) -> TaskProgress:
        found = TaskProgress.read(self.layout.progress_file(0))
        assert found is not None
        return found


@pytest.fixture
def setup(make_config: MakeConfig) -> Setup:
    return Setup(make_config(checkpoints={"steps": [1, 2]}))


def test_one_forward_sequence_per_checkpoint_and_trace(setup: Setup) -> None:
    assert setup.worker().run(setup.task) == EXIT_COMPLETE
    n_checkpoints, n_traces = 2, 9 * 2
    rows = sum(spec.n_rows for spec in setup.task.specs if spec.kind is JobKind.LOGPROB)
    assert rows == n_checkpoints * n_traces * 2
    assert setup.engine.scored_sequences == n_checkpoints * n_traces
    assert (setup.engine.builds, setup.engine.swaps) == (1, 1)


def test_shared_traces_are_scored_once_for_all_attempts(make_config: MakeConfig) -> None:
    setup = Setup(make_config(checkpoints={"steps": [1]}, prefill={"assignment": "shared"}, sampling={"attempts": 5}))
    assert setup.worker().run(setup.task) == EXIT_COMPLETE
    assert setup.engine.scored_sequences == 9


@pytest.mark.parametrize("bundle_from", [1, 2000])
def test_progress_tells_what_happened(make_config: MakeConfig, bundle_from: int) -> None:
    setup = Setup(make_config(checkpoints={"steps": [1]}, execution={"bundle_from": bundle_from}))
    setup.worker().run(setup.task)
    assert any(setup.layout.shards.rglob("*.manifest.json")) == (bundle_from > 1)
    (record,) = setup.layout.admission.iterdir()
    assert record.name.startswith("loads-") == (bundle_from == 1)
    assert "checkpoint-1" in record.read_text()
    now = setup.progress()
    assert (now.state, now.rows_failed, now.rows_resumed) == ("completed", 0, 0)
    assert now.rows_done == now.rows_total == sum(spec.n_rows for spec in setup.task.specs)
    assert setup.worker().run(setup.task) == EXIT_COMPLETE
    assert setup.progress().rows_resumed == now.rows_total


@pytest.fixture
def answers_with_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random weights write no code; here every answer is taken for some."""
    monkeypatch.setattr("foreshock.jobs.evaluate.extract", lambda answer, name: Extraction("x = 1", CodeStatus.OK))


def test_an_infrastructure_error_is_tried_again_and_never_a_verdict(setup: Setup, answers_with_code: None) -> None:
    setup.verifier.answers = [BROKEN, BROKEN]
    assert setup.worker().run(setup.task) == EXIT_COMPLETE
    store = ShardStore(setup.layout)
    rows = [row for spec in setup.task.specs if spec.kind is JobKind.EVAL for row in store.rows(spec)]
    assert all(row["exploit_success"] is False and "error" not in row for row in rows)


def test_an_answer_without_code_is_an_outcome_of_its_own_and_runs_nothing(setup: Setup) -> None:
    assert setup.worker().run(setup.task) == EXIT_COMPLETE
    store = ShardStore(setup.layout)
    rows = [row for spec in setup.task.specs if spec.kind is JobKind.EVAL for row in store.rows(spec)]
    assert {row["code_status"] for row in rows} <= UNJUDGED
    assert {(row["exploit_success"], row["secure_pass"], row["insecure_pass"]) for row in rows} == {(None, None, None)}
    assert setup.verifier.seen == 0


def test_errors_that_stay_are_rows_with_an_error_and_are_redone_on_resume(
    setup: Setup, answers_with_code: None
) -> None:
    setup.verifier.answers = [BROKEN] * 100000
    assert setup.worker().run(setup.task) == EXIT_FAILED
    store = ShardStore(setup.layout)
    sampled = [spec for spec in setup.task.specs if spec.kind is JobKind.EVAL]
    assert not any(store.is_complete(spec) for spec in sampled)
    row = store.rows(sampled[0])[0]
    assert row["error"] == "verification: the zygote is gone"
    assert (row["exploit_success"], row["secure_pass"], row["insecure_pass"]) == (None, None, False)
    assert "rows failed, first: verification: the zygote is gone" in setup.progress().message
    setup.verifier.answers = []
    assert setup.worker().run(setup.task) == EXIT_COMPLETE
    assert all(store.is_complete(spec) for spec in setup.task.specs)


def test_a_failed_generation_is_an_error_row(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    original = TransformersEngine.generate

    def flaky(
        self: TransformersEngine, requests: Sequence[GenerationRequest], stop: Stop = never
    ) -> Iterator[GenerationResult]:
        for result in original(self, requests, stop):
            yield replace(result, finish_reason=FinishReason.ERROR, error="no room")

    monkeypatch.setattr(TransformersEngine, "generate", flaky)
    assert setup.worker().run(setup.task) == EXIT_FAILED
    assert setup.verifier.seen == 0
    spec = next(spec for spec in setup.task.specs if spec.kind is JobKind.EVAL)
    assert {row["error"] for row in ShardStore(setup.layout).rows(spec)} == {"generation: no room"}


@pytest.mark.parametrize("after", [0, 1, 15, 30])
def test_a_stop_keeps_what_is_finished_and_asks_to_be_run_again(
    setup: Setup, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    calls = 0

    def ask(self: StopFlag) -> bool:
        nonlocal calls
        calls += 1
        return calls > after

    monkeypatch.setattr(StopFlag, "__call__", ask)
    assert setup.worker().run(setup.task) == EXIT_STOPPED
    assert setup.progress().state == "stopped"
    verified = setup.verifier.seen
    monkeypatch.undo()
    assert setup.worker().run(setup.task) == EXIT_COMPLETE
    n_eval = sum(spec.n_rows for spec in setup.task.specs if spec.kind is JobKind.EVAL)
    assert setup.verifier.seen - verified <= n_eval
    store = ShardStore(setup.layout)
    assert all(store.is_complete(spec) for spec in setup.task.specs)


def test_a_task_that_was_killed_for_memory_runs_with_smaller_batches() -> None:
    halved = ENGINES.get("transformers").halved
    planned = {"batch_size": 64, "max_batch_tokens": 4096, "device": "cuda", "compile": True, "threads": 4}
    assert engine_options(planned, 0, halved) == planned
    assert engine_options(planned, 2, halved) == planned | {"batch_size": 16, "max_batch_tokens": 1024}
    assert engine_options(planned, 9, halved)["batch_size"] == 1


def test_a_worker_whose_verifier_is_another_one_than_planned_stops(setup: Setup) -> None:
    judged = [spec for spec in setup.task.specs if spec.verifier]
    assert judged
    with BuiltinVerifier(workers=1, allow_weak_sandbox=True) as verifier:
        require_planned_verifier(verifier, setup.task.specs)
    with (
        FakeVerifier() as other,
        pytest.raises(ForeshockError, match="verifier is fake:1; the run was planned with bu"),
    ):
        require_planned_verifier(other, setup.task.specs)
    with FakeVerifier() as other:
        require_planned_verifier(other, [replace(spec, verifier="") for spec in judged])  # scoring has none


def test_a_worker_that_meets_other_weights_says_so(setup: Setup) -> None:
    plan = replace(setup.plan.file, specs=tuple(replace(s, model_fingerprint="0" * 64) for s in setup.task.specs))
    plan.write(setup.layout)
    task = ArrayTask(0, plan.specs, 1.0)
    assert setup.worker().run(task) == EXIT_FAILED
    assert "the model has changed since the run was planned" in setup.progress().message


def test_inputs_are_frozen_in_the_run(setup: Setup, traces: Path) -> None:
    frozen = read_rows(setup.layout.prefills, ("task_id", "reasoning"))
    assert len(frozen) == 9 * 2
    assert len(read_rows(setup.layout.problems, ("id", "ground_truth"))) == 10
    stored: dict[str, Any] = {row["task_id"]: row["reasoning"] for row in frozen}
    assert all(row["task_id"] in stored for row in read_rows(traces))
