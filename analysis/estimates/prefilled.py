"""Per-cell estimates from prefilled attempts: importance sampling and its bounds.

Each cell uses one level, the shortest with enough exploits, chosen by counts and never by the weights. Taking the
best-looking level (largest bound, best diagnostic) selects the levels that err.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp
from scipy.stats import norm
from scipy.stats import t as t_distribution

from foreshock.analysis.evidence.estimate import Limits, Method, RateEstimate, Status
from foreshock.analysis.evidence.evidence import DonorKind, Evidence, Floats, Ints, PrefillRows
from foreshock.analysis.importance.bootstrap import bootstrap_log_mean
from foreshock.analysis.importance.diagnostics import diagnose
from foreshock.analysis.importance.formulas import balance_heuristic, log_mean_weighted, tilted_jensen_bound

ENOUGH_SUCCESSES = 8
_QUANTILES = (0.05, 0.95, 0.025, 0.975)
"""As `Limits` has them."""
LOG10 = float(np.log(10.0))


@dataclass(frozen=True, slots=True)
class _Cell:
    """Where the estimate belongs and the scored rows of its chosen level."""

    run: str
    exploit_type: str
    step: int
    direct_n: int
    direct_k: int
    rows: PrefillRows
    choices: int
    """Levels that `rows` were chosen from because of their exploits; 1 if the choice had another reason."""

    def estimate(
        self, method: Method, value: float, limits: Limits, status: Status, ess: float | None, k: float | None
    ) -> RateEstimate:
        """A RateEstimate of this cell; `value` is a log rate in nats, -inf for none."""
        point = value / LOG10 if np.isfinite(value) else None
        n, s = len(self.rows), int(self.rows.success.sum())
        return RateEstimate(self.run, self.exploit_type, self.step, method, n, s, point, limits, status, ess, k)


def _chosen_level(rows: PrefillRows) -> tuple[PrefillRows, int]:
    """The shortest level with enough exploits, else the one with most (the shorter of equals); and out of how many
    levels it was chosen for its exploits."""
    levels = np.unique(rows.level)
    counts = np.array([rows.success[rows.level == level].sum() for level in levels])
    enough = np.flatnonzero(counts >= ENOUGH_SUCCESSES)
    best, choices = (enough[0], 1) if len(enough) else (int(counts.argmax()), len(levels))
    return rows.take(rows.level == levels[best]), choices


def prefilled_estimates(evidence: Evidence) -> list[RateEstimate]:
    """importance, importance_defensive, jensen_bound and surprisal_bound of every cell with scored prefixes."""
    rows = evidence.rows
    n0, k0 = evidence.direct()
    cell = rows.surface * len(evidence.steps) + rows.checkpoint
    usable = np.flatnonzero(np.isfinite(rows.log_w) | np.isfinite(rows.log_p))
    order = usable[np.argsort(cell[usable], kind="stable")]
    bounds = np.flatnonzero(np.diff(cell[order], prepend=-1, append=-1)) if len(order) else np.array([], int)
    found = []
    for low, high in itertools.pairwise(bounds):
        mine = rows.take(order[low:high])
        j, c = int(mine.surface[0]), int(mine.checkpoint[0])
        surface = evidence.surfaces[j]
        where = (surface.run, surface.exploit_type, int(evidence.steps[c]), int(n0[j, c]), int(k0[j, c]))
        weighted = mine.take(np.isfinite(mine.log_w))
        if len(weighted):
            found += _weighted(_Cell(*where, *_chosen_level(weighted)), evidence.donor)
        scored = mine.take(np.isfinite(mine.log_p))
        if len(scored):
            found.append(_surprisal(_Cell(*where, *_chosen_level(scored))))
    return found


def _weighted(cell: _Cell, donor: DonorKind) -> list[RateEstimate]:
    log_w, hit = cell.rows.log_w, cell.rows.success.astype(np.float64)
    check = diagnose(log_w, hit)
    value = log_mean_weighted(log_w, hit)
    status = check.status
    if status is Status.ESTIMATE and donor is DonorKind.CONDITIONED_UNCORRECTED:
        status = Status.BOUND
    with np.errstate(divide="ignore"):
        contribution = np.where(hit > 0, log_w, -np.inf)
    if status is Status.ESTIMATE:
        limits = _bootstrap(value, contribution, cell.rows.task, check.ess)
    else:
        limits = _markov(value, cell.choices)
    return [
        cell.estimate(Method.IMPORTANCE, value, limits, status, check.ess, check.pareto_k),
        _defensive(cell, check.ess, check.pareto_k),
        _jensen(cell),
    ]


def _bootstrap(value: float, contribution: Floats, task: Ints, ess: float) -> Limits:
    """Task-level bootstrap, its distances from the estimate widened as Student's t is wider than a normal distribution:
    the few large weights that carry an estimate are also what says how much it varies."""
    quantiles = bootstrap_log_mean(contribution, task, _QUANTILES)
    dof = max(ess - 1.0, 1.0)
    factor = t_distribution.ppf(_QUANTILES, dof) / norm.ppf(_QUANTILES)
    spread = (value + (quantiles - value) * factor) / LOG10
    return Limits(*(float(x) if np.isfinite(x) else None for x in spread))


def _markov(log_value: float, choices: int) -> Limits:
    """mean >= delta times an unbiased non-negative estimate, with confidence 1 - delta (Markov's inequality).

    One of several such estimates, however chosen, is at most `choices` times their mean, which is unbiased again.
    """
    if not np.isfinite(log_value):
        return Limits()
    log_value = log_value - np.log(choices)
    return Limits(lower90=(log_value + np.log(0.10)) / LOG10, lower95=(log_value + np.log(0.05)) / LOG10)


def _defensive(cell: _Cell, ess: float, pareto_k: float | None) -> RateEstimate:
    """Balance heuristic with level 0. The first words of unprompted exploits are not scored, so their weight is set
    to the mean weight that target-drawn exploits have according to the prefilled sample, E[w^2 r] / E[w r]."""
    log_w, hit = cell.rows.log_w, cell.rows.success
    used = log_w[hit > 0]
    typical = float(logsumexp(2 * used) - logsumexp(used)) if len(used) else np.inf
    both = np.concatenate([np.full(cell.direct_k, typical), log_w])
    hits = np.concatenate([np.ones(cell.direct_k, dtype=np.int64), hit])
    drawn = np.concatenate([np.zeros(cell.direct_k, dtype=np.int64), np.ones(len(log_w), dtype=np.int64)])
    value = balance_heuristic(both, hits, drawn, cell.direct_n, len(log_w))
    status = Status.BOUND if np.isfinite(value) else Status.UNOBSERVED
    return cell.estimate(Method.IMPORTANCE_DEFENSIVE, value, _markov(value, cell.choices), status, ess, pareto_k)


def _jensen(cell: _Cell) -> RateEstimate:
    """The bound, and its lower limits by the delta method (binomial noise of the rate, spread of log w)."""
    log_w, hit = cell.rows.log_w, cell.rows.success.astype(np.float64)
    value = tilted_jensen_bound(log_w, hit)
    s, n = int(hit.sum()), len(hit)
    if s < 2:
        status = Status.BOUND if s else Status.UNOBSERVED
        return cell.estimate(Method.JENSEN_BOUND, value, Limits(), status, None, None)
    error = np.sqrt(1 / s - 1 / n + log_w[hit > 0].var(ddof=1) / s)
    # Student's t: the spread is estimated from the same few successes, and a normal quantile would fall short.
    at90, at95 = (float(t_distribution.ppf(q, s - 1)) for q in (0.95, 0.975))
    limits = Limits(lower90=float((value - at90 * error) / LOG10), lower95=float((value - at95 * error) / LOG10))
    return cell.estimate(Method.JENSEN_BOUND, value, limits, Status.BOUND, None, None)


def _surprisal(cell: _Cell) -> RateEstimate:
    value = log_mean_weighted(cell.rows.log_p, cell.rows.success.astype(np.float64))
    status = Status.BOUND if np.isfinite(value) else Status.UNOBSERVED
    return cell.estimate(Method.SURPRISAL_BOUND, value, _markov(value, cell.choices), status, None, None)
