"""Packing: every spec once, short makespan, few loads, bounded tasks, the same answer every time."""

from __future__ import annotations

import random
from collections import Counter
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foreshock.batch.packing.cost import CostModel
from foreshock.batch.packing.pack import loads_lower_bound, makespan_lower_bound, pack
from foreshock.batch.packing.totals import count_loads, oversized, packed_cost, unpacked_cost
from foreshock.jobs.records.spec import JobKind


@pytest.mark.parametrize("block", range(4))
def test_loads_are_within_a_fifth_of_the_exact_least(packing: ModuleType, block: int) -> None:
    for seed in range(block, 60, 4):
        case = packing.heterogeneous(seed, n_checkpoints=2 + seed % 7)
        tasks = pack(case.specs, case.cost, case.n_workers, case.max_minutes)
        longest = max(task.estimated_minutes for task in tasks)
        least = packing.least_loads(case, longest, max(case.n_workers, len(tasks)))
        assert least <= count_loads(tasks) <= max(1.2 * least, least + 1), f"seed {seed}: least {least}"


@pytest.mark.parametrize("block", range(4))
def test_200_random_instances_end_within_a_tenth_of_the_bound_with_few_loads(packing: ModuleType, block: int) -> None:
    """The load bound only counts; it is tight when there are many more tasks than checkpoints or the reverse."""
    late, load_ratios = [], []
    for seed in range(block, 200, 4):
        case = packing.heterogeneous(seed)
        tasks = pack(case.specs, case.cost, case.n_workers, case.max_minutes)
        bound = makespan_lower_bound(case.specs, case.cost, case.n_workers, case.max_minutes)
        ratio = packed_cost(tasks, case.n_workers).makespan_hours * 60 / bound
        assert ratio >= 1 - 1e-9, f"seed {seed}: the bound is wrong, {ratio} of it was reached"
        if ratio > 1.10:
            late.append((seed, ratio))
        counts = sorted((len({s.checkpoint for s in case.specs}), len(tasks)))
        if counts[1] >= 2 * counts[0]:
            least = loads_lower_bound(case.specs, case.cost, max(t.estimated_minutes for t in tasks))
            load_ratios.append((count_loads(tasks) / least, seed))
    assert late == []
    assert len(load_ratios) > 18
    assert max(load_ratios)[0] <= 1.2


def test_ten_thousand_cells_on_64_gpus_are_packed_as_tightly(packing: ModuleType) -> None:
    specs = [
        packing.spec(JobKind.EVAL, 10 * c + 10, (level,), 5 + (7 * c + level) % 50)
        for c in range(1000)
        for level in packing.LEVELS
    ]
    cost = packing.heterogeneous(1).cost
    tasks = pack(specs, cost, 64, 24 * 60)  # how long that takes: python -m benchmarks.packing
    assert sum(len(task.specs) for task in tasks) == 10_000
    bound = makespan_lower_bound(specs, cost, 64, 24 * 60)
    assert packed_cost(tasks, 64).makespan_hours * 60 <= 1.10 * bound
    assert count_loads(tasks) <= 1.2 * 1000


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), n_workers=st.integers(1, 70), minutes=st.floats(2, 2000))
def test_every_spec_is_in_exactly_one_task_and_tasks_stay_inside_the_wall_time(
    packing: ModuleType, seed: int, n_workers: int, minutes: float
) -> None:
    case = packing.heterogeneous(seed, n_checkpoints=1 + seed % 5)
    tasks = pack(case.specs, case.cost, n_workers, minutes)
    placed = Counter(s.key() for task in tasks for s in task.specs)
    assert placed == Counter(s.key() for s in case.specs)
    assert [task.index for task in tasks] == list(range(len(tasks)))
    for task in tasks:
        assert task.estimated_minutes == pytest.approx(case.cost.chain_seconds(task.specs) / 60)
        assert len(task.specs) == 1 or task.estimated_minutes <= minutes * 0.85 + 1e-6
    assert all(len(task.specs) == 1 for task in oversized(tasks, minutes))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), shuffle=st.integers(0, 10_000))
def test_the_order_of_the_specs_does_not_matter(packing: ModuleType, seed: int, shuffle: int) -> None:
    case = packing.heterogeneous(seed, n_checkpoints=1 + seed % 6)
    mixed = list(case.specs)
    random.Random(shuffle).shuffle(mixed)
    args = (case.cost, case.n_workers, case.max_minutes)
    assert pack(mixed, *args) == pack(case.specs, *args)


def test_a_task_keeps_each_checkpoints_specs_together(packing: ModuleType) -> None:
    case = packing.heterogeneous(3, n_checkpoints=9)
    for task in pack(case.specs, case.cost, 2, case.max_minutes):
        assert count_loads([task]) == len({s.checkpoint for s in task.specs})


def test_packing_beats_one_task_per_spec(packing: ModuleType) -> None:
    case = packing.heterogeneous(5)
    packed = packed_cost(pack(case.specs, case.cost, 4, 1440), 4)
    unpacked = unpacked_cost(case.specs, case.cost, 4)
    assert packed.gpu_hours < unpacked.gpu_hours
    assert packed.makespan_hours < unpacked.makespan_hours
    assert unpacked.n_loads == len(case.specs)


def test_nothing_to_do_is_no_task() -> None:
    assert pack([], CostModel(), 4, 60) == []


def test_refuses_a_spec_given_twice(packing: ModuleType) -> None:
    one = packing.spec(JobKind.EVAL, 10, (0,), 3)
    with pytest.raises(ValueError, match="given twice"):
        pack([one, one], CostModel(), 1, 60)


@pytest.mark.parametrize(("n_workers", "minutes"), [(0, 60.0), (1, 0.0), (1, float("nan"))])
def test_refuses_senseless_resources(packing: ModuleType, n_workers: int, minutes: float) -> None:
    with pytest.raises(ValueError, match="valid: "):
        pack([packing.spec(JobKind.EVAL, 10, (0,), 3)], CostModel(), n_workers, minutes)
