"""The unprompted rate of every type at every checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING

from foreshock.analysis.analyses.analysis import Analysis, Request

if TYPE_CHECKING:
    from foreshock.analysis.estimates.found import FoundRates
    from foreshock.analysis.page.sections import Section


def _find(request: Request) -> FoundRates:
    from foreshock.analysis.estimates.found import find_rates

    return find_rates(list(request.runs), request.donor_run, request.conditioned, sensitivity=True)


def _show(request: Request, found: FoundRates) -> Section:
    from foreshock.analysis.report.rates_section import estimates_section

    return estimates_section(found, request.folder, request.looks())


ANALYSIS = Analysis("rates", "estimating unprompted rates", "no rate estimates", _find, _show)
