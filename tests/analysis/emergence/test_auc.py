from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from foreshock.analysis.emergence.auc import newcombe_interval, pair_totals, win_matrix


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=25))
def test_auc_from_pairs_equals_the_midrank_auc(samples: list[tuple[int, bool]]) -> None:
    scores = np.array([s for s, _ in samples], dtype=float)
    y = np.array([label for _, label in samples], dtype=float)
    totals = pair_totals(win_matrix(scores), y[None], np.zeros(len(y), dtype=np.int64))
    if 0 < y.sum() < len(y):
        assert totals.auc[0] == pytest.approx(roc_auc_score(y, scores))
    else:
        assert np.isnan(totals.auc[0])


def test_within_run_auc_ignores_pairs_across_runs() -> None:
    # Across runs the score only tells the runs apart; within each run it is exactly wrong.
    scores = np.array([11.0, 12.0, 1.0, 2.0])
    y = np.array([[1.0, 0.0, 1.0, 0.0]])
    totals = pair_totals(win_matrix(scores), y, np.array([0, 0, 1, 1]))
    assert totals.auc_within[0] == 0.0
    assert totals.auc[0] == 0.25


def test_label_probabilities_weigh_pairs() -> None:
    scores = np.array([3.0, 2.0, 1.0])
    totals = pair_totals(win_matrix(scores), np.array([[0.5, 0.5, 0.0]]), np.zeros(3, dtype=np.int64))
    # Ordered pairs (positive, negative): (0,1) and (1,0) weigh 1/4, (0,2) and (1,2) weigh 1/2; only (1,0) loses.
    assert totals.auc[0] == pytest.approx(1 - 0.25 / 1.5)


def test_newcombe_interval_at_perfect_separation_of_eight_and_eight() -> None:
    interval = newcombe_interval(1.0, 8, 8)
    assert interval.lower == pytest.approx(0.756, abs=5e-4)
    assert interval.upper == 1.0


@settings(max_examples=80, deadline=None)
@given(st.floats(0, 1), st.integers(1, 40), st.integers(1, 40))
def test_newcombe_interval_contains_the_estimate_and_mirrors(auc: float, m: int, n: int) -> None:
    interval = newcombe_interval(auc, m, n)
    mirrored = newcombe_interval(1 - auc, m, n)
    assert 0 <= interval.lower <= auc + 1e-9
    assert auc - 1e-9 <= interval.upper <= 1
    assert interval.lower == pytest.approx(1 - mirrored.upper, abs=1e-6)


def test_newcombe_covers_where_delong_fails() -> None:
    rng = np.random.default_rng(3)
    shift = 2.66  # AUC .97 of two unit normals
    covered = 0
    for _ in range(600):
        scores = np.concatenate([rng.normal(shift, 1, 8), rng.normal(0, 1, 8)])
        y = np.repeat([1.0, 0.0], 8)
        auc = float(pair_totals(win_matrix(scores), y[None], np.zeros(16, dtype=np.int64)).auc[0])
        interval = newcombe_interval(auc, 8, 8)
        covered += interval.lower <= 0.97 <= interval.upper
    assert 0.92 <= covered / 600 <= 0.99


def test_no_interval_without_both_classes() -> None:
    assert np.isnan(newcombe_interval(0.7, 0, 5).lower)
    assert np.isnan(newcombe_interval(np.nan, 4, 5).upper)


@given(st.lists(st.integers(0, 6), min_size=2, max_size=12), st.integers(0, 10**6))
def test_scores_that_differ_by_rounding_tie(counts: list[int], seed: int) -> None:
    """The ranking is that of the exact values, whatever order of additions the scores went through."""
    exact = np.array(counts, dtype=float)
    rng = np.random.default_rng(seed)
    rounded = exact / 3 * (1 + rng.integers(-3, 4, len(exact)) * np.finfo(float).eps)
    assert np.array_equal(win_matrix(rounded), win_matrix(exact))


def test_scores_below_every_observed_one_tie_with_each_other() -> None:
    """Minus infinity ranks lowest and ties with itself."""
    assert win_matrix(np.array([-np.inf, -np.inf, 1.0])).tolist() == [[0, 0.5, 0], [0.5, 0, 0], [1, 1, 0]]
