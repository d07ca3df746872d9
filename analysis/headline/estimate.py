"""The headline estimate: unprompted exploit rate of every (run, type, checkpoint), with calibrated intervals.

An interval is the central interval of the averaged posterior after the backtest's widening, with the cell's own count
taken exactly, on the log10 scale; the point is its median, because the mean of a rate that may span decades is
decided by its upper tail.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import expit

from foreshock.analysis.evidence.evidence import Evidence, Floats
from foreshock.analysis.headline.backtest import inflation
from foreshock.analysis.headline.fit import Mixture, mixture, optimise
from foreshock.analysis.headline.model import Blocks, build_blocks
from foreshock.analysis.headline.rows import measurement_rows
from foreshock.analysis.headline.sparse import with_sites

_PROBABILITIES = (0.025, 0.05, 0.5, 0.95, 0.975)
LOG10 = float(np.log(10.0))
_GRID_POINTS = 601
_LEAST_PRECISION = 1e-3


@dataclass(frozen=True, slots=True)
class Headline:
    """Quantiles of log10 of the rate, each [J, C]; `inflation` is the backtest's factor, `theta` the fit."""

    median: Floats
    lower90: Floats
    upper90: Floats
    lower95: Floats
    upper95: Floats
    inflation: float
    theta: Floats
    measurements: int


@contextmanager
def _one_thread() -> Iterator[None]:
    """Batches of small matrices: more threads than one only wait for each other (four times the CPU time on two)."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@_one_thread()
def estimate_headline(evidence: Evidence) -> Headline:
    """Fit the joint model to all surfaces at once."""
    rows = measurement_rows(evidence)
    blocks = build_blocks(evidence, rows)
    theta = optimise(blocks)
    if rows.sparse.any():
        # Sites depend on the fit and the fit on the sites: one round settles both.
        blocks = with_sites(blocks, rows, theta)
        theta = optimise(blocks, theta)
        blocks = with_sites(blocks, rows, theta)
    widened = inflation(blocks, theta)
    posterior = mixture(blocks, theta, widened)
    tables = _quantiles(evidence, blocks, posterior)
    low95, low90, median, up90, up95 = (tables[i] for i in range(len(_PROBABILITIES)))
    return Headline(median, low90, up90, low95, up95, widened, theta, int((~rows.sparse).sum()))


def _quantiles(evidence: Evidence, blocks: Blocks, posterior: Mixture) -> Floats:
    """Quantiles of log10 sigmoid(F): [len(_PROBABILITIES), J, C]."""
    shape = (len(evidence.surfaces), len(evidence.steps))
    out = np.full((len(_PROBABILITIES), *shape), np.nan)
    real = blocks.surface >= 0
    where = (blocks.surface[real], blocks.checkpoint[real])
    n, k = blocks.n.numpy()[real], blocks.k.numpy()[real]
    logit = marginal_quantiles(
        posterior.weight, posterior.mean[:, real], posterior.sd[:, real], n, k, np.array(_PROBABILITIES)
    )
    for i in range(len(_PROBABILITIES)):
        out[i][where] = -np.logaddexp(0.0, -logit[i]) / LOG10
    return out


def marginal_quantiles(weight: Floats, mean: Floats, sd: Floats, n: Floats, k: Floats, probabilities: Floats) -> Floats:
    """Quantiles of each cell's logit rate with its own count taken exactly: [len(probabilities), N].

    Laplace replaces the binomial likelihood by a Gaussian that touches it at the mode. For 0 of n under a vague prior
    that Gaussian hardly falls off to the right, where the likelihood falls off a cliff. So each cell's Gaussian
    factor is divided out of its marginal (the cavity of expectation propagation, Minka 2001) and the binomial is
    multiplied in, on a grid. weight: [S] of the hyperparameter nodes; mean, sd: [S, N] Laplace marginals; n, k: [N].
    """
    p = expit(mean)
    site = n * p * (1 - p)
    precision = np.maximum(1 / sd**2 - site, _LEAST_PRECISION)
    cavity_sd = 1 / np.sqrt(precision)
    cavity_mean = ((1 / sd**2 - site) * mean - (k - n * p)) / precision
    low, high = (cavity_mean - 9 * cavity_sd).min(0), (cavity_mean + 9 * cavity_sd).max(0)
    # The counts may pull the posterior out of the cavity's bulk: cover the Laplace marginal as well.
    low, high = np.minimum(low, (mean - 9 * sd).min(0)), np.maximum(high, (mean + 9 * sd).max(0))
    unit = np.linspace(0, 1, _GRID_POINTS)
    f = low[:, None] + (high - low)[:, None] * unit
    log_likelihood = k[:, None] * f - n[:, None] * np.logaddexp(0, f)
    cdf = np.zeros_like(f)
    for s in range(len(weight)):
        log_density = log_likelihood - 0.5 * ((f - cavity_mean[s][:, None]) / cavity_sd[s][:, None]) ** 2
        density = np.exp(log_density - log_density.max(1, keepdims=True))
        total = np.cumsum(density, axis=1) - density / 2
        cdf += weight[s] * total / density.sum(1, keepdims=True)
    return np.stack([[np.interp(q, cdf[i], f[i]) for i in range(len(f))] for q in probabilities])
