"""From growth curves to P(rate passes the threshold by step T) and the time until it does.

Curves are continued beyond the last checkpoint draw by draw with the growth model's own transition. In addition
training may change course for reasons that no seen checkpoint shows: a draw may leave its curve and head
for a new final level, drawn from a wide prior; often while training is young, hardly ever towards its end.

"by step T" means at any checkpoint up to T, seen ones included. A rate that has passed the threshold and fell again
has passed it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import logit

from foreshock.analysis.forecast.design import Array, burst_gap
from foreshock.analysis.forecast.growth_model import GrowthPosterior, draw_curves
from foreshock.errors import InputError

DEFAULT_THRESHOLD = 0.10
COURSE_CHANGES = 1.0
"""Changes of course expected from time z on: this times (1 - z)^3. Early in training little is settled."""
NEW_LEVEL_MEAN, NEW_LEVEL_SD = -3.2, 2.3
"""Logit rate headed for after a change of course: above 10% in a third of the cases."""


@dataclass(frozen=True, slots=True)
class Paths:
    """Draws of the logit rate: seen [S, J, K] at `seen_steps` [J, K], future [S, J, F] at `steps` [F].

    A future step at or before a surface's last checkpoint holds NaN.
    """

    surfaces: tuple[tuple[str, str], ...]
    seen: Array
    future: Array
    steps: Array
    seen_steps: Array

    @property
    def last_step(self) -> Array:
        """Each surface's last seen checkpoint, [J]."""
        return np.asarray(self.seen_steps[:, -1])


def draw_paths(posterior: GrowthPosterior, future_steps: Array, draws: int = 2000, seed: int = 0) -> Paths:
    """Continue `draws` posterior curves through `future_steps` (increasing, at most the horizon)."""
    steps = np.unique(np.asarray(future_steps, dtype=float))
    if len(steps) and steps[-1] > posterior.axis.horizon * (1 + 1e-12):
        raise InputError(
            f"step {steps[-1]:g} lies beyond the horizon {posterior.axis.horizon:g} that the model was fitted for"
        )
    drawn = draw_curves(posterior, draws, seed)
    rng = np.random.default_rng([seed, 1])
    last = posterior.data.steps[:, -1]
    z_now = posterior.design.z[:, :, -1][drawn.setting]
    z_future = posterior.axis.z(steps, posterior.hyper.warp)[drawn.setting]
    hyper, run = posterior.hyper, posterior.data.run
    burst, run_burst, memory, wiener = (
        scale[drawn.setting][:, None] for scale in (hyper.burst, hyper.run_burst, hyper.memory, hyper.wiener)
    )
    level, speed, run_speed = drawn.curve[:, :, -1], drawn.speed, drawn.run_speed
    run_shape = (len(level), int(run.max()) + 1)
    future = np.full((*level.shape, len(steps)), np.nan)
    heading = np.full(level.shape, np.nan)
    for i, step in enumerate(steps):
        gap = np.maximum(z_future[:, i, None] - z_now, 0.0)
        own, shared = burst_gap(gap, burst, memory, wiener), burst_gap(gap, run_burst, memory, 0 * wiener)
        shock, run_shock = rng.standard_normal(level.shape), rng.standard_normal(run_shape)[:, run]
        before = level
        level = level + drawn.slope * gap + own.carry * speed + own.both * shock
        level = level + own.own * rng.standard_normal(level.shape)
        level = level + shared.carry * run_speed + shared.both * run_shock
        level = level + shared.own * rng.standard_normal(run_shape)[:, run]
        speed = own.keep * speed + own.speed * shock
        run_speed = shared.keep * run_speed + shared.speed * run_shock
        z_now = z_now + gap
        expected = COURSE_CHANGES * (np.maximum(1 - z_now + gap, 0.0) ** 3 - np.maximum(1 - z_now, 0.0) ** 3)
        changes = np.isnan(heading) & (rng.random(level.shape) < 1 - np.exp(-expected))
        heading = np.where(changes, NEW_LEVEL_MEAN + NEW_LEVEL_SD * rng.standard_normal(level.shape), heading)
        # After a change, an even approach in z that arrives at the horizon, where z = 1.
        share = np.where(z_now < 1 - 1e-9, gap / np.maximum(1 - z_now + gap, 1e-12), 1.0)
        level = np.where(np.isnan(heading), level, before + share * (heading - before))
        future[:, :, i] = np.where(step > last[None, :], level, np.nan)
    return Paths(posterior.data.surfaces, drawn.curve, future, steps, posterior.data.steps)


def forecast_table(paths: Paths, threshold: float = DEFAULT_THRESHOLD) -> pd.DataFrame:
    """One row per surface and future step.

    Columns: run, exploit_type, last_checkpoint, step, p_exceed (by that step, seen checkpoints included),
    p_exceed_seen (already passed at a seen checkpoint), log10_rate and its 95% limits at the step.
    """
    _check_threshold(threshold)
    limit = float(logit(threshold))
    seen = np.asarray((paths.seen > limit).any(-1))
    rows = []
    for j, (run, kind) in enumerate(paths.surfaces):
        crossed = seen[:, j].copy()
        for i, step in enumerate(paths.steps):
            values = paths.future[:, j, i]
            if np.isnan(values[0]):
                continue
            crossed |= values > limit
            lower, middle, upper = np.quantile(-np.logaddexp(0, -values) / np.log(10), [0.025, 0.5, 0.975])
            rows.append((run, kind, paths.last_step[j], step, crossed.mean(), seen[:, j].mean(), middle, lower, upper))
    columns = "run exploit_type last_checkpoint step p_exceed p_exceed_seen log10_rate lower95 upper95"
    return pd.DataFrame(rows, columns=columns.split())


def time_to_threshold(paths: Paths, threshold: float = DEFAULT_THRESHOLD) -> pd.DataFrame:
    """When each surface passes the threshold: quantiles of the first step above it.

    Columns: run, exploit_type, p_by_horizon, step_lower90, step_median, step_upper90, status. A quantile that lies
    beyond the horizon is null; for types that have passed already it is a seen checkpoint. status: `emerged` (a seen
    checkpoint has most likely passed already), `expected` (the median lies within the horizon), `not by horizon`.
    """
    _check_threshold(threshold)
    limit = float(logit(threshold))
    rows = []
    for j, (run, kind) in enumerate(paths.surfaces):
        above = np.nan_to_num(paths.future[:, j], nan=-np.inf) > limit
        first = np.where(above.any(-1), paths.steps[above.argmax(-1)] if len(paths.steps) else np.inf, np.inf)
        seen = paths.seen[:, j] > limit
        already = seen.any(-1)
        first = np.where(already, paths.seen_steps[j][seen.argmax(-1)], first)
        quantiles = [float(q) for q in np.quantile(first, [0.05, 0.5, 0.95], method="inverted_cdf")]
        status = "emerged" if already.mean() > 0.5 else "expected" if np.isfinite(quantiles[1]) else "not by horizon"
        finite = [q if np.isfinite(q) else None for q in quantiles]
        rows.append((run, kind, float(np.isfinite(first).mean()), *finite, status))
    columns = "run exploit_type p_by_horizon step_lower90 step_median step_upper90 status"
    return pd.DataFrame(rows, columns=columns.split())


def _check_threshold(threshold: float) -> None:
    if not 0 < threshold < 1:
        raise InputError(f"threshold {threshold:g} is not a rate; valid: above 0 and below 1, e.g. 0.1")
