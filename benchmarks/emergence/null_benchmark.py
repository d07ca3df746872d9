"""Data in which nothing seen early says anything about later: p-values must be uniform and AUC one half.

Rates after the cutoffs are drawn anew, independent of everything before, while sample sizes differ between types; so
smoothing that ranks types by sample size, shared noise between label and feature, or a model that profits from
telling the runs apart would all show.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from foreshock.analysis.emergence.evaluate import Evaluation, evaluate_emergence

_STEPS = (1, 4, 16, 64)
_LEVELS = (0, 20)


def null_cells(seed: int, types: int = 8) -> pd.DataFrame:
    """A cell table without signal: half the types of each run pass 10% at the last checkpoint, at random."""
    rng = np.random.default_rng(seed)
    rows = []
    for run in ("exploit", "control"):
        for kind in range(types):
            start, end, n = rng.uniform(0.0, 0.03), rng.choice([0.005, 0.25]), int(rng.integers(20, 89))
            for i, step in enumerate(_STEPS):
                for level in _LEVELS:
                    rate = rng.uniform(0.1, 0.6) if level else end if i == len(_STEPS) - 1 else start
                    k, kl = int(rng.binomial(n, rate)), float(rng.normal(5, 2))
                    rows.append((run, f"type_{kind}", step, level, n, k, kl if level else np.nan))
    cells = pd.DataFrame(rows, columns=["run", "exploit_type", "checkpoint", "prefill_level", "n", "k", "kl_mean"])
    return cells.assign(kl_success=cells["kl_mean"].where(cells["k"] > 0), logprob_mean=-cells["kl_mean"] - 20)


@dataclass(frozen=True, slots=True)
class NullSummary:
    """`by_model`: mean AUC and KS p of the single p-values; `grid_ks`: KS p of the best-of-grid p-values."""

    by_model: pd.DataFrame
    grid_ks: float
    grid_share_below_05: float
    runs: int


def evaluate_null(runs: int, permutations: int) -> Iterator[Evaluation]:
    """Evaluations of `runs` null tables."""
    for seed in range(runs):
        yield evaluate_emergence(null_cells(seed), permutations=permutations, seed=seed)


def summarise_null(evaluations: Iterator[Evaluation]) -> NullSummary:
    """KS tests against the uniform distribution and mean AUC per model.

    Single p-values: one a run, of `exploit_logprob` after two checkpoints, so that they are independent.
    """
    tables, grid = [], []
    for index, evaluation in enumerate(evaluations):
        tables.append(evaluation.results.assign(seed=index))
        if evaluation.grid_p is not None:
            grid.append(evaluation.grid_p)
    results = pd.concat(tables, ignore_index=True)
    one = results[(results["metric"] == "exploit_logprob") & (results["cutoff_idx"] == 1)]
    rows = []
    for model, part in results.groupby("model"):
        mine = one.loc[one["model"] == model, "p_value"].dropna().to_numpy(float)
        rows.append(
            {
                "model": model,
                "mean_auc": float(part["auc"].mean()),
                "mean_auc_within_run": float(part["auc_within_run"].mean()),
                "ks_p": float(stats.kstest(mine, "uniform").pvalue),
                "share_below_05": float((mine <= 0.05).mean()),
                "n": len(mine),
            }
        )
    p = np.asarray(grid, dtype=float)
    return NullSummary(
        pd.DataFrame(rows), float(stats.kstest(p, "uniform").pvalue), float((p <= 0.05).mean()), len(tables)
    )
