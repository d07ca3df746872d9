"""Predictions of a fitted model: rates with intervals at any checkpoint and level.

Sigmoid of the mean of f is the median of the rate, not its mean; both are given and named.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import expit
from torch import Tensor

from foreshock.analysis.evidence.evidence import Floats, Ints
from foreshock.analysis.gp.counts import grid_inputs
from foreshock.analysis.gp.fit import GPFit
from foreshock.analysis.gp.laplace import LaplaceFit
from foreshock.analysis.gp.models import ModelKind, RateModel

Z90, Z95 = 1.6448536269514722, 1.959963984540054
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(32)


@dataclass(frozen=True, slots=True)
class RatePrediction:
    """Posterior of the logit rate on a grid. steps: [C]; levels: [L]; logit_mean, logit_sd: [B, C, L]."""

    steps: Floats
    levels: Ints
    logit_mean: Floats
    logit_sd: Floats

    @property
    def median(self) -> Floats:
        """Median rate."""
        return np.asarray(expit(self.logit_mean))

    @property
    def mean(self) -> Floats:
        """Mean rate, by Gauss-Hermite quadrature over f."""
        f = self.logit_mean[..., None] + self.logit_sd[..., None] * _NODES
        return np.asarray((expit(f) * _WEIGHTS).sum(-1) / _WEIGHTS.sum())

    def interval(self, z: float) -> tuple[Floats, Floats]:
        """Rates at the logit mean minus and plus z standard deviations."""
        return expit(self.logit_mean - z * self.logit_sd), expit(self.logit_mean + z * self.logit_sd)


@torch.no_grad()
def predict(fit: GPFit, steps: Floats | None = None, levels: Ints | None = None) -> RatePrediction:
    """Predict on steps x levels (default: the training grid).

    Steps may go beyond the training range. The offset model predicts the unprompted rate, level 0 only: elsewhere
    its offset needs a KL that the grid does not have; asking raises ValueError.
    """
    model, counts = fit.model, fit.model.counts
    offset_model = model.settings.model is ModelKind.OFFSET
    steps = counts.steps if steps is None else np.asarray(steps, dtype=np.float64)
    if levels is None:
        levels = np.array([0]) if offset_model else counts.levels
    if offset_model and (levels != 0).any():
        raise ValueError(f"the offset model predicts level 0 only, not {sorted(set(levels.tolist()))}")
    grid = grid_inputs(steps, levels, counts.steps, model.settings.level_scale)
    mean, sd = _at(model, fit.posterior, grid[:, :1] if offset_model else grid)
    shape = (len(counts.surfaces), len(steps), len(levels))
    return RatePrediction(steps, levels, mean.reshape(shape).numpy(), sd.reshape(shape).numpy())


def _at(model: RateModel, posterior: LaplaceFit, grid: Tensor) -> tuple[Tensor, Tensor]:
    """Posterior mean and sd of mu + g on grid rows: [B, G] each."""
    x = model.inputs()
    prior_mean = model.mean_module(x).expand(len(model.counts.surfaces), -1)
    root = model.prior_root()
    step = len(model.counts.levels) if model.settings.model is ModelKind.OFFSET else 1
    deviation = posterior.mode[:, ::step] - prior_mean
    if model.settings.model is ModelKind.OFFSET:
        # The offset of each checkpoint's first level is part of the mode of f, not of g.
        deviation = (root @ posterior.whitened.unsqueeze(-1)).squeeze(-1)
    cross = model.covariance(x, grid)
    white = torch.linalg.solve_triangular(root, cross, upper=False)
    mean = model.mean_module(grid) + (
        white.mT @ torch.linalg.solve_triangular(root, deviation.unsqueeze(-1), upper=False)
    ).squeeze(-1)
    prior_var = model.kernel(grid, diag=True) - white.square().sum(-2)
    spread = torch.linalg.solve_triangular(root, posterior.posterior_root[:, ::step], upper=False)
    variance = prior_var.clamp(min=0) + (white.mT @ spread).square().sum(-1)
    return mean, variance.sqrt()
