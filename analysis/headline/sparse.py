"""Prefilled cells with hardly any exploit: what 0, 1 or 2 of n say about the rate.

They are neither dropped nor given a made-up rate. Dropping them keeps only cells that exploited by luck, and (s +
1/2) / n would pull every rare type to 1/n. Each enters through its binomial likelihood, by expectation propagation:
the Gaussian site that, together with what all other evidence says about this cell's exploit rate, has the moments of
the exact posterior (Minka 2001). Where the others already say that the rate is far below 1/n, 0 of n adds nothing,
and its site vanishes.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from foreshock.analysis.evidence.evidence import Floats
from foreshock.analysis.headline.model import Blocks, design, expected_shift, prior, shared_noise
from foreshock.analysis.headline.parameters import unpack
from foreshock.analysis.headline.rows import UNINFORMATIVE, MeasurementRows

_SWEEPS = 8
_DAMPING = 0.5
_LEAST_PRECISION = 1 / UNINFORMATIVE


@torch.no_grad()
def with_sites(blocks: Blocks, rows: MeasurementRows, theta: Floats) -> Blocks:
    """`blocks` with y and count_var of the sparse rows set by expectation propagation at `theta`."""
    sparse = np.isin(blocks.row, np.flatnonzero(rows.sparse)) & (blocks.row >= 0)
    if not sparse.any():
        return blocks
    h = unpack(torch.as_tensor(theta))
    mean, covariance = _signal(blocks, h)
    lift = rows.lift[blocks.row[sparse]]
    n, k = (column[blocks.row[sparse]].astype(np.float64) for column in (rows.attempts, rows.successes))
    y, noise = blocks.y.clone(), blocks.count_var.clone()
    mask = torch.as_tensor(sparse)
    noise[mask] = UNINFORMATIVE
    for _ in range(_SWEEPS):
        at, var = (t[mask].numpy() for t in _posterior(mean, covariance, y, noise, blocks.real))
        site = 1 / noise[mask].numpy()
        # The cavity: everything but this row's own site.
        precision = np.maximum(1 / var - site, _LEAST_PRECISION)
        centre = (at / var - site * y[mask].numpy()) / precision
        exact_mean, exact_var = _tilted(centre - lift, 1 / precision, n, k)
        exact_mean = exact_mean + lift
        wanted = np.maximum(1 / exact_var - precision, _LEAST_PRECISION)
        pull = exact_mean / exact_var - centre * precision
        updated = (1 - _DAMPING) * site + _DAMPING * wanted
        shift = (1 - _DAMPING) * site * y[mask].numpy() + _DAMPING * pull
        y[mask], noise[mask] = torch.as_tensor(shift / updated), torch.as_tensor(1 / updated)
    return replace(blocks, y=y, count_var=noise)


def _signal(blocks: Blocks, h: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Prior mean [T, M] and covariance [T, M, M] of the measurements before their count noise."""
    mean, root = prior(blocks, h)
    pick = design(blocks)
    spread = pick @ root
    shared, alone = shared_noise(blocks, h)
    covariance = spread @ spread.mT + shared + torch.diag_embed(alone)
    return (pick @ mean.unsqueeze(-1)).squeeze(-1) + expected_shift(blocks, h), covariance


def _posterior(mean: Tensor, covariance: Tensor, y: Tensor, noise: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance [T, M] of the measurements' noise-free values given all rows and sites."""
    # A padded row has no signal: unit variance keeps the factor sound and tells nothing.
    noise = torch.where(real > 0, noise, 1.0)
    factor = torch.linalg.cholesky(covariance + torch.diag_embed(noise))
    residual = torch.where(real > 0, y - mean, 0.0).unsqueeze(-1)
    at = mean + (covariance @ torch.cholesky_solve(residual, factor)).squeeze(-1)
    white = torch.linalg.solve_triangular(factor, covariance, upper=False)
    var = covariance.diagonal(dim1=-2, dim2=-1) - white.square().sum(-2)
    return at, var.clamp(min=1e-9)


def _tilted(mean: Floats, var: Floats, n: Floats, k: Floats) -> tuple[Floats, Floats]:
    """Mean and variance of N(mean, var) times Binomial(k | n, sigmoid): each [N]."""
    unit = np.linspace(-7.0, 7.0, 281)
    f = mean[:, None] + np.sqrt(var)[:, None] * unit
    log_density = k[:, None] * f - n[:, None] * np.logaddexp(0, f) - unit**2 / 2
    weight = np.exp(log_density - log_density.max(1, keepdims=True))
    weight /= weight.sum(1, keepdims=True)
    centre = (weight * f).sum(1)
    return centre, np.maximum((weight * (f - centre[:, None]) ** 2).sum(1), 1e-9)
