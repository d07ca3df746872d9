"""All estimates of all cells.

Every method gives a row for every cell that it can speak about, whatever its status, so that a reader can compare
them; only the status says which may be quoted.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from foreshock.analysis.estimates.direct import DirectCounts, direct_counts
from foreshock.analysis.estimates.prefilled import prefilled_estimates
from foreshock.analysis.evidence.estimate import Limits, Method, RateEstimate, Status
from foreshock.analysis.evidence.evidence import Evidence, Floats
from foreshock.analysis.headline.estimate import Headline, estimate_headline

_Key = tuple[str, str, int]

ENOUGH_SEEN = 10
"""Exploits at level 0 from which the counts alone are an estimate, within about a third of a decade."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Estimates sorted by run, type, checkpoint and method, and the headline fit behind them."""

    estimates: tuple[RateEstimate, ...]
    headline: Headline

    @property
    def counts(self) -> dict[str, int]:
        """Headline cells by status."""
        every = [e.status for e in self.estimates if e.method is Method.HEADLINE]
        return {status.value: every.count(status) for status in Status if status in every}


def estimate_rates(evidence: Evidence) -> Rates:
    """Every method on every cell."""
    headline = estimate_headline(evidence)
    counts = direct_counts(evidence)
    prefilled = prefilled_estimates(evidence)
    found = [*_headline_rows(evidence, headline, counts, prefilled), *_direct_rows(evidence, counts), *prefilled]
    order = {method: i for i, method in enumerate(Method)}
    found.sort(key=lambda e: (e.run, e.exploit_type, e.checkpoint, order[e.method]))
    return Rates(tuple(found), headline)


def _headline_rows(
    evidence: Evidence, headline: Headline, counts: DirectCounts, prefilled: Iterable[RateEstimate]
) -> Iterable[RateEstimate]:
    n, k = evidence.direct()
    importance = {_key(e): e for e in prefilled if e.method is Method.IMPORTANCE}
    traced = _traced_share(evidence)
    present = evidence.n.sum(-1) > 0
    for j, c in np.argwhere(present):
        surface, step = evidence.surfaces[j], int(evidence.steps[c])
        own = importance.get((surface.run, surface.exploit_type, step))
        interval = Limits(
            *(float(q[j, c]) for q in (headline.lower90, headline.upper90, headline.lower95, headline.upper95))
        )
        reason = headline.verdict.reason[j][c] or _contradicted(interval, own, counts, int(j), int(c))
        point: float | None = float(headline.median[j, c])
        status = Status.ESTIMATE
        if reason and counts.k[j, c] >= ENOUGH_SEEN:
            interval, point = counts.limits(int(j), int(c)), float(np.log10(counts.k[j, c] / counts.n[j, c]))
            reason = f"by the direct counts alone: {reason}"
        elif reason:
            interval, point = _bound(counts, own, traced[j], int(j), int(c)), None
            status = Status.BOUND if n[j, c] or evidence.k[j, c].sum() else Status.UNOBSERVED
        yield RateEstimate(
            surface.run, surface.exploit_type, step, Method.HEADLINE, int(n[j, c]), int(k[j, c]),
            point, interval, status, reason=reason,
        )  # fmt: skip


def _key(estimate: RateEstimate) -> _Key:
    return estimate.run, estimate.exploit_type, estimate.checkpoint


def _contradicted(interval: Limits, own: RateEstimate | None, counts: DirectCounts, j: int, c: int) -> str:
    """Why the headline may not stand against what needs no model, or nothing."""
    low, high = interval.lower95, interval.upper95
    assert low is not None
    assert high is not None
    if counts.n[j, c] > 0:
        direct = counts.limits(j, c)
        if (direct.upper95 is not None and low > direct.upper95) or (
            direct.lower95 is not None and high < direct.lower95
        ):
            return "the direct counts exclude the model's whole interval"
    if own is not None and own.status is Status.ESTIMATE:
        least, most = own.limits.lower95, own.limits.upper95
        if (least is not None and high < least) or (most is not None and low > most):
            return "importance sampling passes its gates in this cell and excludes the model's whole interval"
    return ""


def _bound(counts: DirectCounts, own: RateEstimate | None, traced: float, j: int, c: int) -> Limits:
    """What still holds: above, the direct counts; below, the direct counts or importance sampling.

    Importance sampling is an unbiased non-negative estimate of what tasks with a trace contribute, so delta times it is
    a lower limit with confidence 1 - delta (Markov). Where nothing else does, rates of 0 (log10: -inf) and 1 bound it.
    """
    direct = counts.limits(j, c) if counts.n[j, c] > 0 else Limits()
    below = [direct.lower90, direct.lower95]
    if below[1] is None and own is not None and own.log10_rate is not None:
        share = float(np.log10(traced)) if traced > 0 else -np.inf
        if own.status is Status.BOUND:
            below = [None if low is None else low + share for low in (own.limits.lower90, own.limits.lower95)]
        else:
            below = [own.log10_rate + float(np.log10(delta)) + share for delta in (0.10, 0.05)]
    ends = []
    for low, high in zip(below, (direct.upper90, direct.upper95), strict=True):
        top = 0.0 if high is None else high
        ends += [min(-np.inf if low is None else low, top), top]
    return Limits(*ends)


def _traced_share(evidence: Evidence) -> Floats:
    """Share of each surface's tasks that have a prefilled attempt: [J], 1 where the tasks are not known."""
    rows, direct = evidence.rows, evidence.direct_rows
    share = np.ones(len(evidence.surfaces))
    if direct is None:
        return share
    for j in range(len(share)):
        every = np.unique(direct.task[direct.surface == j])
        if len(every):
            share[j] = np.isin(every, rows.task[rows.surface == j]).mean()
    return share


def _direct_rows(evidence: Evidence, counts: DirectCounts) -> Iterable[RateEstimate]:
    n, k = evidence.direct()
    for j, c in np.argwhere(n > 0):
        surface, attempts, hits = evidence.surfaces[j], int(n[j, c]), int(k[j, c])
        yield RateEstimate(
            surface.run,
            surface.exploit_type,
            int(evidence.steps[c]),
            Method.DIRECT,
            attempts,
            hits,
            float(np.log10(counts.k[j, c] / counts.n[j, c])) if hits else None,
            counts.limits(int(j), int(c)),
            Status.ESTIMATE if hits else Status.UNOBSERVED,
            reason="" if hits else f"0 of {attempts} attempts exploited: an upper limit only",
        )
