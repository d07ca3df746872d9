"""Unprompted rates as logits, and how predictions of them are scored.

A count becomes the posterior mean and variance of its logit under the Jeffreys prior,
digamma(k + 1/2) - digamma(n - k + 1/2) and trigamma(k + 1/2) + trigamma(n - k + 1/2), finite at 0 and n.

Predictions are scored by the likelihood of the counts themselves (binomial deviance per attempt) besides errors in
logits, because the logit of a zero count says more about n than about the rate; fits weigh each value by its variance
for the same reason.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import digamma, expit, polygamma, xlogy

from foreshock.analysis.surfaces.cells import SURFACE

Array = NDArray[np.float64]


def logit_of_counts(k: Array, n: Array) -> tuple[Array, Array]:
    """(mean, variance) of the logit rate given k of n, under the Jeffreys prior."""
    mean = digamma(k + 0.5) - digamma(n - k + 0.5)
    variance = polygamma(1, k + 0.5) + polygamma(1, n - k + 0.5)
    return np.asarray(mean, dtype=float), np.asarray(variance, dtype=float)


def level_zero_logits(cells: pd.DataFrame) -> pd.DataFrame:
    """run, exploit_type, checkpoint, k, n, logit, variance of every level-0 cell with attempts."""
    zero = cells[(cells["prefill_level"] == 0) & (cells["n"] > 0)].sort_values([*SURFACE, "checkpoint"])
    mean, variance = logit_of_counts(zero["k"].to_numpy(float), zero["n"].to_numpy(float))
    return zero[[*SURFACE, "checkpoint", "k", "n"]].assign(logit=mean, variance=variance).reset_index(drop=True)


@dataclass(frozen=True, slots=True)
class LogitScores:
    """Errors of n predicted logits: RMSE in logits and in rates, and binomial deviance per attempt (nats)."""

    n: int
    rmse_logit: float
    rmse_rate: float
    deviance: float


def score_logits(predicted: Array, truth: pd.DataFrame) -> LogitScores:
    """Score predictions [n] for the rows of `truth` (columns k, n, logit); rows without a prediction are left out."""
    known = np.isfinite(predicted)
    p, rows = predicted[known], truth[known]
    if not len(rows):
        return LogitScores(0, np.nan, np.nan, np.nan)
    k, n = rows["k"].to_numpy(float), rows["n"].to_numpy(float)
    rate = k / n
    best = xlogy(k, np.maximum(rate, 1e-300)) + xlogy(n - k, np.maximum(1 - rate, 1e-300))
    likelihood = k * p - n * np.logaddexp(0, p)
    return LogitScores(
        n=len(rows),
        rmse_logit=float(np.sqrt(np.mean((p - rows["logit"].to_numpy(float)) ** 2))),
        rmse_rate=float(np.sqrt(np.mean((expit(p) - rate) ** 2))),
        deviance=float(2 * (best - likelihood).sum() / n.sum()),
    )


def weighted_line(x: Array, y: Array, variance: Array, extra: float = 0.25) -> tuple[float, float]:
    """(intercept, slope) of weighted least squares, flat when x is constant; `extra`: variance around the line."""
    weight = 1 / (variance + extra)
    x_mean, y_mean = np.average(x, weights=weight), np.average(y, weights=weight)
    spread = float((weight * (x - x_mean) ** 2).sum())
    slope = 0.0 if spread < 1e-12 else float((weight * (x - x_mean) * (y - y_mean)).sum() / spread)
    return float(y_mean - slope * x_mean), slope
