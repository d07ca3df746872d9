"""How long the fits take."""

from __future__ import annotations

import time
from collections.abc import Callable

from benchmarks.calibration.regimes import regime_named


def fastest_fits(regime: str, seed: int) -> dict[str, float]:
    """CPU seconds of each fit, the fastest of three, in this process."""
    from benchmarks.calibration.experiment import simulate
    from benchmarks.calibration.memory import to_evidence

    from foreshock.analysis.gp.counts import SurfaceCounts, surface_counts
    from foreshock.analysis.gp.fit import fit_gp
    from foreshock.analysis.gp.models import GPSettings
    from foreshock.analysis.headline.estimate import estimate_headline

    evidence, _ = to_evidence(simulate(regime_named(regime), seed))
    every = surface_counts(evidence)
    parts = (t[:1] for t in (every.n, every.k, every.kl, every.kl_var))
    one = SurfaceCounts(every.surfaces[:1], every.steps, every.levels, *parts)
    jobs: dict[str, Callable[[], object]] = {
        f"headline, {len(every.surfaces)} surfaces": lambda: estimate_headline(evidence),
        "one 2D GP": lambda: fit_gp(one, GPSettings()),
        f"{len(every.surfaces)} 2D GPs in one batch": lambda: fit_gp(every, GPSettings()),
    }
    return {name: min(_cpu_seconds(job) for _ in range(3)) for name, job in jobs.items()}


def _cpu_seconds(job: Callable[[], object]) -> float:
    started = time.process_time()
    job()
    return time.process_time() - started
