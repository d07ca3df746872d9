"""All rates of run directories, as what one process finds and another describes.

The imports that estimating takes (torch: seconds) are read when it begins, so that whoever only describes what was
found does without them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from foreshock.analysis.evidence.estimate import RateEstimate

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class FoundRates:
    """All estimates, and what to know about how the evidence was put together; faults of the inputs come first.

    sensitivity: the headline under other priors and without each level, if asked for.
    """

    estimates: tuple[RateEstimate, ...]
    notes: tuple[str, ...]
    sensitivity: pd.DataFrame | None = None


def find_rates(
    run_dirs: Sequence[Path], donor_run: Path | None = None, donor_conditioned: bool = True, sensitivity: bool = False
) -> FoundRates:
    """Estimate all rates. Raises InputError as `load_evidence`."""
    from foreshock.analysis.estimates.rates import estimate_rates
    from foreshock.analysis.evidence.load import load_evidence

    loaded = load_evidence(run_dirs, donor_run, donor_conditioned)
    rates = estimate_rates(loaded.evidence)
    varied = None
    if sensitivity:
        from foreshock.analysis.headline.sensitivity import headline_sensitivity

        varied = headline_sensitivity(loaded.evidence, rates.headline)
    return FoundRates(rates.estimates, (*rates.headline.faults, *loaded.notes), varied)
