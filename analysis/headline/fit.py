"""Fitting the headline model: hyperparameters by maximum a posteriori, then an average over their uncertainty.

Hyperparameters are averaged over quasi-random draws around the optimum, weighted by their posterior density, instead
of being held at it; with a few exploit types the optimum alone is overconfident.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import optimize, stats
from torch import Tensor

from foreshock.analysis.evidence.evidence import Floats
from foreshock.analysis.headline.model import Blocks, fit_blocks
from foreshock.analysis.headline.parameters import CENTERS, WIDTHS, log_prior

_MAX_ITERATIONS = 60


@dataclass(frozen=True, slots=True)
class Mixture:
    """Posterior of the logit rate as a mixture over hyperparameters. weight: [S]; mean, sd: [S, T, B]."""

    weight: Floats
    mean: Floats
    sd: Floats
    theta: Floats


def optimise(blocks: Blocks, start: Floats | None = None, max_iterations: int = _MAX_ITERATIONS) -> Floats:
    """Hyperparameters that maximise evidence times prior: [P]."""
    warm: list[Tensor | None] = [None]

    def negative(unit: Floats) -> tuple[float, Floats]:
        u = torch.tensor(unit, dtype=torch.float64, requires_grad=True)
        theta = CENTERS + WIDTHS * u
        fit, evidence = fit_blocks(blocks, theta, warm[0])
        warm[0] = fit.whitened.detach()
        loss = -(evidence + log_prior(theta))
        torch.autograd.backward(loss)
        assert u.grad is not None
        return float(loss.detach()), u.grad.numpy().copy()

    first = np.zeros(len(CENTERS)) if start is None else (start - CENTERS.numpy()) / WIDTHS.numpy()
    bounds = [(-4.0, 4.0)] * len(first)
    result = optimize.minimize(
        negative, first, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": max_iterations, "ftol": 1e-7}
    )
    return np.asarray(CENTERS.numpy() + WIDTHS.numpy() * result.x)


@torch.no_grad()
def _log_posterior(blocks: Blocks, theta: Floats, inflation: float = 1.0) -> tuple[float, Floats, Floats]:
    fit, evidence = fit_blocks(blocks, torch.as_tensor(theta), inflation=inflation)
    sd = fit.posterior_root.square().sum(-1).sqrt()
    return float(evidence + log_prior(torch.as_tensor(theta))), fit.mode.numpy(), sd.numpy()


def _curvature(blocks: Blocks, theta: Floats) -> Floats:
    """Posterior sd of each hyperparameter from a central second difference along its axis: [P]."""
    width = WIDTHS.numpy()
    centre, _, _ = _log_posterior(blocks, theta)
    sd = np.empty(len(theta))
    for i in range(len(theta)):
        step = np.zeros(len(theta))
        step[i] = 0.5 * width[i]
        up, down = (_log_posterior(blocks, theta + sign * step)[0] for sign in (1, -1))
        bend = -(up + down - 2 * centre) / step[i] ** 2
        sd[i] = 1 / np.sqrt(max(bend, 1 / width[i] ** 2))
    return sd


def mixture(blocks: Blocks, theta: Floats, inflation: float = 1.0, nodes: int = 8) -> Mixture:
    """Average over `nodes` quasi-random hyperparameters around `theta`; `inflation` as in `fit_blocks`."""
    sd = _curvature(blocks, theta)
    draws = stats.norm.ppf(stats.qmc.Sobol(len(theta), seed=0).random(nodes))
    draws[0] = 0.0
    parts = [_log_posterior(blocks, theta + sd * z) for z in draws]
    logs = [part[0] for part in parts]
    if inflation != 1.0:
        parts = [_log_posterior(blocks, theta + sd * z, inflation) for z in draws]
    # Importance weight: posterior over the Gaussian the nodes were drawn from, flattened against one node's rule.
    log_weight = np.array(logs) + 0.5 * (draws**2).sum(-1)
    log_weight = np.clip(log_weight - log_weight.max(), -5.0, 0.0) / 2
    weight = np.exp(log_weight)
    return Mixture(weight / weight.sum(), np.stack([p[1] for p in parts]), np.stack([p[2] for p in parts]), theta)
