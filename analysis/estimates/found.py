"""All rates of run directories, as what one process finds and another describes.

The imports that estimating takes (torch: seconds) are read when it begins, so that whoever only describes what was
found does without them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from foreshock.analysis.evidence.estimate import RateEstimate


@dataclass(frozen=True, slots=True)
class FoundRates:
    """All estimates, and what to know about how the evidence was put together; faults of the inputs come first."""

    estimates: tuple[RateEstimate, ...]
    notes: tuple[str, ...]


def find_rates(run_dirs: Sequence[Path], donor_run: Path | None = None, donor_conditioned: bool = True) -> FoundRates:
    """Estimate all rates. Raises InputError as `load_evidence`."""
    from foreshock.analysis.estimates.rates import estimate_rates
    from foreshock.analysis.evidence.load import load_evidence

    loaded = load_evidence(run_dirs, donor_run, donor_conditioned)
    rates = estimate_rates(loaded.evidence)
    return FoundRates(rates.estimates, (*rates.headline.faults, *loaded.notes))
