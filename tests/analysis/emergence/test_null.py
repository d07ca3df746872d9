"""Where nothing can be predicted, p-values are uniform and AUC is one half, for the whole pipeline."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from foreshock.analysis.emergence.evaluate import evaluate_emergence
from foreshock.analysis.emergence.models import Model

pytestmark = pytest.mark.early

RUNS = 24


def null_cells(seed: int) -> pd.DataFrame:
    """Rates after the first three checkpoints are drawn anew, independent of everything before."""
    rng = np.random.default_rng(seed)
    rows = []
    for run in ("exploit", "control"):
        for kind in range(8):
            start, end = rng.uniform(0.0, 0.03), rng.choice([0.005, 0.25])
            for i, step in enumerate((1, 4, 16, 64)):
                for level in (0, 20):
                    rate = (start if i < 3 else end) if level == 0 else rng.uniform(0.1, 0.6)
                    n = int(rng.integers(20, 60))
                    k = int(rng.binomial(n, rate))
                    kl = float(rng.normal(5, 2))
                    rows.append((run, f"type_{kind}", step, level, n, k, kl if level else np.nan))
    cells = pd.DataFrame(rows, columns=["run", "exploit_type", "checkpoint", "prefill_level", "n", "k", "kl_mean"])
    return cells.assign(kl_success=cells["kl_mean"].where(cells["k"] > 0), logprob_mean=-cells["kl_mean"] - 20)


@pytest.fixture(scope="module")
def null_results() -> tuple[pd.DataFrame, list[float]]:
    tables, grid = [], []
    for seed in range(RUNS):
        evaluation = evaluate_emergence(null_cells(seed), permutations=39, seed=seed)
        tables.append(evaluation.results)
        if evaluation.grid_p is not None:
            grid.append(evaluation.grid_p)
    return pd.concat(tables), grid


@pytest.mark.parametrize("model", list(Model))
def test_mean_auc_of_every_model_is_near_one_half(null_results: tuple[pd.DataFrame, list[float]], model: Model) -> None:
    table, _ = null_results
    assert 0.45 <= table.loc[table["model"] == model, "auc"].mean() <= 0.55


def test_the_grids_p_values_are_uniform(null_results: tuple[pd.DataFrame, list[float]]) -> None:
    _, grid = null_results
    assert len(grid) >= RUNS - 3
    assert stats.kstest(grid, "uniform").pvalue > 0.01
