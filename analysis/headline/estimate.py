"""The headline estimate: unprompted exploit rate of every (run, type, checkpoint), its interval, and a verdict on both.

Three steps: a structural smoother that penalises mismatch between donor and target (smoother.py), quantiles of what it
lacks, learned on random worlds (learned.py), and a verdict that refuses where the data give no ground (verdict.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from foreshock.analysis.evidence.evidence import Evidence, Floats
from foreshock.analysis.headline.features import Features, features
from foreshock.analysis.headline.learned import Learned, learned
from foreshock.analysis.headline.prefixes import LevelTable, effective_counts, level_table
from foreshock.analysis.headline.signs import exact_faults, signs
from foreshock.analysis.headline.smoother import Settings, Smoothed, smooth
from foreshock.analysis.headline.verdict import Limits, Verdict, judge

LOG10 = float(np.log(10.0))
_CAUSES = "wrong temperature, wrong pairing of prefixes or noisy scores"


@dataclass(frozen=True, slots=True)
class Headline:
    """Quantiles of log10 of the rate, each [J, C]; the verdict on each cell; faults: what is or may be wrong with the
    inputs as a whole; alarm: logit that they are corrupted; measurements: prefilled cells with an exploit."""

    median: Floats
    lower90: Floats
    upper90: Floats
    lower95: Floats
    upper95: Floats
    verdict: Verdict
    faults: tuple[str, ...]
    alarm: float
    measurements: int


@dataclass(frozen=True, slots=True)
class Reduced:
    """A sweep's evidence as the smoother leaves it. n, k: [J, C] effective direct counts."""

    table: LevelTable
    n: Floats
    k: Floats
    smoothed: Smoothed
    features: Features


def reduce_evidence(evidence: Evidence, settings: Settings) -> Reduced:
    """Everything that is computed before the learned part: training uses the same."""
    return reduce_table(evidence, level_table(evidence), settings)


def reduce_table(evidence: Evidence, table: LevelTable, settings: Settings) -> Reduced:
    """The same from sums that are there already."""
    n, k = effective_counts(evidence)
    smoothed = smooth(evidence, table, n, k, settings)
    return Reduced(table, n, k, smoothed, features(evidence, table, smoothed, n, k))


def cell_quantiles(found: Reduced, known: Learned) -> Floats:
    """Learned quantiles of log10(rate): [5, J, C]."""
    residual = known.residuals(found.features.values)
    cells = np.minimum(residual + found.smoothed.mean.reshape(-1, 1) / LOG10, 0.0)
    return np.moveaxis(cells.reshape(*found.n.shape, -1), -1, 0)


def estimate_headline(evidence: Evidence) -> Headline:
    """Estimate all cells. One thread: its matrices are small, and more threads only wait for each other."""
    with threadpool_limits(1):
        return _estimate(evidence, learned(), Settings(), Limits())


def _estimate(evidence: Evidence, known: Learned, settings: Settings, limits: Limits) -> Headline:
    found = reduce_evidence(evidence, settings)
    if found.features.names != known.names:
        raise RuntimeError(
            "headline/learned.npz was made for other features: run `python -m benchmarks.calibration learn`"
        )
    shape = found.n.shape
    values = found.features.values
    quantiles = cell_quantiles(found, known)
    faults = [*evidence.faults, *exact_faults(evidence)]
    row, _ = signs(evidence, found.table, found.n, found.k)
    suspicion = float(known.detector.predict(row[None])[0, 0])
    doubts = []
    if suspicion > known.alarm:
        faults.append(f"weights and outcomes do not fit together as in sound sweeps: {_CAUSES}")
    elif suspicion > known.doubt:
        doubts.append(
            f"weights and outcomes fit together less well than in six of seven sound sweeps; rule out before quoting a "
            f"rate: {_CAUSES}"
        )
    strange = known.strangeness(values).reshape(shape)
    verdict = judge(evidence, found.table, found.smoothed, found.features, quantiles, strange, faults, settings, limits)
    low95, low90, median, up90, up95 = quantiles
    hits = int((np.nan_to_num(found.table.s) > 0).sum())
    return Headline(median, low90, up90, low95, up95, verdict, (*faults, *doubts), suspicion, hits)
