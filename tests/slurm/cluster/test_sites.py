"""Sites that differ: preemption that kills for good, the site's own notice, small arrays, small submit limits."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest

from foreshock.batch.executors.slurm_arrays import split_arrays
from foreshock.jobs.records.spec import ArrayTask

pytestmark = pytest.mark.cluster


@pytest.mark.parametrize("canary", [True, False])
def test_preemption_by_cancelling_is_survived_by_requeueing_in_the_grace_time(
    cancelling_bed: Any, array_tools: ModuleType, canary: bool
) -> None:
    """With the canary, and without it by the site's own notice (preempt_send_user_signal)."""
    profile = {"gpus_per_node": 1, "canary": canary}
    run = array_tools.StandIn(cancelling_bed, f"cancelling-{canary}", batches=12, profile=profile)
    run.submit([[[0], [1]]])
    run.wait_running(0, 0)
    run.wait_running(1, 1)
    cancelling_bed.preempt("n1")
    cancelling_bed.wait_idle(240)
    hit = 0 if "stop requested" in run.log(0) else 1
    assert "requeueing" in run.log(hit)
    assert "attempt 1" in run.log(hit)
    assert "attempt 1" not in run.log(1 - hit)
    assert [run.rows(task) for task in range(2)] == [12, 12]
    assert [run.repeats(task) for task in range(2)] == [0, 0]
    run.check_clean()


def test_a_run_larger_than_maxarraysize_and_the_submit_limit_goes_through(bed: Any, array_tools: ModuleType) -> None:
    limit = 25
    tasks = [ArrayTask(i, (), 1.0) for i in range(60)]
    chunks = split_arrays(tasks, max_array_size=11, max_submit=limit)
    arrays = [[[task.index for task in element.tasks] for element in chunk.elements] for chunk in chunks]
    assert [len(elements) for elements in arrays] == [10, 10, 4]
    run = array_tools.StandIn(bed, "limits", batches=1, seconds=0.05)
    qos = ("sacctmgr", "-i", "modify", "qos", "normal", "set")
    bed.root(*qos, f"MaxSubmitJobsPerUser={limit}")
    try:
        run.submit(arrays)
        bed.wait_idle(300)
    finally:
        bed.root(*qos, "MaxSubmitJobsPerUser=1000")
    assert [run.rows(task) for task in range(60)] == [1] * 60
    assert (run.dir / "final-count").read_text().strip() == "60"


def test_too_much_for_the_submit_limit_is_refused_with_what_to_do_and_completed_later(
    bed: Any, array_tools: ModuleType
) -> None:
    run = array_tools.StandIn(bed, "refused", batches=1, seconds=0.05)
    qos = ("sacctmgr", "-i", "modify", "qos", "normal", "set")
    bed.root(*qos, "MaxSubmitJobsPerUser=3")
    try:
        with pytest.raises(AssertionError, match="the queue is full for you: set max_submit"):
            run.submit([[[0], [1]], [[2], [3]]])
    finally:
        bed.root(*qos, "MaxSubmitJobsPerUser=1000")
    run.submit([[[0], [1]], [[2], [3]]])
    bed.wait_idle(240)
    assert [run.rows(task) for task in range(4)] == [1] * 4
    assert [run.repeats(task) for task in range(4)] == [0] * 4
