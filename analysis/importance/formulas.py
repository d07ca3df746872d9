"""The exact relation between prefilled and unprompted exploit rates, as estimators in log space.

With prefixes z drawn from a proposal q, r(z) = P(exploit | z) and w(z) = P(z) / q(z):
    P(exploit) = E_q[w r]                                                  (docs/methods.md)
Outcomes y with E[y | z] = r(z) may stand in for r. Every function takes log weights and
returns log rates, and a sum over no success is -inf, never a small number.
"""

from __future__ import annotations

import numpy as np
from scipy.special import logsumexp

from foreshock.analysis.evidence.evidence import Floats, Ints


def log_mean_weighted(log_w: Floats, rate: Floats) -> float:
    """log of the mean of w r over the sample: the unbiased importance-sampling estimate, in nats.

    log_w: [n] log weights; rate: [n] outcomes (0 or 1) or rates r(z) in [0, 1].
    """
    if len(log_w) == 0 or not (rate > 0).any():
        return -np.inf
    return float(logsumexp(log_w, b=rate) - np.log(len(log_w)))


def surprisal_bound(log_p: Floats, rate: Floats) -> float:
    """log of the mean over tasks of P(z_i) r(z_i): a lower bound on the log rate, one fixed prefix a task.

    P(exploit) >= P(z) r(z) for any single prefix, since other routes only add. log_p: [n] log P(z_i).
    """
    return log_mean_weighted(log_p, rate)


def tilted_jensen_bound(log_w: Floats, rate: Floats) -> float:
    """log E[r] + E[log w | success] <= log P(exploit), by Jensen's inequality under the success-tilted proposal.

    The expectation of log w is over successes (weights r / E[r]), not over all prefixes: with the latter
    (-KL + log rate) the inequality does not hold.
    """
    total = float(rate.sum())
    if total <= 0:
        return -np.inf
    return float(np.log(total / len(rate)) + (rate @ log_w) / total)


def balance_heuristic(log_w: Floats, hit: Ints, drawn_prefilled: Ints, n_direct: int, n_prefilled: int) -> float:
    """Multiple importance sampling of level 0 and one prefill level (Veach and Guibas 1995).

    Both techniques sample whole traces x: level 0 from P(x), the prefilled level from P(x) / w(z(x)). The balance
    heuristic gives each sampled exploit the value 1 / (n_direct + n_prefilled / w(z)), bounded by 1 / n_direct.
    log_w, hit, drawn_prefilled: [n_direct + n_prefilled] over the samples of both techniques; log_w of a level-0
    sample is that of its own first words (+inf where the donor could not have written them). Returns the log rate.
    """
    if len(drawn_prefilled) and int(drawn_prefilled.sum()) != n_prefilled:
        raise ValueError(f"{int(drawn_prefilled.sum())} prefilled samples given; expected {n_prefilled}")
    used = hit > 0
    if not used.any():
        return -np.inf
    with np.errstate(divide="ignore"):
        direct, prefilled = np.log(float(n_direct)), np.log(float(n_prefilled))
    denominator = np.logaddexp(direct, prefilled - log_w[used])
    return float(logsumexp(-denominator))
