"""Simulated sweeps for forecasts: the calibration simulator's worlds with growth that more often passes 10%.

Two laws of growth. `log` rises in log step, as the growth model supposes by default; `step` is the same rise in the
step itself, over evenly spaced checkpoints, where a model of log step is wrong.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from benchmarks.calibration.experiment import SimulatedExperiment, simulate
from benchmarks.calibration.regimes import REGIMES, Range

EVEN_STEPS = (10, 20, 30, 40, 50, 60, 70, 80, 90)


@dataclass(frozen=True, slots=True)
class World:
    """A regime of the calibration simulator, ranges of the final log10 intensity per run, and the law of growth."""

    name: str
    regime: str
    end_exploit: Range
    end_control: Range
    in_step: bool = False


WORLDS = {
    world.name: world
    for world in (
        World("early", "early", Range(-2.0, 0.5), Range(-4.0, -0.2)),
        World("late", "late", Range(-2.0, 0.5), Range(-5.0, -1.8)),
        World("rare", "early", Range(-3.0, -0.2), Range(-5.0, -1.8)),
        World("in_step", "early", Range(-2.0, 0.5), Range(-4.0, -0.2), in_step=True),
    )
}


@dataclass(frozen=True, slots=True)
class Sweep:
    """`cells`: as `foreshock.analysis.surfaces.cells`. `truth`: run, exploit_type, checkpoint, rate."""

    cells: pd.DataFrame
    truth: pd.DataFrame
    steps: tuple[int, ...]


def draw_sweep(world: World, seed: int) -> Sweep:
    """One simulated sweep; the same (world, seed) gives the same numbers."""
    regime = replace(REGIMES[world.regime], end_log10_exploit=world.end_exploit, end_log10_control=world.end_control)
    steps = regime.checkpoints
    if world.in_step:
        # The simulator's time is the log of these, so that log time there is even time here.
        steps = EVEN_STEPS
        stretched = tuple(float(x) for x in np.exp(np.linspace(0, 1, len(steps))))
        regime = replace(regime, checkpoints=stretched)
    return tabulate(simulate(regime, seed), steps)


def tabulate(experiment: SimulatedExperiment, steps: tuple[int, ...]) -> Sweep:
    """Cells and true rates of an experiment, its checkpoints named by `steps`."""
    regime = experiment.regime
    rows, truth = [], []
    for kind in experiment.types:
        for r, run in enumerate(regime.runs):
            for c, step in enumerate(steps):
                first = kind.level0[r, c]
                key = (run, kind.name, step)
                rows.append((*key, 0, first.size, int(first.sum()), np.nan, np.nan, np.nan))
                truth.append((*key, float(kind.truth[r, c])))
                for index, level in enumerate(level for level in regime.levels if level > 0):
                    hit, log_p = kind.success[index, r, c] > 0, kind.log_p[index, r, c]
                    kl = kind.log_q[index] - log_p
                    tilted = float(kl[hit].mean()) if hit.any() else np.nan
                    means = (float(kl.mean()), tilted, float(log_p.mean()))
                    rows.append((*key, level, hit.size, int(hit.sum()), *means))
    names = ["run", "exploit_type", "checkpoint", "prefill_level", "n", "k", "kl_mean", "kl_success", "logprob_mean"]
    return Sweep(
        pd.DataFrame(rows, columns=names),
        pd.DataFrame(truth, columns=["run", "exploit_type", "checkpoint", "rate"]),
        steps,
    )
