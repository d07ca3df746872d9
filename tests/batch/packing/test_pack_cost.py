"""The cost model: interpolation between levels, and learning from finished shards."""

from __future__ import annotations

from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreshock.batch.packing.cost import CostModel, RowCost, ShardTiming
from foreshock.jobs.records.spec import JobKind

ROWS = (RowCost(JobKind.EVAL, 0, 4.0), RowCost(JobKind.EVAL, 100, 2.0), RowCost(JobKind.LOGPROB, 0, 0.5))
MODEL = CostModel(load_s=100, swap_s=10, rows=ROWS)


@pytest.mark.parametrize(("level", "seconds"), [(0, 4.0), (50, 3.0), (100, 2.0), (500, 2.0)])
def test_levels_between_measured_ones_are_interpolated(level: int, seconds: float) -> None:
    assert MODEL.row_seconds(JobKind.EVAL, level) == pytest.approx(seconds)


def test_a_logprob_spec_costs_one_pass_per_task_whatever_its_levels(packing: ModuleType) -> None:
    few = packing.spec(JobKind.LOGPROB, 10, (10,), 8)
    many = packing.spec(JobKind.LOGPROB, 10, (2, 5, 10), 8)
    assert MODEL.spec_seconds(few) == MODEL.spec_seconds(many) == pytest.approx(4.0)


def test_a_chain_pays_one_load_and_a_swap_per_change(packing: ModuleType) -> None:
    specs = [packing.spec(JobKind.LOGPROB, step, (10,), 2, i) for i, step in enumerate([10, 10, 20])]
    assert MODEL.chain_seconds(specs) == pytest.approx(100 + 10 + 3 * 1.0)


def test_measured_levels_move_to_what_was_measured_and_others_by_the_same_ratio() -> None:
    slow = MODEL.reestimate([ShardTiming(JobKind.EVAL, 0, 10_000, 80_000.0, load_s=200.0)])
    assert slow.row_seconds(JobKind.EVAL, 0) == pytest.approx(8.0, rel=0.01)
    assert slow.row_seconds(JobKind.EVAL, 100) == pytest.approx(4.0, rel=0.01)
    assert slow.row_seconds(JobKind.LOGPROB, 0) == MODEL.row_seconds(JobKind.LOGPROB, 0)
    assert slow.load_s == pytest.approx(200.0)


def test_a_new_level_becomes_a_point_of_its_own() -> None:
    model = MODEL.reestimate([ShardTiming(JobKind.EVAL, 50, 10_000, 300_000.0)])
    assert model.row_seconds(JobKind.EVAL, 50) == pytest.approx(30.0, rel=0.01)


@given(st.lists(st.tuples(st.sampled_from([0, 10, 100]), st.integers(0, 500), st.floats(0.001, 1e4)), max_size=8))
def test_estimates_stay_between_prior_and_measurement(shards: list[tuple[int, int, float]]) -> None:
    timings = [ShardTiming(JobKind.EVAL, level, rows, seconds) for level, rows, seconds in shards]
    model = MODEL.reestimate(timings)
    for level in {t.level for t in timings if t.n_rows}:
        rows = sum(t.n_rows for t in timings if t.level == level)
        rate = sum(t.seconds for t in timings if t.level == level and t.n_rows) / rows
        prior = MODEL.row_seconds(JobKind.EVAL, level)
        assert min(rate, prior) * 0.999 <= model.row_seconds(JobKind.EVAL, level) <= max(rate, prior) * 1.001


def test_nothing_measured_changes_nothing() -> None:
    assert MODEL.reestimate([ShardTiming(JobKind.EVAL, 0, 0, 0.0)]) == MODEL


def test_json_round_trip() -> None:
    assert CostModel.from_json(MODEL.to_json()) == MODEL


def test_a_cost_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="valid: above 0"):
        RowCost(JobKind.EVAL, 0, 0.0)


def test_a_swap_dearer_than_a_load_is_refused() -> None:
    with pytest.raises(ValueError, match="exceeds load_s"):
        CostModel(load_s=1, swap_s=2)


@pytest.mark.parametrize(
    ("measured", "load_s", "swap_s"),
    [
        ([(300.0, True), (3.0, False), (5.0, False)], 300, 4),
        ([(4.0, True)], 4, 4),  # a start faster than the guessed swap: the guess gives way
        ([(150.0, False)], 150, 150),
    ],
)
def test_measured_starts_and_swaps_replace_the_guesses(
    measured: list[tuple[float, bool]], load_s: float, swap_s: float
) -> None:
    timings = [ShardTiming(JobKind.EVAL, 0, 10, 40.0, seconds, first) for seconds, first in measured]
    model = MODEL.reestimate(timings)
    assert (model.load_s, model.swap_s) == (load_s, swap_s)
