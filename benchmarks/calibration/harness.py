"""Run every estimator on simulated experiments and print bias, RMSE, coverage, width and interval score.

Seeds come in two blocks that never meet. Development looks at seeds from DEVELOPMENT_SEED on; reported tables come
from REPORTING_SEED on. Change an estimator after looking at the second block, and the block must be moved.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from benchmarks.calibration.arrays import Array
from benchmarks.calibration.experiment import simulate
from benchmarks.calibration.memory import to_evidence
from benchmarks.calibration.regimes import regime_named
from benchmarks.calibration.score import Cells, Score, score

from foreshock.analysis.estimates.rates import estimate_rates
from foreshock.analysis.evidence.estimate import Method, RateEstimate
from foreshock.analysis.evidence.evidence import Evidence

DEVELOPMENT_SEED = 1000
REPORTING_SEED = 920_000


@dataclass(frozen=True, slots=True)
class RegimeResult:
    """Scores of every method in one regime, by (method, zero cells or not), and seconds an experiment."""

    regime: str
    scores: dict[tuple[str, bool], Score]
    violations: dict[str, tuple[int, int]]
    seconds: float


def _cells(
    estimates: Iterable[RateEstimate], method: Method, evidence: Evidence, truth: Array, zero: Array
) -> dict[str, list[float]]:
    columns: dict[str, list[float]] = {name: [] for name in Cells.__slots__}
    surface = {(s.run, s.exploit_type): j for j, s in enumerate(evidence.surfaces)}
    step = {int(s): c for c, s in enumerate(evidence.steps)}
    for e in estimates:
        if e.method is not method:
            continue
        j, c = surface[(e.run, e.exploit_type)], step[e.checkpoint]
        columns["truth"].append(float(np.log10(truth[j, c])))
        columns["zero"].append(float(zero[j, c]))
        columns["point"].append(np.nan if e.log10_rate is None else e.log10_rate)
        for name in ("lower90", "upper90", "lower95", "upper95"):
            value = getattr(e.limits, name)
            columns[name].append(np.nan if value is None else value)
    return columns


def run_regime(name: str, seeds: Sequence[int]) -> RegimeResult:
    """Simulate and estimate one experiment a seed; pool their cells."""
    regime = regime_named(name)
    pooled: dict[Method, dict[str, list[float]]] = {m: {s: [] for s in Cells.__slots__} for m in Method}
    seconds = 0.0
    for seed in seeds:
        evidence, truth = to_evidence(simulate(regime, seed))
        started = time.perf_counter()
        estimates = estimate_rates(evidence).estimates
        seconds += time.perf_counter() - started
        zero = evidence.direct()[1] == 0
        for method in Method:
            for column, values in _cells(estimates, method, evidence, truth, zero).items():
                pooled[method][column] += values
    scores, violations = {}, {}
    for method, columns in pooled.items():
        cells = Cells(**{name: np.asarray(values) for name, values in columns.items()})
        for zero_cells in (True, False):
            scores[(method.value, zero_cells)] = score(cells, zero_cells)
        limited = np.isfinite(cells.lower95)
        violations[method.value] = (int((cells.truth < cells.lower95)[limited].sum()), int(limited.sum()))
    return RegimeResult(name, scores, violations, seconds / len(seeds))


def table(results: Sequence[RegimeResult], methods: Sequence[str]) -> str:
    """The printed report."""
    head = f"{'regime':20s} {'method':22s} {'cells':5s} {'n':>5s} {'bias':>6s} {'RMSE':>6s} {'cov90':>6s} {'cov95':>6s}"
    lines = [head + f" {'width':>6s} {'IS95':>6s}"]
    for result in results:
        for method in methods:
            for zero in (True, False):
                s = result.scores[(method, zero)]
                lines.append(
                    f"{result.regime:20s} {method:22s} {'zero' if zero else 'seen':5s} {s.n:5d} {s.bias:6.2f} "
                    f"{s.rmse:6.2f} {s.cov90:6.3f} {s.cov95:6.3f} {s.width95:6.2f} {s.is95:6.2f}"
                )
    for method in methods:
        for zero in (True, False):
            columns = np.array(
                [
                    [s.bias, s.rmse, s.cov90, s.cov95, s.width95, s.is95]
                    for s in (result.scores[(method, zero)] for result in results)
                ]
            )
            mean = np.nanmean(columns, axis=0) if np.isfinite(columns).any() else np.full(6, np.nan)
            lines.append(
                f"{'mean of regimes':20s} {method:22s} {'zero' if zero else 'seen':5s} {'':5s} {mean[0]:6.2f} "
                f"{mean[1]:6.2f} {mean[2]:6.3f} {mean[3]:6.3f} {mean[4]:6.2f} {mean[5]:6.2f}"
            )
    lines.append("")
    lines.append("share of cells below the 95% lower limit (2.5% is stated for intervals, 5% for bounds):")
    for method in methods:
        parts = [f"{r.regime} {v}/{n}" for r in results for v, n in [r.violations[method]] if n]
        lines.append(f"  {method}: " + ", ".join(parts))
    lines.append("seconds an experiment: " + ", ".join(f"{r.regime} {r.seconds:.1f}" for r in results))
    return "\n".join(lines)
