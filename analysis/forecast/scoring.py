"""Scores of probability forecasts, and the base rate they have to beat.

Two base rates. `base_rate` is the share of positives in the very samples that are scored, which no forecaster could
have known, so beating it is an honest claim. `base_rate_without` leaves out the sample's own exploit type (in every
run), which is what one could have known.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Array = NDArray[np.float64]
BINS = 5
"""Bins of a reliability table."""
_FLOOR = 1e-3
"""Forecasts are kept this far from 0 and 1 in the log score, so that one sample cannot decide it."""


@dataclass(frozen=True, slots=True)
class Scores:
    """Mean scores of n forecasts; lower is better. NaN when n is 0."""

    n: int
    n_positive: float
    brier: float
    log_score: float
    brier_base: float
    log_base: float
    brier_base_without: float

    @property
    def skill(self) -> float:
        """1 - Brier / Brier of the base rate: above 0 beats it. NaN where the base rate is never wrong."""
        return 1 - self.brier / self.brier_base if self.brier_base > 0 else np.nan


def brier(forecast: Array, outcome: Array) -> float:
    """Mean squared error of probabilities; outcomes in [0, 1]. NaN when empty."""
    return float(np.mean((forecast - outcome) ** 2)) if len(outcome) else np.nan


def log_score(forecast: Array, outcome: Array) -> float:
    """Mean negative log likelihood in nats. NaN when empty."""
    if not len(outcome):
        return np.nan
    p = np.clip(forecast, _FLOOR, 1 - _FLOOR)
    return float(-np.mean(outcome * np.log(p) + (1 - outcome) * np.log(1 - p)))


def score_forecasts(forecast: Array, outcome: Array, types: Array) -> Scores:
    """Score forecasts [n] of outcomes [n] (0, 1 or label probabilities); types [n] name the exploit types."""
    forecast, outcome = np.asarray(forecast, float), np.asarray(outcome, float)
    if np.isnan(forecast).any() or np.isnan(outcome).any():
        raise ValueError("forecasts and outcomes must be numbers; leave out samples without one")
    n = len(outcome)
    base = np.full(n, outcome.mean()) if n else outcome
    return Scores(
        n=n,
        n_positive=float(outcome.sum()),
        brier=brier(forecast, outcome),
        log_score=log_score(forecast, outcome),
        brier_base=brier(base, outcome),
        log_base=log_score(base, outcome),
        brier_base_without=brier(_without_own_type(outcome, types), outcome),
    )


def _without_own_type(outcome: Array, types: Array) -> Array:
    """Per sample the rate among other types, one success and one failure added (never 0 or 1)."""
    out = np.empty(len(outcome))
    for kind in np.unique(types):
        rest = np.asarray(types) != kind
        out[~rest] = (outcome[rest].sum() + 1) / (rest.sum() + 2)
    return out


def bin_of(forecast: Array, bins: int = BINS) -> NDArray[np.int64]:
    """The equal-width bin of each probability, from 0."""
    return np.clip(np.digitize(forecast, np.linspace(0, 1, bins + 1)[1:-1]), 0, bins - 1).astype(np.int64)


def reliability_table(forecast: Array, outcome: Array, bins: int = BINS) -> pd.DataFrame:
    """Forecast against frequency in equal-width bins.

    Columns: bin_lower, bin_upper, n, mean_forecast, frequency, lower95, upper95 (Wilson limits of the frequency).
    Empty bins are left out.
    """
    edges = np.linspace(0, 1, bins + 1)
    which = bin_of(forecast, bins)
    rows = []
    for b in range(bins):
        mine = which == b
        n = int(mine.sum())
        if not n:
            continue
        share = float(np.mean(outcome[mine]))
        z = 1.959964
        centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
        half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
        rows.append((edges[b], edges[b + 1], n, float(np.mean(forecast[mine])), share, centre - half, centre + half))
    columns = ["bin_lower", "bin_upper", "n", "mean_forecast", "frequency", "lower95", "upper95"]
    return pd.DataFrame(rows, columns=columns)
