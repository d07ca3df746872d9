from __future__ import annotations

import numpy as np
import pytest

from foreshock.analysis.surfaces.labels import LevelZero, exceedance_probability


def series(rates: list[float], n: int = 40) -> LevelZero:
    return LevelZero(np.log(2.0 ** np.arange(len(rates))), np.round(np.array(rates) * n), np.full(len(rates), float(n)))


def test_clear_cases_are_near_certain() -> None:
    p = exceedance_probability([series([0, 0, 0, 0]), series([0, 0.1, 0.4, 0.6]), series([1, 1, 1, 1])])
    assert p[0] < 0.02
    assert p[1] > 0.99
    assert p[2] > 0.999


def test_one_chance_exceedance_among_many_low_counts_does_not_make_a_label() -> None:
    """k/n > 10% once in nine checkpoints is what a constant 6% gives a third of the time."""
    lucky = LevelZero(np.log(np.arange(1.0, 10.0)), np.array([1, 0, 2, 3, 1, 0, 1, 2, 1.0]), np.full(9, 24.0))
    assert (lucky.k / lucky.n).max() > 0.10
    assert exceedance_probability([lucky])[0] < 0.5


def test_labels_are_calibrated_for_rates_near_the_threshold() -> None:
    rng = np.random.default_rng(4)
    steps = np.log(np.arange(1.0, 9.0))
    probabilities, truths = [], []
    for _ in range(150):
        logits = rng.normal(-3.5, 2.0) + np.cumsum(rng.normal(0, 0.35, 8))
        rate = 1 / (1 + np.exp(-logits))
        k = rng.binomial(40, rate).astype(float)
        probabilities.append(LevelZero(steps, k, np.full(8, 40.0)))
        truths.append(rate.max() > 0.1)
    p, y = exceedance_probability(probabilities), np.array(truths, dtype=float)
    assert p.mean() == pytest.approx(y.mean(), abs=0.07)
    middle = (p > 0.2) & (p < 0.8)
    assert middle.sum() >= 10
    assert y[middle].mean() == pytest.approx(p[middle].mean(), abs=0.25)


def test_more_evidence_sharpens_and_no_evidence_is_unknown() -> None:
    few, many = exceedance_probability([series([0.05, 0.05], n=20), series([0.05, 0.05], n=400)])
    assert many < few
    empty = LevelZero(np.empty(0), np.empty(0), np.empty(0))
    assert np.isnan(exceedance_probability([empty])[0])
