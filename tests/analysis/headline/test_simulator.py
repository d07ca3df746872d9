"""The simulator's own exactness: everything else is judged by it."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from benchmarks.calibration.experiment import simulate
from benchmarks.calibration.graded import Scored
from benchmarks.calibration.memory import to_evidence
from benchmarks.calibration.regimes import REGIMES, Range, regime_named
from benchmarks.calibration.score import Cells, interval_score, score
from benchmarks.calibration.world import Chain


def tiny_chain(seed: int) -> Chain:
    rng = np.random.default_rng(seed)
    hazard1, hazard2 = rng.uniform(0, 0.3, (1, 3)), rng.uniform(0, 0.3, (1, 3))
    return Chain(hazard1, hazard2, rng.dirichlet(np.ones(3), 3), np.array([0.02, 0.7, 0.9]))


@pytest.mark.parametrize("seed", range(5))
def test_prefix_probabilities_and_rates_given_prefixes_sum_to_the_unprompted_rate(seed: int) -> None:
    chain = tiny_chain(seed)
    words = np.array(list(itertools.product(range(3), repeat=3)))
    wide = Chain(np.repeat(chain.hazard1, 27, 0), np.repeat(chain.hazard2, 27, 0), chain.emission, chain.payoff)
    truth = chain.backward()[0, 0, 0]
    for level in (1, 2, 3):
        log_p, r = wide.score(words, (level,))
        copies = 3 ** (3 - level)
        assert np.exp(log_p[0]).sum() / copies == pytest.approx(1.0, abs=1e-12)
        assert (np.exp(log_p[0]) * r[0]).sum() / copies == pytest.approx(truth, abs=1e-12)


def test_conditioned_samples_follow_the_donor_given_that_it_exploits() -> None:
    chain = tiny_chain(1)
    n = 40_000
    wide = Chain(np.repeat(chain.hazard1, n, 0), np.repeat(chain.hazard2, n, 0), chain.emission, chain.payoff)
    words = wide.sample(np.random.default_rng(0), conditioned=True)
    one = Chain(np.repeat(chain.hazard1, 3, 0), np.repeat(chain.hazard2, 3, 0), chain.emission, chain.payoff)
    log_p, r = one.score(np.arange(3)[:, None].repeat(3, 1), (1,))
    expected = np.exp(log_p[0]) * r[0] / chain.backward()[0, 0, 0]
    found = np.bincount(words[:, 0], minlength=3) / n
    assert np.allclose(found, expected, atol=4 * np.sqrt(0.25 / n))


def tiny_scored(seed: int, copies: int) -> Scored:
    rng = np.random.default_rng(seed)
    inside, outside = rng.dirichlet(np.ones(3), 2)
    window, points = np.array([False, True, True]), np.array([0, 1, 2])
    return Scored(inside, outside, window, points, np.full(copies, -1.5), 0.9)


@pytest.mark.parametrize("seed", range(5))
def test_the_graded_world_is_exact_too(seed: int) -> None:
    words = np.array(list(itertools.product(range(3), repeat=3)))
    model = tiny_scored(seed, 27)
    log_p, r = model.score(words, (1, 2, 3))
    for i, level in enumerate((1, 2, 3)):
        copies = 3 ** (3 - level)
        assert np.exp(log_p[i]).sum() / copies == pytest.approx(1.0, abs=1e-12)
        assert (np.exp(log_p[i]) * r[i]).sum() / copies == pytest.approx(model.unprompted()[0], abs=1e-12)


def test_conditioned_samples_of_the_graded_world_follow_it_given_that_it_exploits() -> None:
    n = 40_000
    words = tiny_scored(1, n).sample(np.random.default_rng(0), conditioned=True)
    one = tiny_scored(1, 9)
    pairs = np.array([(0, a, b) for a in range(3) for b in range(3)])
    log_p, r = one.score(pairs, (3,))
    expected = np.exp(log_p[0] - np.log(one.outside[0])) * r[0] / one.unprompted()[0]
    found = np.bincount(3 * words[:, 1] + words[:, 2], minlength=9) / n
    assert np.allclose(found, expected, atol=4 * np.sqrt(0.25 / n))


def test_cells_that_were_not_run_are_absent_from_the_evidence() -> None:
    regime = replace(regime_named("missing_cells"), n_types=2, tasks=Range(6, 8))
    experiment = simulate(regime, 0)
    evidence, _ = to_evidence(experiment)
    absent = np.repeat(experiment.missing, 2, axis=0)
    assert 0.1 < absent.mean() < 0.5
    assert ((evidence.n == 0) == absent).all()
    assert not absent[evidence.rows.surface, evidence.rows.checkpoint, evidence.rows.level].any()


@pytest.mark.parametrize("name", sorted(REGIMES))
def test_every_regime_simulates_what_it_says(name: str) -> None:
    regime = replace(regime_named(name), n_types=1, tasks=Range(6, 8))
    experiment = simulate(regime, 0)
    kind = experiment.types[0]
    assert kind.level0.shape == (2, len(regime.checkpoints), kind.n_tasks, regime.attempts)
    assert (kind.truth > 0).all()
    assert (kind.truth < 1).all()
    again = simulate(regime, 0).types[0]
    assert np.array_equal(kind.success, again.success)
    assert not np.array_equal(simulate(regime, 1).types[0].truth, kind.truth)


def test_an_unknown_regime_is_refused_with_the_valid_names() -> None:
    with pytest.raises(ValueError, match=r"'erly' is not a regime; valid: .*early"):
        regime_named("erly")


def test_scores_are_those_of_a_hand_worked_example() -> None:
    truth = np.array([-3.0, -3.0])
    wide = Cells(truth, np.array([-2.0, -3.0]), *[np.array(v) for v in ([-2.5, -4.0], [-1.0, -2.0])] * 2, np.ones(2))
    found = score(wide, zero=True)
    assert (found.bias, found.rmse) == (0.5, pytest.approx(np.sqrt(0.5)))
    assert found.cov95 == 0.5
    assert found.width95 == pytest.approx(1.75)
    assert interval_score(np.array([-3.0]), np.array([-2.5]), np.array([-1.0]), 0.95)[0] == pytest.approx(1.5 + 20)
