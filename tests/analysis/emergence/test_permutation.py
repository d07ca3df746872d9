from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from foreshock.analysis.emergence.permutation import WithinRunShuffles, grid_p_values, mid_p

RUNS = pd.Index(["a"] * 5 + ["b"] * 6)


def test_shuffles_keep_each_runs_number_of_positives() -> None:
    labels = np.array([1.0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0])
    out = WithinRunShuffles(RUNS, 200, 0).shuffle(labels, np.ones(11, dtype=bool))
    assert (out[:, :5].sum(1) == 2).all()
    assert (out[:, 5:].sum(1) == 1).all()
    assert len(np.unique(out, axis=0)) > 20


def test_shuffles_of_a_subset_use_the_same_order_of_types() -> None:
    shuffles = WithinRunShuffles(RUNS, 50, 1)
    keep = np.ones(11, dtype=bool)
    labels = np.arange(11.0)
    whole = shuffles.shuffle(labels, keep)
    again = shuffles.shuffle(labels, keep)
    assert (whole == again).all()


def test_mid_p_of_one_draw_from_the_null_is_uniform() -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(0, 60, (400, 200)) / 60
    p = mid_p(values[:, 0], values[:, 1:])
    assert stats.kstest(p, "uniform").pvalue > 0.01


def test_grid_p_accounts_for_the_number_of_cells() -> None:
    rng = np.random.default_rng(1)
    shuffled = rng.normal(0.5, 0.1, (40, 999))
    observed = shuffled[:, 0].copy()
    observed[7] = 0.5 + 0.26  # p = .005 alone, expected among forty
    p = grid_p_values(observed, shuffled)
    assert p.single[7] == pytest.approx(0.005, abs=0.006)
    assert p.adjusted[7] is not None
    assert p.adjusted[7] > 0.08
    assert all(a >= s - 1e-9 for a, s in zip(p.adjusted, p.single, strict=True) if a is not None and s is not None)


def test_a_cell_that_no_shuffle_changes_has_no_p_value() -> None:
    shuffled = np.vstack([np.full(99, 0.7), np.linspace(0, 1, 99), np.full(99, np.nan)])
    p = grid_p_values(np.array([0.7, 0.9, np.nan]), shuffled)
    assert p.single[0] is None
    assert p.single[2] is None
    assert p.single[1] is not None
