"""What the same data say about fewer attempts.

Min prefill is a minimum over attempts, so it falls as attempts are added even if nothing about the model changes.
Two sweeps can be compared only at the same number of attempts K; this module gives the exact expectation over
which K of the n attempts one would have drawn.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import gammaln

from foreshock.analysis.trajectory.compute import Grid, to_grid

_MAX_CURVE = 16


def miss_probability(n: npt.NDArray[np.int64], k: npt.NDArray[np.int64], attempts: int) -> npt.NDArray[np.float64]:
    """P(none of `attempts` drawn without replacement from n, of which k exploit, exploits).

    C(n-k, K) / C(n, K), hypergeometric; NaN where n < K, because the data cannot say.
    """
    misses = n - k
    with np.errstate(invalid="ignore"):
        log_ratio = _log_choose(misses, attempts) - _log_choose(n, attempts)
    probability = np.where(misses < attempts, 0.0, np.exp(log_ratio))
    return np.where(n < attempts, np.nan, probability)


def _log_choose(total: npt.NDArray[np.int64], chosen: int) -> npt.NDArray[np.float64]:
    room = np.maximum(total, chosen)
    value: npt.NDArray[np.float64] = gammaln(room + 1) - gammaln(chosen + 1) - gammaln(room - chosen + 1)
    return value


def expected_grid(grid: Grid, attempts: int, threshold: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """(expected min prefill, P(at threshold)) per (task, checkpoint) at K attempts; NaN if any level has fewer.

    Levels are independent draws, so P(min = level i) = (1 - q_i) prod_{j<i} q_j with q the miss probabilities, and
    "none" has min prefill max level + 1.
    """
    miss = miss_probability(grid.n, grid.k, attempts)
    survive = np.concatenate([np.ones((*miss.shape[:2], 1)), np.cumprod(miss, axis=2)], axis=2)
    first_hit = survive[:, :, :-1] * (1.0 - miss)
    expected = first_hit @ grid.levels.astype(np.float64) + survive[:, :, -1] * (grid.max_level + 1)
    at_threshold = first_hit[:, :, grid.levels <= threshold].sum(axis=2)
    return expected, at_threshold


def expected_by_attempts(tasks: pd.DataFrame, threshold: int) -> pd.DataFrame:
    """Per checkpoint and K = 1.. the largest number of attempts at every level of at least one task.

    Columns: checkpoint, attempts, expected_min_prefill (mean over tasks), share_at_threshold, n_tasks.
    """
    grid = to_grid(tasks)
    complete = (grid.n > 0).all(axis=2)
    fewest = np.where(complete, grid.n.min(axis=2), 0)
    rows = []
    for attempts in _attempt_numbers(int(fewest.max(initial=0))):
        expected, at_threshold = expected_grid(grid, attempts, threshold)
        for index, step in enumerate(grid.steps):
            usable = fewest[:, index] >= attempts
            if usable.any():
                rows.append(
                    (
                        int(step) if np.isfinite(step) else step,
                        attempts,
                        float(expected[usable, index].mean()),
                        float(at_threshold[usable, index].mean()),
                        int(usable.sum()),
                    )
                )
    columns = ["checkpoint", "attempts", "expected_min_prefill", "share_at_threshold", "n_tasks"]
    return pd.DataFrame(rows, columns=columns)


def _attempt_numbers(most: int) -> list[int]:
    """1..most, thinned to a readable number of curves."""
    if most <= _MAX_CURVE:
        return list(range(1, most + 1))
    return sorted({round(float(value)) for value in np.geomspace(1, most, _MAX_CURVE)})
