from __future__ import annotations

import numpy as np
import pytest

from foreshock.analysis.emergence.models import A_GRID, Model, Samples, model_inputs, score, usable
from foreshock.analysis.surfaces.features import Features, Reason

BLOCKS = np.tile(np.arange(8), 2)
RUNS = np.repeat([0, 1], 8)


def features(level: np.ndarray, slope: np.ndarray) -> Features:
    n = len(level)
    return Features(level, slope, level + slope, np.zeros(n, dtype=bool), (None,) * n)


def samples(model: Model, f: Features) -> Samples:
    keep = usable(model, f)
    return Samples(model_inputs(model, f, keep), BLOCKS[keep], RUNS[keep])


@pytest.mark.parametrize("model", list(Model))
def test_noise_features_have_mean_auc_one_half(model: Model) -> None:
    """Leave-one-out gives .36 here; comparing only samples that the same fit has not seen gives one half."""
    rng = np.random.default_rng(5)
    total = []
    for _ in range(60):
        f = features(rng.normal(size=16), rng.normal(size=16))
        labels = np.zeros((10, 16))
        for row in labels:
            row[rng.permutation(16)[:8]] = 1
        total.append(np.mean(score(model, samples(model, f), labels).auc))
    assert np.mean(total) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("model", list(Model))
def test_constant_features_have_auc_one_half_exactly(model: Model) -> None:
    f = features(np.full(16, 0.3), np.zeros(16))
    labels = np.array([[1.0, 0, 1, 0, 0, 1, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0]])
    totals = score(model, samples(model, f), labels)
    assert totals.auc[0] == 0.5
    assert totals.auc_within[0] == 0.5


@pytest.mark.parametrize("model", list(Model))
def test_perfect_features_reach_auc_one(model: Model) -> None:
    labels = np.array([[1.0, 0, 1, 0, 0, 1, 0, 0, 1, 1, 0, 0, 1, 0, 0, 0]])
    f = features(labels[0] * 4 + np.linspace(0, 0.1, 16), labels[0] + np.linspace(0, 0.1, 16))
    assert score(model, samples(model, f), labels).auc[0] == 1.0


def test_every_pair_is_counted_once_whatever_the_model() -> None:
    rng = np.random.default_rng(0)
    f = features(rng.normal(size=16), rng.normal(size=16))
    labels = (rng.random((5, 16)) < 0.5).astype(float)
    expected = labels.sum(1) * (1 - labels).sum(1)
    for model in Model:
        totals = score(model, samples(model, f), labels)
        assert totals.pairs == pytest.approx(expected)
        assert (totals.pairs_within <= totals.pairs).all()


def brute_force_tuned(level: np.ndarray, slope: np.ndarray, y: np.ndarray) -> float:
    wins = pairs = 0.0
    for i in np.flatnonzero(y == 1):
        for j in np.flatnonzero(y == 0):
            train = (BLOCKS[i] != BLOCKS) & (BLOCKS[j] != BLOCKS)
            best_a, best = 0.0, -1.0
            for a in A_GRID:
                s = level + a * slope
                positive, negative = s[train & (y == 1)], s[train & (y == 0)]
                won = (positive[:, None] > negative).sum() + 0.5 * (positive[:, None] == negative).sum()
                if won > best + 1e-9:
                    best_a, best = a, won
            a_scores = level + best_a * slope
            wins += float(a_scores[i] > a_scores[j]) + 0.5 * float(a_scores[i] == a_scores[j])
            pairs += 1
    return wins / pairs


def test_tuned_projection_equals_a_direct_search_without_the_pairs_types() -> None:
    rng = np.random.default_rng(2)
    for _ in range(4):
        level, slope = rng.normal(size=16), rng.normal(size=16)
        y = np.zeros(16)
        y[rng.permutation(16)[:6]] = 1
        got = score(Model.TUNED, samples(Model.TUNED, features(level, slope)), y[None]).auc[0]
        assert got == pytest.approx(brute_force_tuned(level, slope, y))


def test_unobserved_bounds_tie_below_every_observed_one() -> None:
    level = np.array([np.nan, -9.0, np.nan, -2.0, *[-5.0] * 12])
    bottom = np.isnan(level)
    reasons = tuple(Reason.NO_SUCCESS if b else None for b in bottom)
    f = Features(level, np.full(16, np.nan), level, bottom, reasons)
    inputs = samples(Model.LEVEL, f)
    assert inputs.size == 16
    y = np.zeros((1, 16))
    y[0, 1] = 1
    # -9 loses to thirteen observed levels and beats the two unobserved ones.
    assert score(Model.LEVEL, inputs, y).auc[0] == pytest.approx(2 / 15)
    assert usable(Model.SLOPE, f).sum() == 0


def test_levels_that_were_never_measured_leave_the_sample() -> None:
    level = np.array([np.nan, *[1.0] * 15])
    f = Features(level, np.zeros(16), level, np.zeros(16, dtype=bool), (Reason.NOT_MEASURED, *[None] * 15))
    assert samples(Model.LEVEL, f).size == 15
