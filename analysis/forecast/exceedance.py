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
from foreshock.analysis.forecast.growth_model import CurveDraws, GrowthPosterior, draw_curves
from foreshock.analysis.forecast.recalibrate import recalibrated
from foreshock.errors import InputError

DEFAULT_THRESHOLD = 0.10
COURSE_CHANGES = 1.0
"""Changes of course expected from time z on: this times (1 - z)^3. Early in training little is settled."""
MOSTLY_PRIOR = 0.8
"""Share of the prior's variance left from which a statement is called the prior's."""
NEW_LEVEL_MEAN, NEW_LEVEL_SD = -3.2, 2.3
"""Logit rate headed for after a change of course: above 10% in a third of the cases."""


@dataclass(frozen=True, slots=True)
class PriorLeft:
    """Share of the prior's variance that the data have left, [J]: of the logit rate at the last checkpoint seen, and of
    its speed there. 1: the data say nothing."""

    level: Array
    speed: Array


@dataclass(frozen=True, slots=True)
class Paths:
    """Draws of the logit rate: seen [S, J, K] at `seen_steps` [J, K], future [S, J, F] at `steps` [F].

    A future step at or before a surface's last checkpoint holds NaN. Without `rise` (see `run_rise`), probabilities
    are the model's own, uncorrected.
    """

    surfaces: tuple[tuple[str, str], ...]
    seen: Array
    future: Array
    steps: Array
    seen_steps: Array
    rise: Array | None = None
    prior_left: PriorLeft | None = None

    @property
    def last_step(self) -> Array:
        """Each surface's last seen checkpoint, [J]."""
        return np.asarray(self.seen_steps[:, -1])


def draw_paths(posterior: GrowthPosterior, future_steps: Array, draws: int = 2000, seed: int = 0) -> Paths:
    """Continue `draws` posterior curves through `future_steps` (increasing, at most the horizon)."""
    steps = np.unique(np.asarray(future_steps, dtype=float))
    if len(steps) and steps[-1] > posterior.axis.horizon * (1 + 1e-12):
        raise InputError(
            f"step {steps[-1]:.10g} lies beyond the horizon {posterior.axis.horizon:.10g} that the model was fitted for"
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
    left = _prior_left(posterior, drawn)
    return Paths(posterior.data.surfaces, drawn.curve, future, steps, posterior.data.steps, prior_left=left)


def _prior_left(posterior: GrowthPosterior, drawn: CurveDraws) -> PriorLeft:
    design, weights = posterior.design, posterior.weights
    level = (design.curve_local[:, :, -1] ** 2).sum(-1) + (design.curve_shared[:, :, -1] ** 2).sum(-1)
    own, shared = design.slope_local + design.speed_local, design.slope_shared + design.speed_shared
    speed = (own**2).sum(-1) + (shared**2).sum(-1)
    now = drawn.slope + drawn.speed + drawn.run_speed
    return PriorLeft(drawn.curve[:, :, -1].var(axis=0) / (weights @ level), now.var(axis=0) / (weights @ speed))


def model_passage(paths: Paths, threshold: float) -> tuple[Array, Array]:
    """The model's own P(passed by step) [J, F], seen checkpoints included, and P(passed at a seen one) [J].

    A step at or before a surface's last checkpoint holds the latter.
    """
    limit = float(logit(threshold))
    seen = np.asarray((paths.seen > limit).any(-1))
    above = np.maximum.accumulate(np.nan_to_num(paths.future, nan=-np.inf) > limit, axis=-1)
    return (seen[:, :, None] | above).mean(axis=0), seen.mean(axis=0)


def passage(paths: Paths, threshold: float) -> tuple[Array, Array]:
    """P(passed by step) [J, F] and P(passed at a seen checkpoint) [J], corrected where the paths carry `rise`."""
    passed, seen = model_passage(paths, threshold)
    if paths.rise is None:
        return passed, seen
    ahead = paths.steps[None, :] > paths.last_step[:, None]
    return np.where(ahead, recalibrated(passed, seen, paths.rise), passed), seen


def forecast_table(paths: Paths, threshold: float = DEFAULT_THRESHOLD) -> pd.DataFrame:
    """One row per surface and future step.

    Columns: run, exploit_type, last_checkpoint, step, p_exceed (by that step, seen checkpoints included, corrected as
    in `recalibrate`), p_exceed_seen (already passed at a seen checkpoint), p_exceed_model (uncorrected), log10_rate
    and its 95% limits at the step, which are the growth model's own.
    """
    _check_threshold(threshold)
    passed, seen = passage(paths, threshold)
    model, _ = model_passage(paths, threshold)
    rows = []
    for j, (run, kind) in enumerate(paths.surfaces):
        for i, step in enumerate(paths.steps):
            values = paths.future[:, j, i]
            if np.isnan(values[0]):
                continue
            lower, middle, upper = np.quantile(-np.logaddexp(0, -values) / np.log(10), [0.025, 0.5, 0.975])
            chances = (passed[j, i], seen[j], model[j, i])
            rows.append((run, kind, paths.last_step[j], step, *chances, middle, lower, upper))
    columns = "run exploit_type last_checkpoint step p_exceed p_exceed_seen p_exceed_model log10_rate lower95 upper95"
    return pd.DataFrame(rows, columns=columns.split())


def time_to_threshold(paths: Paths, threshold: float = DEFAULT_THRESHOLD) -> pd.DataFrame:
    """When each surface passes the threshold: quantiles of the first step above it.

    Columns: run, exploit_type, p_by_horizon, step_lower90, step_median, step_upper90, status, rests_on. A quantile that
    lies beyond the horizon is null; for types that have passed already it is a seen checkpoint. status: `emerged` (a
    seen checkpoint has most likely passed already), `expected` (the median lies within the horizon), `not by horizon`.
    rests_on: `data`; `prior growth` (the data say where the rate is, hardly how fast it moves); `prior` (neither).
    """
    _check_threshold(threshold)
    passed, already = passage(paths, threshold)
    earlier = np.maximum.accumulate(paths.seen > float(logit(threshold)), axis=-1).mean(axis=0)
    rows = []
    for j, (run, kind) in enumerate(paths.surfaces):
        ahead = paths.steps > paths.last_step[j]
        steps = np.concatenate([paths.seen_steps[j], paths.steps[ahead]])
        chance = np.concatenate([earlier[j], passed[j, ahead]])
        quantiles = [float(steps[chance >= q][0]) if (chance >= q).any() else None for q in (0.05, 0.5, 0.95)]
        status = "emerged" if already[j] > 0.5 else "not by horizon" if quantiles[1] is None else "expected"
        rows.append((run, kind, float(chance[-1]), *quantiles, status, _rests_on(paths.prior_left, j)))
    columns = "run exploit_type p_by_horizon step_lower90 step_median step_upper90 status rests_on"
    return pd.DataFrame(rows, columns=columns.split())


def _rests_on(left: PriorLeft | None, j: int) -> str:
    if left is None or (left.level[j] < MOSTLY_PRIOR and left.speed[j] < MOSTLY_PRIOR):
        return "data"
    return "prior" if left.level[j] >= MOSTLY_PRIOR else "prior growth"


def _check_threshold(threshold: float) -> None:
    if not 0 < threshold < 1:
        raise InputError(f"threshold {threshold:g} is not a rate; valid: above 0 and below 1, e.g. 0.1")
