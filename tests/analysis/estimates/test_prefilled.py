"""Limits of the per-cell estimates from prefilled attempts."""

from __future__ import annotations

import math

import numpy as np
import pytest
from benchmarks.calibration.experiment import simulate
from benchmarks.calibration.memory import to_evidence
from benchmarks.calibration.regimes import regime_named

from foreshock.analysis.estimates.prefilled import ENOUGH_SUCCESSES, prefilled_estimates
from foreshock.analysis.evidence.estimate import Method, RateEstimate, Status
from foreshock.analysis.evidence.evidence import Evidence


@pytest.fixture(scope="module")
def evidence() -> Evidence:
    """Exploits stay rare after a prefill, so many cells have few at any level."""
    return to_evidence(simulate(regime_named("graded"), 1000))[0]


def _of(evidence: Evidence, method: Method) -> list[RateEstimate]:
    return [e for e in prefilled_estimates(evidence) if e.method is method]


def test_a_level_chosen_for_its_exploits_pays_for_the_choice(evidence: Evidence) -> None:
    """Where no level has enough exploits, the one with most is used, which is a lucky one."""
    n_levels = len(np.unique(evidence.rows.level[np.isfinite(evidence.rows.log_w)]))
    seen = set()
    for e in _of(evidence, Method.IMPORTANCE):
        if e.status is not Status.BOUND or e.log10_rate is None:
            continue
        assert e.limits.lower95 is not None
        chosen = e.successes < ENOUGH_SUCCESSES
        factor = 20 * n_levels if chosen else 20
        assert e.limits.lower95 == pytest.approx(e.log10_rate - math.log10(factor))
        seen.add(chosen)
    assert seen == {True, False}


def test_an_estimate_has_an_interval_around_it(evidence: Evidence) -> None:
    found = [e for e in _of(evidence, Method.IMPORTANCE) if e.status is Status.ESTIMATE]
    assert found
    for e in found:
        limits = e.limits
        assert e.log10_rate is not None
        assert limits.lower95 is not None
        assert limits.lower90 is not None
        assert limits.upper90 is not None
        assert limits.upper95 is not None
        assert limits.lower95 <= limits.lower90 <= e.log10_rate <= limits.upper90 <= limits.upper95
