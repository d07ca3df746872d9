"""Arrays: every task once, inside MaxArraySize and the submit limit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreshock.batch.executors.slurm_arrays import shares, split_arrays
from foreshock.jobs.records.spec import ArrayTask


@given(
    n_tasks=st.integers(0, 300),
    max_array_size=st.integers(2, 50),
    max_submit=st.one_of(st.none(), st.integers(2, 400)),
)
def test_arrays_respect_the_sites_limits_and_hold_every_task_once(
    n_tasks: int, max_array_size: int, max_submit: int | None
) -> None:
    tasks = [ArrayTask(i, (), 1.0) for i in range(n_tasks)]
    chunks = split_arrays(tasks, max_array_size, max_submit)
    held = [task.index for chunk in chunks for element in chunk.elements for task in element.tasks]
    assert sorted(held) == list(range(n_tasks))
    assert all(0 < len(chunk.elements) <= max_array_size - 1 for chunk in chunks)
    assert all([e.index for e in chunk.elements] == list(range(len(chunk.elements))) for chunk in chunks)
    if max_submit is not None:
        assert sum(len(chunk.elements) for chunk in chunks) <= max_submit - 1
    else:
        assert all(len(e.tasks) == 1 for chunk in chunks for e in chunk.elements)


@given(
    minutes=st.lists(st.floats(0.1, 100), max_size=60),
    workers=st.lists(st.integers(1, 20), min_size=1, max_size=4),
    max_submit=st.one_of(st.none(), st.integers(2, 80)),
)
def test_profiles_share_the_tasks_by_their_workers_and_one_submit_limit(
    minutes: list[float], workers: list[int], max_submit: int | None
) -> None:
    tasks = [ArrayTask(i, (), m) for i, m in enumerate(sorted(minutes, reverse=True))]
    dealt = shares(tasks, workers, max_submit)
    assert sorted(task.index for own, _ in dealt for task in own) == list(range(len(tasks)))
    elements = sum(len(chunk.elements) for own, room in dealt if own for chunk in split_arrays(own, 1001, room))
    assert max_submit is None or elements <= max_submit - 1
    ends = [sum(task.estimated_minutes for task in own) / n for (own, _), n in zip(dealt, workers, strict=False)]
    longest = max((task.estimated_minutes for task in tasks), default=0.0)
    assert max(ends) <= sum(minutes) / sum(workers[: len(dealt)]) + longest / min(workers) + 1e-9


def test_a_submit_limit_without_room_names_the_limit() -> None:
    with pytest.raises(ValueError, match="submit limit of 1 leaves no room"):
        split_arrays([ArrayTask(0, (), 1.0)], 1001, 1)


def test_a_cluster_without_arrays_is_refused() -> None:
    with pytest.raises(ValueError, match="MaxArraySize is 1"):
        split_arrays([ArrayTask(0, (), 1.0)], 1)
