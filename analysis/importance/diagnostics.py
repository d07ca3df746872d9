"""When may an importance-sampling mean be called an estimate: effective sample size, Pareto k, weights' own mean.

No single diagnostic is trusted. At 24 to 88 prefixes a cell each of them passes cells that are off by decades, so a
cell is an estimate only when all pass together, and a bound otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

from foreshock.analysis.evidence.estimate import Status
from foreshock.analysis.evidence.evidence import Floats

_MAX_K = 0.7
_MEAN_WEIGHT_TOLERANCE = 0.5
_PRIOR_TAIL_POINTS = 10.0
_MIN_TAIL = 5


@dataclass(frozen=True, slots=True)
class Diagnostics:
    """successes: S; ess: effective number of the contributions w r; pareto_k: tail index of them (None below 5 tail
    points); log_mean_weight: log of the mean of all weights, 0 for a proposal that covers the target;
    kl_success: -E[log w | success], nats."""

    successes: int
    ess: float
    pareto_k: float | None
    log_mean_weight: float
    kl_success: float

    @property
    def status(self) -> Status:
        """ESTIMATE only when every check passes; BOUND with any success; UNOBSERVED with none."""
        if self.successes == 0:
            return Status.UNOBSERVED
        if self.successes < 2 or self.pareto_k is None:
            return Status.BOUND
        limit = min(1 - 1 / np.log10(max(self.successes, 2)), _MAX_K)
        sound = (
            self.kl_success < np.log(self.successes)
            and abs(self.log_mean_weight) < _MEAN_WEIGHT_TOLERANCE
            and self.pareto_k < limit
        )
        return Status.ESTIMATE if sound else Status.BOUND


def effective_sample_size(log_values: Floats) -> float:
    """(sum v)^2 / sum v^2 of non-negative contributions given as logs (Kong 1992); 0 when all are zero."""
    finite = log_values[np.isfinite(log_values)]
    if not len(finite):
        return 0.0
    return float(np.exp(2 * logsumexp(finite) - logsumexp(2 * finite)))


def generalised_pareto_k(excess: Floats) -> float:
    """Shape of a generalised Pareto distribution fitted to sorted positive excesses.

    The estimator of Zhang and Stephens (2009, Technometrics 51:316), with the weak prior of Vehtari et al. (2024,
    JMLR 25:72) that counts as ten points at k = 0.5. excess: [m], ascending.
    """
    m = len(excess)
    grid = 30 + int(np.sqrt(m))
    quarter = excess[max(int(m / 4 + 0.5) - 1, 0)]
    # Candidates for -k / sigma, spread between the largest value and the first quartile.
    b = 1 / excess[-1] + (1 - np.sqrt(grid / (np.arange(1, grid + 1) - 0.5))) / (3 * quarter)
    k_of_b = np.mean(np.log1p(-b[:, None] * excess[None, :]), axis=1)
    scale = np.divide(-b, k_of_b, out=np.full_like(b, 1 / excess.mean()), where=b != 0)  # at 0 its limit: exponential
    profile = m * (np.log(scale) - k_of_b - 1)
    chosen = float(np.exp(profile - logsumexp(profile)) @ b)
    k = float(np.mean(np.log1p(-chosen * excess)))
    return float((m * k + _PRIOR_TAIL_POINTS * 0.5) / (m + _PRIOR_TAIL_POINTS))


def pareto_k(log_values: Floats) -> float | None:
    """Tail index of unnormalised contributions; None with fewer than five points in the tail.

    log_values: [n], -inf for attempts that did not exploit (they contribute zero). The tail is the largest
    min(n / 5, 3 sqrt(n)) values, at least five, above the next one down.
    """
    n = len(log_values)
    tail = max(int(np.ceil(min(n / 5, 3 * np.sqrt(n)))), _MIN_TAIL)
    finite = np.sort(log_values[np.isfinite(log_values)])
    if len(finite) <= tail:
        tail = len(finite) - 1
    if tail < _MIN_TAIL:
        return None
    scaled = np.exp(finite - finite[-1])
    excess = scaled[-tail:] - scaled[-tail - 1]
    if excess[0] <= 0:
        excess = excess[excess > 0]
    if len(excess) < _MIN_TAIL:
        return None
    return generalised_pareto_k(excess)


def diagnose(log_w: Floats, rate: Floats) -> Diagnostics:
    """All diagnostics of one sample. log_w: [n] finite log weights; rate: [n] outcomes."""
    hit = rate > 0
    with np.errstate(divide="ignore"):
        contribution = np.where(hit, log_w + np.log(np.maximum(rate, 1e-300)), -np.inf)
    successes = int(hit.sum())
    return Diagnostics(
        successes=successes,
        ess=effective_sample_size(contribution),
        pareto_k=pareto_k(contribution),
        log_mean_weight=float(logsumexp(log_w) - np.log(len(log_w))) if len(log_w) else -np.inf,
        kl_success=float(-(rate @ log_w) / rate.sum()) if successes else np.inf,
    )
