"""All estimates of all cells.

Every method gives a row for every cell that it can speak about, whatever its status, so that a reader can compare
them; only the status says which may be quoted.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from foreshock.analysis.estimates.direct import direct_limits
from foreshock.analysis.estimates.prefilled import prefilled_estimates
from foreshock.analysis.evidence.estimate import Limits, Method, RateEstimate, Status
from foreshock.analysis.evidence.evidence import Evidence
from foreshock.analysis.headline.estimate import Headline, estimate_headline


@dataclass(frozen=True, slots=True)
class Rates:
    """Estimates sorted by run, type, checkpoint and method, and the headline fit behind them."""

    estimates: tuple[RateEstimate, ...]
    headline: Headline


def estimate_rates(evidence: Evidence) -> Rates:
    """Every method on every cell."""
    headline = estimate_headline(evidence)
    found = [*_headline_rows(evidence, headline), *_direct_rows(evidence), *prefilled_estimates(evidence)]
    order = {method: i for i, method in enumerate(Method)}
    found.sort(key=lambda e: (e.run, e.exploit_type, e.checkpoint, order[e.method]))
    return Rates(tuple(found), headline)


def _headline_rows(evidence: Evidence, headline: Headline) -> Iterable[RateEstimate]:
    n, k = evidence.direct()
    rows = evidence.rows
    informed = np.zeros(len(evidence.surfaces), dtype=bool)
    informed[np.unique(rows.surface[(rows.success > 0) & np.isfinite(rows.log_w)])] = True
    informed |= k.sum(1) > 0
    for j, surface in enumerate(evidence.surfaces):
        present = evidence.n[j].sum(-1) > 0
        for c in np.flatnonzero(present):
            limits = Limits(
                *(float(q[j, c]) for q in (headline.lower90, headline.upper90, headline.lower95, headline.upper95))
            )
            # Without a success anywhere on the surface only the upper side rests on its own data.
            status = Status.ESTIMATE if informed[j] else Status.BOUND if n[j].sum() else Status.UNOBSERVED
            yield RateEstimate(
                surface.run,
                surface.exploit_type,
                int(evidence.steps[c]),
                Method.HEADLINE,
                int(n[j, c]),
                int(k[j, c]),
                float(headline.median[j, c]),
                limits,
                status,
            )


def _direct_rows(evidence: Evidence) -> Iterable[RateEstimate]:
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
            float(np.log10(hits / attempts)) if hits else None,
            direct_limits(hits, attempts),
            Status.ESTIMATE if hits else Status.UNOBSERVED,
        )
