"""The headline estimate: unprompted exploit rate of every (run, type, checkpoint), with calibrated intervals.

The one hard decision: an interval is the central interval of the averaged posterior after the backtest's widening,
reported on the log10 scale; the point is its median, because the mean of a rate that may span decades is decided
by its upper tail.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from foreshock.analysis.estimates.evidence import Evidence, Floats
from foreshock.analysis.headline.backtest import inflation
from foreshock.analysis.headline.fit import Mixture, mixture, optimise
from foreshock.analysis.headline.model import Blocks, build_blocks
from foreshock.analysis.headline.rows import measurement_rows

_PROBABILITIES = (0.025, 0.05, 0.5, 0.95, 0.975)
LOG10 = float(np.log(10.0))


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


def estimate_headline(evidence: Evidence) -> Headline:
    """Fit the joint model to all surfaces at once."""
    rows = measurement_rows(evidence)
    blocks = build_blocks(evidence, rows)
    theta = optimise(blocks)
    widened = inflation(blocks, theta)
    posterior = mixture(blocks, theta, widened)
    tables = _quantiles(evidence, blocks, posterior)
    low95, low90, median, up90, up95 = (tables[i] for i in range(len(_PROBABILITIES)))
    return Headline(median, low90, up90, low95, up95, widened, theta, len(rows))


def _quantiles(evidence: Evidence, blocks: Blocks, posterior: Mixture) -> Floats:
    """Quantiles of log10 sigmoid(F): [len(_PROBABILITIES), J, C]."""
    shape = (len(evidence.surfaces), len(evidence.steps))
    out = np.full((len(_PROBABILITIES), *shape), np.nan)
    real = blocks.surface >= 0
    where = (blocks.surface[real], blocks.checkpoint[real])
    mean, sd = posterior.mean[:, real], posterior.sd[:, real]
    for i, probability in enumerate(_PROBABILITIES):
        logit = mixture_quantile(posterior.weight, mean, sd, probability)
        out[i][where] = -np.logaddexp(0.0, -logit) / LOG10
    return out


def mixture_quantile(weight: Floats, mean: Floats, sd: Floats, probability: float) -> Floats:
    """Quantile of a mixture of normals by bisection. weight: [S]; mean, sd: [S, N]; returns [N]."""
    low = (mean - 12 * sd).min(0)
    high = (mean + 12 * sd).max(0)
    for _ in range(60):
        middle = (low + high) / 2
        below = np.einsum("s,sn->n", weight, ndtr((middle - mean) / sd)) < probability
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return np.asarray((low + high) / 2)
