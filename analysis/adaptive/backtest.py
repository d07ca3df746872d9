"""Self-calibration: mask every level-0 count, predict it, and widen the model by what the predictions lack.

The factor c that multiplies the model's standard deviation is scored by the probability it gives to the masked counts
themselves, zeros included, not by errors of observed rates: an error can be computed only where something was seen,
and those cells are the easy ones. Cells of a type share their traces' luck, so the likelihood is tempered to a few
independent observations a type, and a prior around 1 holds where there is little to learn from.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.special import logsumexp

from foreshock.analysis.adaptive.model import Blocks, given_measurements
from foreshock.analysis.adaptive.parameters import unpack
from foreshock.analysis.evidence.evidence import Floats

PRIOR_CENTER = 0.9
"""The hyperparameters' priors are wide on purpose, and intervals come out a little wide: on development sweeps of seven
regimes 0.9 covered closer to what it says than 1, at equal or better interval scores in six of them."""
PRIOR_LOG_SD = 0.25
_INDEPENDENT_CELLS = 4.0
_GRID = np.exp(np.linspace(np.log(0.7), np.log(4.0), 36))


def _log_predictive(k: Floats, n: Floats, mean: Floats, sd: Floats) -> Floats:
    """log of the integral of Binomial(k | n, sigmoid(f)) over f ~ N(mean, sd^2), without the coefficient."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    f = mean[:, None] + sd[:, None] * nodes
    log_likelihood = k[:, None] * f - n[:, None] * np.logaddexp(0, f)
    return np.asarray(logsumexp(log_likelihood, axis=1, b=weights / weights.sum()))


@torch.no_grad()
def inflation(blocks: Blocks, theta: Floats) -> float:
    """Posterior mean of c given the masked level-0 counts of all cells."""
    given = given_measurements(blocks, unpack(torch.as_tensor(theta)))
    sd = given.root.square().sum(-1).sqrt().numpy()
    mean, n, k = given.mean.numpy(), blocks.n.numpy(), blocks.k.numpy()
    seen = n > 0
    cells = np.maximum(seen.sum(1, keepdims=True), 1)
    weight = np.broadcast_to(np.minimum(_INDEPENDENT_CELLS / cells, 1.0), n.shape)[seen]
    score = np.array([weight @ _log_predictive(k[seen], n[seen], mean[seen], factor * sd[seen]) for factor in _GRID])
    score = score - 0.5 * (np.log(_GRID / PRIOR_CENTER) / PRIOR_LOG_SD) ** 2
    posterior = np.exp(score - score.max())
    return float(np.exp((posterior * np.log(_GRID)).sum() / posterior.sum()))
