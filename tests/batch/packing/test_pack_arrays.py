"""Arrays: every task once, inside MaxArraySize and the submit limit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreshock.batch.executors.slurm_arrays import split_arrays
from foreshock.jobs.spec import ArrayTask


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


def test_a_submit_limit_without_room_names_the_limit() -> None:
    with pytest.raises(ValueError, match="submit limit of 1 leaves no room"):
        split_arrays([ArrayTask(0, (), 1.0)], 1001, 1)


def test_a_cluster_without_arrays_is_refused() -> None:
    with pytest.raises(ValueError, match="MaxArraySize is 1"):
        split_arrays([ArrayTask(0, (), 1.0)], 1)
