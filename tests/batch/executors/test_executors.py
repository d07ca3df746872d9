"""Executors on this machine keep the contract; the fake also ends tasks as it is told to."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from executor_contract import ExecutorContract, MakeExecutor, Sweep, wait

from foreshock.batch.config import RunConfig
from foreshock.batch.executors.factory import preload
from foreshock.batch.executors.fake import Ending, FakeExecutor
from foreshock.batch.executors.inline import InlineExecutor
from foreshock.batch.executors.local import LocalExecutor
from foreshock.batch.planning.make_plan import make_plan
from foreshock.batch.running import execute as execution
from foreshock.batch.running.execute import execute, missing_specs
from foreshock.batch.running.run import create_run
from foreshock.batch.site import resolve_site
from foreshock.jobs.engines.registry import ENGINES
from foreshock.jobs.records.planfile import PlanFile
from foreshock.slurm.states import JobState

pytestmark = pytest.mark.early


class TestInline(ExecutorContract):
    @pytest.fixture
    def make_executor(self) -> MakeExecutor:
        return InlineExecutor


class TestLocal(ExecutorContract):
    @pytest.fixture
    def make_executor(self) -> MakeExecutor:
        return lambda: LocalExecutor(workers=2)


class TestLocalForked(ExecutorContract):
    @pytest.fixture
    def make_executor(self, make_config: Callable[..., RunConfig]) -> MakeExecutor:
        return lambda: LocalExecutor(workers=2, preload=preload(ENGINES.get("fake")))


class TestFake(ExecutorContract):
    @pytest.fixture
    def make_executor(self) -> MakeExecutor:
        return FakeExecutor

    def test_a_task_may_be_lost_before_or_after_its_work(self, sweep: Sweep) -> None:
        executor = FakeExecutor([Ending(JobState.NODE_FAIL, works=False), Ending(JobState.PREEMPTED, works=True)])
        sweep.submit(executor)
        reports = wait(executor)
        assert [reports[i].state for i in range(3)] == [JobState.NODE_FAIL, JobState.PREEMPTED, JobState.COMPLETED]
        assert [sweep.complete(task) for task in sweep.tasks] == [False, True, True]


@pytest.mark.parametrize("heal", [0, 1])
def test_what_was_lost_is_done_again_as_often_as_allowed(
    make_config: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch, heal: int
) -> None:
    config = make_config(
        checkpoints={"steps": [1, 2]},  # a round that adds no row at all is not repeated
        problems={"max_problems": 1},
        prefill={"levels": [0]},
        logprob={"enabled": False},
        engine={"name": "fake", "device": "auto", "dtype": "auto", "threads": None},
        execution={"heal": heal, "workers": 2},
    )
    plan = make_plan(config)
    layout = create_run(config, plan, ["foreshock"])
    fake = FakeExecutor([Ending(JobState.OUT_OF_MEMORY, works=False)])
    monkeypatch.setattr(execution, "make_executor", lambda _: fake)
    outcome = execute(layout, PlanFile.read(layout), resolve_site(config))
    assert outcome.rounds == 1 + heal
    assert len(outcome.missing) == 1 - heal
    assert outcome.missing == missing_specs(layout, plan.file)
    assert bool(outcome.failures) == (heal == 0)
