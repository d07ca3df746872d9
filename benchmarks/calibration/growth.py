"""How fast a type grows over training, and how unlike its tasks are: shared by both worlds."""

from __future__ import annotations

import numpy as np
from benchmarks.calibration.arrays import Array, draw
from benchmarks.calibration.regimes import Regime


def growth(rng: np.random.Generator, regime: Regime) -> Array:
    """log10 intensity of exploiting: [run, checkpoint].

    A logistic rise in log step from `start_log10` to the run's end, of which `fall` is lost again after it, plus a
    smooth wiggle.
    """
    x = np.log(np.asarray(regime.checkpoints, dtype=float))
    x = (x - x.min()) / max(float(np.ptp(x)), 1e-9)
    start = float(draw(rng, regime.start_log10))
    curves = []
    for run in range(len(regime.runs)):
        end = float(draw(rng, regime.end_log10_exploit if run == 0 else regime.end_log10_control))
        middle = rng.uniform(regime.rise_at.low, regime.rise_at.high)
        slope = rng.uniform(regime.rise_slope.low, regime.rise_slope.high)
        rise = 1 / (1 + np.exp(-slope * (x - middle)))
        low, high = 1 / (1 + np.exp(slope * middle)), 1 / (1 + np.exp(-slope * (1 - middle)))
        shape = (rise - low) / (high - low)
        if regime.fall.high > 0:
            later = rng.uniform(0.4, 0.9)
            shape = shape - float(draw(rng, regime.fall)) / (1 + np.exp(-12.0 * (x - later)))
        begin = start + rng.normal(0, 0.1)
        distance = np.abs(x[:, None] - x[None, :]) / 0.25
        wiggle = rng.multivariate_normal(np.zeros(len(x)), np.exp(-0.5 * distance**2) + 1e-9 * np.eye(len(x)))
        curves.append(begin + (end - begin) * shape + regime.wiggle_log10 * wiggle)
    return np.asarray(curves)


def task_deviation(rng: np.random.Generator, regime: Regime, n: int) -> Array:
    """Log of each task's rate relative to its type's, mean rate kept: [n]."""
    task_sd = float(draw(rng, regime.task_sd))
    return np.asarray(rng.normal(0, task_sd, n) - task_sd**2 / 2)
