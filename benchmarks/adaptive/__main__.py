"""`python -m benchmarks.adaptive bias|width`: is k/n unbiased, do intervals keep coverage, and what is saved?

bias: many small sweeps. The mean relative error of k/n over cells, with its standard error; the same against the
sweep's own k/n, which is unbiased and shares its luck; and the share of cells whose Clopper-Pearson limits hold the
truth. Beside foreshock's rule one that looks at a cell's own zero count.
width: a few sweeps of the calibration's regimes: bias, coverage and mean width of the headline's 95% interval for the
sweep alone, an even spread and the adaptive rounds, and the even spread that would have given the adaptive width.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from dataclasses import replace

import numpy as np
import torch
from benchmarks.adaptive.designs import DESIGNS, World, level0
from benchmarks.calibration.experiment import simulate
from benchmarks.calibration.harness import DEVELOPMENT_SEED, REPORTING_SEED
from benchmarks.calibration.memory import to_evidence
from benchmarks.calibration.regimes import Range, Regime, regime_named

from foreshock.analysis.adaptive.savings import savings
from foreshock.analysis.estimates.direct import clopper_pearson
from foreshock.analysis.headline.estimate import estimate_headline

RARE = 0.05


def small(regime: Regime) -> Regime:
    """A sweep that takes a second: three types, four checkpoints, two levels above 0, twenty tasks or so."""
    return replace(
        regime, n_types=3, runs=("exploit",), checkpoints=(5, 20, 60, 100), levels=(0, 10, 30), tasks=Range(16, 32)
    )


def bias(regime: Regime, seeds: range, fraction: float) -> None:
    """Print mean relative error of k/n and coverage, by design, for all cells and for rare ones."""
    errors: dict[tuple[str, str], list[tuple[float, float, float]]] = defaultdict(list)
    covered: dict[tuple[str, str], list[bool]] = defaultdict(list)
    for seed in seeds:
        evidence, truth = to_evidence(simulate(regime, seed))
        world = World(simulate(regime, seed), evidence, seed)
        budget = round(fraction * int(evidence.n.sum()))
        n0, k0 = level0(evidence)
        for name, design in DESIGNS.items():
            n, k = level0(design(world, budget))
            rare = truth < RARE
            limits = [clopper_pearson(int(a), int(b), 0.95) for a, b in zip(k.flat, n.flat, strict=True)]
            inside = np.array([low <= p <= high for (low, high), p in zip(limits, truth.flat, strict=True)])
            for group, chosen in (("all", np.ones_like(rare)), ("rare", rare)):
                off = [float(value[chosen].sum()) for value in (k / n - truth, k / n - k0 / n0, truth)]
                errors[name, group].append((off[0], off[1], off[2]))
                covered[name, group] += inside[chosen.ravel()].tolist()
    print(
        f"{len(seeds)} sweeps; relative bias of k/n (rare: true rate below {RARE:.0%}), Clopper-Pearson coverage at 95%"
    )
    for (name, group), sums in errors.items():
        error, shift, total = np.array(sums).T
        share = np.mean(covered[name, group])
        print(
            f"  {name:15s} {group:5s} bias {_ratio(error, total)}  against the sweep {_ratio(shift, total)}  "
            f"coverage {share:.4f}"
        )


def _ratio(part: np.ndarray, whole: np.ndarray) -> str:
    """Ratio of sums over sweeps, with its standard error."""
    ratio = part.sum() / whole.sum()
    return f"{ratio:+.4f} (se {np.sqrt(((part - ratio * whole) ** 2).sum()) / whole.sum():.4f})"


def width(regime: Regime, seeds: range, fraction: float) -> None:
    """Print bias, coverage and width of the headline by design, and the mean saving."""
    columns: dict[str, list[tuple[float, ...]]] = defaultdict(list)
    saved = []
    for seed in seeds:
        evidence, truth = to_evidence(simulate(regime, seed))
        world = World(simulate(regime, seed), evidence, seed)
        budget = round(fraction * int(evidence.n.sum()))
        for name in ("none", "even", "adaptive"):
            after = DESIGNS[name](world, budget)
            found, exact = estimate_headline(after), np.log10(truth)
            inside95 = (found.lower95 <= exact) & (exact <= found.upper95)
            inside90 = (found.lower90 <= exact) & (exact <= found.upper90)
            error = found.median - exact
            extra = after.direct()[0] - evidence.direct()[0]
            columns[name].append(
                (
                    float(extra.sum()),
                    float(error.mean()),
                    float((error**2).mean()),
                    float(inside90.mean()),
                    float(inside95.mean()),
                    float((found.upper95 - found.lower95).mean()),
                )
            )
            if name == "adaptive":
                saved.append(savings(after, extra, world.tasks))
    print(f"{regime.name}: {len(seeds)} sweeps, budget {fraction:.0%} of their samples; decades")
    for name, rows in columns.items():
        samples, off, square, cov90, cov95, wide = np.mean(rows, axis=0)
        print(
            f"  {name:9s} samples {samples:7.0f}  bias {off:+.3f}  RMSE {square**0.5:.3f}  cov90 {cov90:.3f}  "
            f"cov95 {cov95:.3f}  width95 {wide:.3f}"
        )
    ratio = [s.uniform_samples / s.samples for s in saved if s.uniform_samples is not None and s.samples]
    expected = np.mean([(s.width_before, s.width_even, s.width) for s in saved], axis=0)
    print(f"  expected widths: before {expected[0]:.3f}, even {expected[1]:.3f}, adaptive {expected[2]:.3f}")
    print(f"  an even spread needs {np.mean(ratio):.2f} times the samples ({min(ratio):.2f} to {max(ratio):.2f})")


def main() -> None:
    """Parse arguments and run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.adaptive", description=__doc__)
    parser.add_argument("what", choices=("bias", "width"))
    parser.add_argument("--regimes", default="early", help="comma-separated regimes of benchmarks.calibration")
    parser.add_argument("--replicates", type=int, default=20)
    parser.add_argument("--fraction", type=float, default=0.2, help="budget, as a fraction of the sweep's samples")
    parser.add_argument("--report", action="store_true", help="the seeds of reported tables")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    first = REPORTING_SEED if arguments.report else DEVELOPMENT_SEED
    seeds = range(first, first + arguments.replicates)
    for name in arguments.regimes.split(","):
        regime = regime_named(name)
        if arguments.what == "bias":
            bias(small(regime), seeds, arguments.fraction)
        else:
            width(replace(regime, runs=regime.runs[:1]), seeds, arguments.fraction)


if __name__ == "__main__":
    main()
