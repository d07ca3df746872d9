"""What every Executor must do; a subclass provides `make_executor`."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from foreshock.batch.config import RunConfig
from foreshock.batch.executors.base import Executor, TaskReport
from foreshock.batch.planning.make_plan import make_plan
from foreshock.batch.running.execute import missing_specs
from foreshock.batch.running.run import create_run
from foreshock.jobs.records.layout import RunLayout
from foreshock.jobs.records.planfile import PlanFile, write_pack
from foreshock.jobs.records.shards import ShardStore
from foreshock.jobs.records.spec import ArrayTask
from foreshock.slurm.states import JobState

MakeExecutor = Callable[[], Executor]


class Sweep:
    """A planned run of three array tasks, one a checkpoint."""

    def __init__(self, config: RunConfig, checkpoints: Path) -> None:
        plan = make_plan(config)
        self.checkpoints = checkpoints
        self.layout: RunLayout = create_run(config, plan, ["foreshock"])
        self.plan: PlanFile = PlanFile.read(self.layout)
        points = sorted({spec.checkpoint for spec in self.plan.specs})
        self.tasks = [
            ArrayTask(i, tuple(s for s in self.plan.specs if s.checkpoint == point), 1.0)
            for i, point in enumerate(points)
        ]

    def submit(self, executor: Executor) -> None:
        """All tasks, as a new pack."""
        executor.submit(self.layout, write_pack(self.layout, self.tasks), self.tasks)

    def complete(self, task: ArrayTask) -> bool:
        """Whether every shard of a task is whole."""
        return all(ShardStore(self.layout).is_complete(spec) for spec in task.specs)


def wait(executor: Executor, seconds: float = 120.0) -> Mapping[int, TaskReport]:
    """Poll until every task has ended."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        reports = executor.poll()
        if all(report.state.is_final for report in reports.values()):
            return reports
        time.sleep(0.05)
    raise AssertionError(f"not ended after {seconds:.0f} s: {reports}")


class ExecutorContract:
    """Inherit, and provide the fixture `make_executor`."""

    @pytest.fixture
    def sweep(self, make_config: Callable[..., RunConfig], sft_run: Path, tmp_path: Path) -> Sweep:
        checkpoints = tmp_path / "sft" / "checkpoints"
        shutil.copytree(sft_run / "checkpoints", checkpoints)
        config = make_config(
            checkpoints={"dir": str(checkpoints)},
            problems={"max_problems": 2},
            prefill={"levels": [0, 2]},
            engine={"name": "fake", "device": "auto", "dtype": "auto", "threads": None},
        )
        return Sweep(config, checkpoints)

    def test_tasks_run_to_their_end_and_one_that_fails_disturbs_no_other(
        self, make_executor: MakeExecutor, sweep: Sweep
    ) -> None:
        broken = sweep.tasks[1].specs[0].checkpoint
        shutil.move(broken.path, sweep.checkpoints / "elsewhere")
        executor = make_executor()
        assert executor.queued(sweep.layout, sweep.plan) == frozenset()
        sweep.submit(executor)
        reports = wait(executor)
        assert set(reports) == {0, 1, 2}
        assert [reports[i].state for i in range(3)] == [JobState.COMPLETED, JobState.FAILED, JobState.COMPLETED]
        assert (reports[0].exit_code, reports[1].exit_code) == (0, 1)
        assert [sweep.complete(task) for task in sweep.tasks] == [True, False, True]

        shutil.move(sweep.checkpoints / "elsewhere", broken.path)
        again = make_executor()
        sweep.submit(again)
        assert {report.state for report in wait(again).values()} == {JobState.COMPLETED}
        assert missing_specs(sweep.layout, sweep.plan) == []

    def test_cancelled_tasks_end_and_can_be_run_again(self, make_executor: MakeExecutor, sweep: Sweep) -> None:
        executor = make_executor()
        sweep.submit(executor)
        executor.cancel()
        reports = wait(executor)
        assert JobState.CANCELLED in {report.state for report in reports.values()}
        for index, report in reports.items():
            assert sweep.complete(sweep.tasks[index]) == (report.state is JobState.COMPLETED)
        again = make_executor()
        sweep.submit(again)
        wait(again)
        assert missing_specs(sweep.layout, sweep.plan) == []
