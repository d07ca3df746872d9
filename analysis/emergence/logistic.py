"""L2-penalised logistic regression for many labellings of the same features at once.

Minimises 0.5 |w|^2 + C * sum of log losses with an unpenalised intercept: scikit-learn's objective, by Newton.

An own solver beside scikit-learn's, because a permutation test refits the same small problem hundreds of thousands of
times; a test holds the two to equal coefficients.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

Array = NDArray[np.float64]
MAX_STEPS = 40
TOLERANCE = 1e-9
_MAX_STEP = 4.0


def fit_logistic(features: Array, labels: Array, penalty_c: float = 1.0) -> Array:
    """Coefficients [B, p + 1] (intercept first) of B labellings [B, n] in [0, 1] of features [n, p].

    Labellings of one class have no finite intercept: their coefficients are 0, which scores every sample alike.
    """
    n_labellings, n = labels.shape
    design = np.column_stack([np.ones(n), features])
    width = design.shape[1]
    penalty = np.full(width, 1.0 / penalty_c)
    penalty[0] = 0.0
    beta = np.zeros((n_labellings, width))
    mass = labels.sum(-1)
    active = np.flatnonzero((mass > 1e-9) & (mass < n - 1e-9))
    outer = (design[:, :, None] * design[:, None, :]).reshape(n, width * width)
    for _ in range(MAX_STEPS):
        if not len(active):
            break
        p = expit(beta[active] @ design.T)
        gradient = (labels[active] - p) @ design - penalty * beta[active]
        hessian = ((p * (1 - p)) @ outer).reshape(-1, width, width) + np.diag(penalty + 1e-12)
        step = np.linalg.solve(hessian, gradient[..., None])[..., 0]
        size = np.abs(step).max(-1, keepdims=True)
        beta[active] += step * np.minimum(1.0, _MAX_STEP / np.maximum(size, 1e-300))
        active = active[size[:, 0] > TOLERANCE]
    return beta


def predict(beta: Array, features: Array) -> Array:
    """Linear predictors [B, m] of features [m, p]."""
    return np.asarray(beta[:, :1] + beta[:, 1:] @ features.T)
