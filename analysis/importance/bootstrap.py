"""Task-level bootstrap of importance-sampling quantities.

Tasks are resampled, never rows. Attempts, levels and checkpoints of a task share its donor traces, so resampling rows
would count one lucky trace many times.
"""

from __future__ import annotations

import numpy as np

from foreshock.analysis.evidence.evidence import Floats, Ints


def bootstrap_log_mean(
    log_values: Floats, task: Ints, probabilities: tuple[float, ...], draws: int = 400, seed: int = 0
) -> Floats:
    """Quantiles of log(mean of values) over task resamples: [len(probabilities)].

    log_values: [n], -inf for zero contributions; task: [n] codes. -inf where a resample holds no success.
    """
    codes, index = np.unique(task, return_inverse=True)
    largest = np.max(log_values, initial=-np.inf)
    if not np.isfinite(largest):
        return np.full(len(probabilities), -np.inf)
    # Order by code, so that the order of the rows cannot change the result.
    sums = np.bincount(index, weights=np.exp(log_values - largest), minlength=len(codes))
    sizes = np.bincount(index, minlength=len(codes)).astype(np.float64)
    counts = np.random.default_rng(seed).multinomial(len(codes), np.full(len(codes), 1 / len(codes)), size=draws)
    with np.errstate(divide="ignore"):
        log_means = np.log(counts @ sums) - np.log(counts @ sizes) + largest
    return np.asarray(np.quantile(log_means, probabilities, method="inverted_cdf"))
