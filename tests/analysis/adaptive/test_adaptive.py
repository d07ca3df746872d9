"""Adaptive attempts: decisions that cannot bias what they lead to, budgets kept, savings that add up."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from benchmarks.adaptive.designs import World, chosen, zero_cells
from benchmarks.calibration.experiment import simulate
from benchmarks.calibration.memory import to_evidence
from benchmarks.calibration.regimes import Range, regime_named

from foreshock.analysis.adaptive.allocate import Request, allocate, observed
from foreshock.analysis.adaptive.rounds import rounds_of
from foreshock.analysis.adaptive.savings import savings
from foreshock.analysis.evidence.evidence import Evidence

SMALL = replace(
    regime_named("early"),
    n_types=3,
    runs=("exploit",),
    tasks=Range(16, 24),
    checkpoints=(1, 5, 20, 100),
    levels=(0, 10, 30),
)
INFORMED, OPEN = np.array([False, False, False, True]), np.array([False, True, False, False])


@pytest.fixture(scope="module")
def world() -> World:
    experiment = simulate(SMALL, 5)
    return World(experiment, to_evidence(experiment)[0], 5)


def request_of(world: World, budget: int) -> Request:
    return Request(world.tasks, batch=2, most=12, budget=budget)


def with_level0_outcomes(evidence: Evidence, seed: int, checkpoints: np.ndarray) -> Evidence:
    """The same sweep had those checkpoints' unprompted attempts come out differently."""
    rng, k = np.random.default_rng(seed), evidence.k.copy()
    k[:, checkpoints, 0] = rng.integers(0, evidence.n[:, checkpoints, 0] + 1)
    return replace(evidence, k=k)


def test_no_outcome_of_a_cell_that_is_decided_about_changes_the_decision(world: World) -> None:
    decided = allocate(world.evidence, INFORMED, OPEN, request_of(world, 200))
    assert decided.sum() > 0
    for seed in range(4):
        other = with_level0_outcomes(world.evidence, seed, ~INFORMED)
        assert (allocate(other, INFORMED, OPEN, request_of(world, 200)) == decided).all()


def test_outcomes_of_earlier_rounds_do_change_it(world: World) -> None:
    decisions = {
        allocate(with_level0_outcomes(world.evidence, seed, INFORMED), INFORMED, OPEN, request_of(world, 200)).tobytes()
        for seed in range(4)
    }
    assert len(decisions) > 1


@pytest.mark.parametrize("budget", [0, 31, 200, 10**6])
def test_budget_batches_caps_and_candidates_are_kept(world: World, budget: int) -> None:
    given = allocate(world.evidence, INFORMED, OPEN, request_of(world, budget))
    spent = int((given * world.tasks[:, None]).sum())
    assert spent <= budget
    assert (given[:, ~OPEN] == 0).all()
    assert (given % 2 == 0).all()
    assert given.max() <= 12
    cheapest, dearest = 2 * int(world.tasks.min()), 2 * int(world.tasks.max())
    assert budget < cheapest or spent > budget - dearest or (given[:, OPEN] == 12).all()


def test_a_sweep_without_level_zero_gets_nothing(world: World) -> None:
    n, k = world.evidence.n.copy(), world.evidence.k.copy()
    n[:, :, 0] = k[:, :, 0] = 0
    assert allocate(replace(world.evidence, n=n, k=k), INFORMED, OPEN, request_of(world, 500)).sum() == 0


def test_checkpoints_are_dealt_out_from_the_last_backwards() -> None:
    assert rounds_of([10, 20, 30, 40, 50], 3) == [[50, 20], [40, 10], [30]]
    assert rounds_of([10, 20], 3) == [[20], [10]]
    assert rounds_of([], 3) == []


def test_information_adds_up_as_inverse_variances() -> None:
    rng = np.random.default_rng(0)
    root = rng.normal(size=(5, 5))
    cov, information = root @ root.T, np.array([0.0, 1.0, 0.0, 20.0, 3.0])
    direct = np.linalg.inv(np.linalg.inv(cov) + np.diag(information))
    np.testing.assert_allclose(observed(cov, information), direct, atol=1e-9)


def test_the_even_design_saves_nothing_and_its_equivalent_is_itself(world: World) -> None:
    attempts = np.full((3, 4), 3, dtype=np.int64)
    extra = attempts * world.tasks[:, None]
    found = savings(world.draw(world.evidence, attempts, 1), extra, world.tasks)
    assert found.uniform_attempts == pytest.approx(3, abs=1e-3)
    assert found.uniform_samples == found.samples
    assert found.width == pytest.approx(found.width_even)
    assert found.width < found.width_before
    nothing = savings(world.evidence, 0 * extra, world.tasks)
    assert (nothing.samples, nothing.uniform_samples) == (0, 0)


def test_the_rule_beats_an_even_spread_and_one_that_looks_at_zero_counts(world: World) -> None:
    budget = 600
    ours, theirs = (
        savings(after, after.direct()[0] - world.evidence.direct()[0], world.tasks)
        for after in (chosen(world, budget), zero_cells(world, budget))
    )
    assert 0 < ours.samples <= budget
    assert ours.width < ours.width_even
    assert ours.uniform_samples is not None
    assert ours.uniform_samples > ours.samples
    assert ours.uniform_samples / ours.samples > (theirs.uniform_samples or 0) / theirs.samples
