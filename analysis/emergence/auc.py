"""AUC from pairwise wins, and Newcombe's interval for it.

AUC = P(score of a positive > score of a negative) + half the ties: a mean over pairs. Working with pairs (instead
of ranks) lets each pair be judged by a model that has seen neither of its two types, and lets pairs be restricted
to one run.

Newcombe's method 5, not DeLong or the bootstrap. At 8 against 8 and AUC .97 those cover 57% of the time instead of
95%, and at AUC 1 they collapse to a point; method 5 keeps its coverage.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import norm

Array = NDArray[np.float64]
ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class PairTotals:
    """Sums over (positive, negative) pairs for B labellings: wins and pairs, over all runs and within runs. [B]."""

    wins: Array
    pairs: Array
    wins_within: Array
    pairs_within: Array

    @property
    def auc(self) -> Array:
        """AUC over all pairs; NaN without pairs."""
        return _ratio(self.wins, self.pairs)

    @property
    def auc_within(self) -> Array:
        """AUC over pairs of the same run; NaN without such pairs."""
        return _ratio(self.wins_within, self.pairs_within)


def _ratio(top: Array, bottom: Array) -> Array:
    return np.asarray(np.divide(top, bottom, out=np.full(np.shape(bottom), np.nan), where=bottom > 0))


def win_matrix(scores: Array, rounding: float = ROUNDING) -> Array:
    """[n, n] matrix: 1 where row i scores above column j, one half for ties, 0 on the diagonal.

    Scores closer than `rounding` times the largest tie: equal counts must rank alike however their slope was summed.
    """
    finite = np.abs(scores[np.isfinite(scores)])
    tolerance = rounding * float(finite.max(initial=0.0))
    with np.errstate(invalid="ignore"):
        gap = scores[:, None] - scores[None, :]
    gap[np.isnan(gap)] = 0.0  # two scores below every observed one
    wins = (gap > tolerance) + 0.5 * (np.abs(gap) <= tolerance)
    np.fill_diagonal(wins, 0.0)
    return np.asarray(wins)


def same_run(runs: NDArray[np.int64]) -> Array:
    """[n, n] matrix of ones where two samples share their run."""
    return np.asarray(runs[:, None] == runs[None, :], dtype=float)


def pair_totals(wins: Array, labels: Array, runs: NDArray[np.int64]) -> PairTotals:
    """Totals of a fixed win matrix [n, n] for labels [B, n] in [0, 1] (probabilities weigh pairs)."""
    near = same_run(runs)
    apart = 1 - np.eye(len(runs))
    rest = 1 - labels
    return PairTotals(
        wins=((labels @ wins) * rest).sum(-1),
        pairs=((labels @ apart) * rest).sum(-1),
        wins_within=((labels @ (wins * near)) * rest).sum(-1),
        pairs_within=((labels @ (apart * near)) * rest).sum(-1),
    )


@dataclass(frozen=True, slots=True)
class Interval:
    """Limits of a confidence interval; NaN where there is none."""

    lower: float
    upper: float


def newcombe_interval(auc: float, positives: float, negatives: float, confidence: float = 0.95) -> Interval:
    """Newcombe's method 5 interval for an AUC.

    Solves (auc - t)^2 = z^2 V(t) with V(t) = t (1 - t) {1 + N [(1 - t)/(2 - t) + t/(1 + t)]} / (m n) and
    N = (m + n)/2 - 1. m, n may be sums of label probabilities.
    Source: Newcombe (2006), Statistics in Medicine 25, 559-573.
    """
    if not np.isfinite(auc) or positives <= 0 or negatives <= 0:
        return Interval(np.nan, np.nan)
    z2 = norm.ppf(0.5 + confidence / 2) ** 2
    extra = max((positives + negatives) / 2 - 1, 0.0)

    def excess(t: float) -> float:
        shape = 1 + extra * ((1 - t) / (2 - t) + t / (1 + t))
        return float((auc - t) ** 2 - z2 * t * (1 - t) * shape / (positives * negatives))

    # excess is positive at the far ends and negative at t = auc, except that at auc 0 or 1 t = auc is a trivial root.
    near = 1e-12
    lower = 0.0 if auc <= near else brentq(excess, 0.0, min(auc, 1 - near))
    upper = 1.0 if auc >= 1 - near else brentq(excess, max(auc, near), 1.0)
    return Interval(float(lower), float(upper))
