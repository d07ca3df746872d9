"""A map from estimated to sampled rates: logit(rate) = a + b logit(estimate), by the binomial likelihood of the counts.

a = 0, b = 1 means calibrated; b below 1, that estimates spread too far (Cox 1958, Biometrika 45). Zero counts enter as
they are, without smoothing. A weak prior, a ~ N(0, 3²), b ~ N(1, 1²), keeps few cells from saying much. Whether the map
helps is judged on exploit types that it has not seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize
from scipy.special import expit, logit

Floats = NDArray[np.float64]

_PRIOR = np.array([0.0, 1.0])
_PRIOR_SD = np.array([3.0, 1.0])
_SMALLEST = 1e-12
"""Estimates below are as good as this: a logit needs a number."""


@dataclass(frozen=True, slots=True)
class Map:
    """Intercept and slope with their standard errors."""

    intercept: float
    slope: float
    intercept_se: float
    slope_se: float

    def apply(self, rates: Floats) -> Floats:
        """Corrected rates."""
        return np.asarray(expit(self.intercept + self.slope * _logits(rates)))


def _logits(rates: Floats) -> Floats:
    return np.asarray(logit(np.clip(rates, _SMALLEST, 1 - _SMALLEST)))


def fit_map(rates: Floats, k: Floats, n: Floats) -> Map:
    """The most probable map; rates, k (exploits) and n (attempts) of cells: [cells]."""
    x = np.column_stack([np.ones_like(rates), _logits(rates)])

    def negative(b: Floats) -> tuple[float, Floats]:
        eta = x @ b
        loss = float(np.sum(n * np.logaddexp(0, eta) - k * eta) + 0.5 * np.sum(((b - _PRIOR) / _PRIOR_SD) ** 2))
        return loss, x.T @ (n * expit(eta) - k) + (b - _PRIOR) / _PRIOR_SD**2

    found = optimize.minimize(negative, _PRIOR, jac=True, method="BFGS")
    weight = n * expit(x @ found.x) * expit(-(x @ found.x))
    errors = np.sqrt(np.diag(np.linalg.inv((x.T * weight) @ x + np.diag(1 / _PRIOR_SD**2))))
    return Map(float(found.x[0]), float(found.x[1]), float(errors[0]), float(errors[1]))


def deviance(rates: Floats, k: Floats, n: Floats) -> float:
    """Binomial deviance per attempt of sampled counts under `rates`; 0 where rates equal k/n."""
    p = np.clip(rates, _SMALLEST, 1 - _SMALLEST)
    with np.errstate(divide="ignore", invalid="ignore"):
        exploits = np.where(k > 0, k * np.log(k / (n * p)), 0.0)
        others = np.where(k < n, (n - k) * np.log((n - k) / (n * (1 - p))), 0.0)
    return float(2 * (exploits + others).sum() / n.sum())


def held_out(rates: Floats, k: Floats, n: Floats, groups: NDArray[np.object_]) -> tuple[Floats, Floats]:
    """(corrected rates, base rates) of each cell by what other groups' cells say; NaN with fewer than two groups."""
    corrected, base = np.full(len(rates), np.nan), np.full(len(rates), np.nan)
    names = np.unique(groups.astype(str))
    if len(names) < 2:
        return corrected, base
    for name in names:
        own = groups.astype(str) == name
        corrected[own] = fit_map(rates[~own], k[~own], n[~own]).apply(rates[own])
        base[own] = (k[~own].sum() + 0.5) / (n[~own].sum() + 1)
    return corrected, base
