"""Design matrices of the growth model: what each unknown adds to the logit rate of each cell.

The logit exploit rate of surface j = (run, exploit type) at checkpoint c and prefill level N is

    eta_j(c, N) = theta_j(c) + R(N) + b1 * KL + b2 * log(1 + KL) + Q * w(N) z(c) + h_j(N) + q_j w(N) z(c) + e

theta_j is the unprompted logit rate, which the forecast is about; everything after it vanishes at N = 0. theta_j
is a growth curve over training time z in [0, 1] (0: first checkpoint, 1: the horizon):

    theta_j(c) = A + a_type + a_j + (S + s_run + s_j) z + Wiener(z) + integral of (v_run + v_j),
    v_run, v_j ~ Ornstein-Uhlenbeck

A trend whose extra speed v dies out (a damped local trend), part of it common to a run's types, instead of a
stationary process or a straight line. A stationary curve returns to its mean where data end, which is wrong for a
behaviour that training keeps pushing; a straight line never ends a burst of growth, and real bursts end. Here a burst
is carried on for about `memory` of the training and then gives way to the run's long-run growth, while uncertainty
widens. All unknowns are standard normal: prior standard deviations are folded into the columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Array = NDArray[np.float64]
WORDS_SCALE = 5.0
"""Prefill levels enter as log(1 + N/5): the first words buy more than the last."""


@dataclass(frozen=True, slots=True)
class GrowthPrior:
    """Fixed prior scales, in logits (KL coefficients: logits per unit of the term).

    Starts are weak: rates from 1e-5 to above one tenth at the first checkpoint. Long-run growth is small and nearly
    certain on purpose, so that growth already seen counts as a burst that ends, not as a trend that goes on.
    """

    start_mean: float = -7.0
    start_sd: float = 2.5
    type_start_sd: float = 1.5
    surface_start_sd: float = 1.0
    growth_mean: float = 1.5
    growth_sd: float = 1.0
    run_growth_sd: float = 0.5
    level_sd: float = 2.0
    kl_mean: float = 0.1
    kl_sd: float = 0.15
    log_kl_mean: float = 0.5
    log_kl_sd: float = 0.7
    level_time_sd: float = 2.0


@dataclass(frozen=True, slots=True)
class Hyper:
    """Scales learned from the data, each [B] for B settings evaluated at once.

    `slope`: spread of types' long-run growth around their run's; `wiener`: roughness of the curve per unit of
    training time; `burst`, `run_burst`: sd of the extra speed of a type and of its whole run, logits per training;
    `memory`: how long it lasts; `level`: a type's own response to prefill per unit of log(1 + N/5); `level_time`:
    its change over training; `noise`: extra spread of a prefilled cell; `warp`: 0 = growth in log step, 1 = in step.
    """

    slope: Array
    wiener: Array
    burst: Array
    run_burst: Array
    memory: Array
    level: Array
    level_time: Array
    noise: Array
    warp: Array

    @property
    def size(self) -> int:
        """Number of settings B."""
        return len(self.slope)


@dataclass(frozen=True, slots=True)
class TimeAxis:
    """Training time of one data set: `origin` is the earliest checkpoint, `horizon` the step forecast to."""

    origin: float
    horizon: float

    def z(self, steps: Array, warp: Array) -> Array:
        """Time in [0, 1] at `steps` [...] for each warp [B]: [B, ...]. Step 0 counts as half the first step."""
        floor = 0.5
        logs = np.log(np.maximum(np.append(steps.ravel(), [self.origin, self.horizon]), floor))
        log_z = (logs[:-2] - logs[-2]) / (logs[-1] - logs[-2])
        lin_z = (steps.ravel() - self.origin) / (self.horizon - self.origin)
        mixed = (1 - warp[:, None]) * log_z + warp[:, None] * lin_z
        return np.asarray(mixed.reshape(len(warp), *steps.shape))


@dataclass(frozen=True, slots=True)
class GrowthData:
    """Counts of J surfaces, padded to D cells and K checkpoints each. Padding has n = 0.

    k, n, kl, words: [J, D]; step_index: [J, D] index into `steps`; steps: [J, K] increasing (padding repeats the
    last); n_steps: [J]; run, type: [J] indices; run_steps: [R, U] all steps of each run, padded alike; run_index:
    [J, K] position of `steps` in the run's; levels: all prefill levels above 0, increasing.
    """

    surfaces: tuple[tuple[str, str], ...]
    k: Array
    n: Array
    kl: Array
    words: Array
    step_index: NDArray[np.int64]
    steps: Array
    n_steps: NDArray[np.int64]
    run: NDArray[np.int64]
    type: NDArray[np.int64]
    run_steps: Array
    run_index: NDArray[np.int64]
    levels: Array


def growth_data(cells: pd.DataFrame) -> GrowthData:
    """Arrays of a cell table (columns run, exploit_type, checkpoint, prefill_level, n, k, kl_mean).

    Cells without a KL value (none scored, or not finite) take the mean KL of their level over the table, or 0
    when there is none: the level's own effect then carries what KL would have said.
    """
    table = cells[cells["n"] > 0].sort_values(["run", "exploit_type", "checkpoint", "prefill_level"], ignore_index=True)
    kl = _filled_kl(table)
    groups = [(key, table.index.get_indexer(part.index)) for key, part in table.groupby(["run", "exploit_type"])]
    surfaces = tuple((str(run), str(kind)) for (run, kind), _ in groups)
    counts = [len(rows) for _, rows in groups]
    step_lists = [np.unique(table["checkpoint"].to_numpy(float)[rows]) for _, rows in groups]
    size, depth, width = len(groups), max(counts), max(len(steps) for steps in step_lists)
    arrays = {name: np.zeros((size, depth)) for name in ("k", "n", "kl", "words")}
    index = np.zeros((size, depth), dtype=np.int64)
    steps = np.empty((size, width))
    for j, (_, rows) in enumerate(groups):
        part = slice(0, len(rows))
        arrays["k"][j, part] = table["k"].to_numpy(float)[rows]
        arrays["n"][j, part] = table["n"].to_numpy(float)[rows]
        arrays["kl"][j, part] = kl[rows]
        arrays["words"][j, part] = table["prefill_level"].to_numpy(float)[rows]
        index[j, part] = np.searchsorted(step_lists[j], table["checkpoint"].to_numpy(float)[rows])
        steps[j] = np.append(step_lists[j], np.full(width - len(step_lists[j]), step_lists[j][-1]))
    levels = np.unique(table["prefill_level"].to_numpy(float))
    run = _codes([run for run, _ in surfaces])
    unions = [np.unique(steps[run == r]) for r in range(run.max() + 1)]
    longest = max(len(union) for union in unions)
    run_steps = np.stack([np.append(union, np.full(longest - len(union), union[-1])) for union in unions])
    return GrowthData(
        surfaces=surfaces,
        k=arrays["k"],
        n=arrays["n"],
        kl=arrays["kl"],
        words=arrays["words"],
        step_index=index,
        steps=steps,
        n_steps=np.array([len(s) for s in step_lists]),
        run=run,
        type=_codes([kind for _, kind in surfaces]),
        run_steps=run_steps,
        run_index=np.stack([np.searchsorted(unions[r], steps[j]) for j, r in enumerate(run)]),
        levels=levels[levels > 0],
    )


def _filled_kl(table: pd.DataFrame) -> Array:
    level = table["prefill_level"].to_numpy(float)
    kl = table["kl_mean"].astype(float).where(np.isfinite(table["kl_mean"].astype(float)))
    filled = kl.fillna(kl.groupby(level).transform("mean")).fillna(0.0)
    return np.where(level == 0, 0.0, filled.to_numpy(float))


def _codes(names: list[str]) -> NDArray[np.int64]:
    return np.unique(np.array(names), return_inverse=True)[1].astype(np.int64)


@dataclass(frozen=True, slots=True)
class Design:
    """eta = offset + local u_j + shared g + e.

    offset: [B, J, D]; local: [B, J, D, P]; shared: [B, J, D, G]; noise_sd: [B, J, D] (0: no cell noise).
    curve_offset [B, J, K], curve_local [B, J, K, P], curve_shared [B, J, K, G] give theta at the seen checkpoints;
    slope_offset [B, J], slope_local, slope_shared its long-run slope; speed_local [B, J, P] and speed_shared
    [B, J, G] its own and its run's extra speed at the last checkpoint; z: [B, J, K].
    """

    offset: Array
    local: Array
    shared: Array
    noise_sd: Array
    curve_offset: Array
    curve_local: Array
    curve_shared: Array
    slope_offset: Array
    slope_local: Array
    slope_shared: Array
    speed_local: Array
    speed_shared: Array
    z: Array


def build_design(data: GrowthData, hyper: Hyper, axis: TimeAxis, prior: GrowthPrior) -> Design:
    """The design of every hyperparameter setting at once."""
    z = axis.z(data.steps, hyper.warp)
    curve_local, slope_local, speed_local = _curve_columns(z, hyper, prior)
    curve_shared, slope_shared, speed_shared = _shared_curve_columns(data, z, hyper, axis, prior)
    curve_offset = prior.start_mean + prior.growth_mean * z
    rows = np.arange(len(data.surfaces))[:, None]
    pick = (slice(None), rows, data.step_index)
    weight = np.log1p(data.words / WORDS_SCALE)
    top = float(np.log1p(data.levels.max() / WORDS_SCALE)) if len(data.levels) else 1.0
    time_level = weight / top * z[pick]
    level_local = _level_columns(data, weight)
    n_settings = hyper.size
    local = np.concatenate(
        [
            curve_local[pick],
            hyper.level[:, None, None, None] * level_local[None],
            (hyper.level_time[:, None, None] * time_level)[..., None],
        ],
        axis=-1,
    )
    log_kl = np.log1p(np.maximum(data.kl, 0.0))
    prefilled = data.words > 0
    fixed = np.stack([prior.kl_sd * data.kl, prior.log_kl_sd * log_kl], axis=-1)
    shared = np.concatenate(
        [
            curve_shared[pick],
            np.broadcast_to(prior.level_sd * level_local, (n_settings, *level_local.shape)),
            np.broadcast_to(fixed, (n_settings, *fixed.shape)),
            prior.level_time_sd * time_level[..., None],
        ],
        axis=-1,
    )
    offset = curve_offset[pick] + (prior.kl_mean * data.kl + prior.log_kl_mean * log_kl)[None]
    extra_local = local.shape[-1] - curve_local.shape[-1]
    extra_shared = shared.shape[-1] - curve_shared.shape[-1]
    return Design(
        offset=offset,
        local=local,
        shared=shared,
        noise_sd=hyper.noise[:, None, None] * prefilled[None],
        curve_offset=curve_offset,
        curve_local=_pad(curve_local, extra_local),
        curve_shared=_pad(curve_shared, extra_shared),
        slope_offset=np.full(z.shape[:2], prior.growth_mean),
        slope_local=_pad(slope_local, extra_local),
        slope_shared=_pad(slope_shared, extra_shared),
        speed_local=_pad(speed_local, extra_local),
        speed_shared=_pad(speed_shared, extra_shared),
        z=z,
    )


def _pad(columns: Array, extra: int) -> Array:
    return np.concatenate([columns, np.zeros((*columns.shape[:-1], extra))], axis=-1)


@dataclass(frozen=True, slots=True)
class BurstGap:
    """Exact transition of (theta, v) over a gap d: v' = keep v + speed e1, theta' = theta + carry v + both e1 + own e2.

    e1, e2 standard normal; the Wiener part of theta is inside `own`. Shapes follow the gaps given.
    Source: integrated Ornstein-Uhlenbeck process, e.g. Taylor, Cumberland and Sy (1994), JASA 89.
    """

    keep: Array
    carry: Array
    speed: Array
    both: Array
    own: Array


def burst_gap(gap: Array, burst: Array, memory: Array, wiener: Array) -> BurstGap:
    """The transition over `gap` (same shape as, or broadcast with, the scales)."""
    keep = np.exp(-gap / memory)
    speed = burst * np.sqrt(np.maximum(1 - keep**2, 0.0))
    covariance = burst**2 * memory * (1 - keep) ** 2
    variance = burst**2 * memory**2 * np.maximum(2 * gap / memory - 3 + 4 * keep - keep**2, 0.0)
    both = np.divide(covariance, speed, out=np.zeros_like(covariance), where=speed > 0)
    own = np.sqrt(np.maximum(variance - both**2, 0.0) + wiener**2 * gap)
    return BurstGap(keep, memory * (1 - keep), speed, both, own)


def _burst_columns(z: Array, burst: Array, memory: Array, wiener: Array) -> tuple[Array, Array]:
    """Columns of one burst process seen at z [B, M, K]: for its integral [B, M, K, 2K - 1] and its last speed.

    burst, memory, wiener: [B]. Columns: first speed, then e1 and e2 of each gap.
    """
    width = z.shape[-1]
    sd, span, rough = (scale[:, None, None] for scale in (burst, memory, wiener))
    gaps = burst_gap(np.maximum(np.diff(z, axis=-1), 0.0), sd, span, rough)
    later = np.tri(width, width - 1, -1, dtype=bool)
    since_gap = np.maximum(z[..., :, None] - z[..., None, 1:], 0.0)
    carried = span[..., None] * (1 - np.exp(-since_gap / span[..., None]))
    driven = np.where(later, gaps.both[:, :, None, :] + gaps.speed[:, :, None, :] * carried, 0.0)
    own = np.where(later, gaps.own[:, :, None, :], 0.0)
    since_start = z - z[..., :1]
    first = sd * span * (1 - np.exp(-since_start / span))
    curve = np.concatenate([first[..., None], driven, own], axis=-1)
    speed = np.zeros((*z.shape[:2], curve.shape[-1]))
    speed[..., 0] = (sd * np.exp(-since_start[..., -1:] / span))[..., 0]
    speed[..., 1:width] = gaps.speed * np.exp(-(z[..., -1:] - z[..., 1:]) / span)
    return curve, speed


def _curve_columns(z: Array, hyper: Hyper, prior: GrowthPrior) -> tuple[Array, Array, Array]:
    """Columns of a surface's own start, long-run slope and bursts: for theta, the slope and the last extra speed."""
    bursts, speed = _burst_columns(z, hyper.burst, hyper.memory, hyper.wiener)
    start = np.full((*z.shape, 1), prior.surface_start_sd)
    slope = hyper.slope[:, None, None, None] * z[..., None]
    slope_columns = np.zeros((*z.shape[:2], 2 + bursts.shape[-1]))
    slope_columns[..., 1] = hyper.slope[:, None]
    before = np.zeros((*z.shape[:2], 2))
    return (
        np.concatenate([start, slope, bursts], axis=-1),
        slope_columns,
        np.concatenate([before, speed], axis=-1),
    )


def _shared_curve_columns(
    data: GrowthData, z: Array, hyper: Hyper, axis: TimeAxis, prior: GrowthPrior
) -> tuple[Array, Array, Array]:
    """Columns of the overall start, types' starts, overall and runs' growth and runs' bursts, as `_curve_columns`."""
    types = np.eye(data.type.max() + 1)[data.type]
    runs = np.eye(data.run.max() + 1)[data.run]
    lead, n_runs = z.shape, runs.shape[1]
    ones = np.ones((*lead, 1))
    start_types = np.broadcast_to(prior.type_start_sd * types[None, :, None, :], (*lead, types.shape[1]))
    run_growth = np.broadcast_to(prior.run_growth_sd * runs[None, :, None, :], (*lead, n_runs))
    growth = np.concatenate([prior.growth_sd * ones, run_growth], axis=-1)
    run_z = axis.z(data.run_steps, hyper.warp)
    bursts, speed = _burst_columns(run_z, hyper.run_burst, hyper.memory, np.zeros(hyper.size))
    own_run = bursts[:, data.run[:, None], data.run_index]
    # A run's columns act on its own surfaces only: one block of columns per run.
    run_bursts = (own_run[..., None, :] * runs[None, :, None, :, None]).reshape(*lead, -1)
    run_speed = (speed[:, data.run][..., None, :] * runs[None, :, :, None]).reshape(*lead[:2], -1)
    curve = np.concatenate([prior.start_sd * ones, start_types, growth * z[..., None], run_bursts], axis=-1)
    before = np.zeros((*lead[:2], 1 + types.shape[1]))
    slope = np.concatenate([before, growth[..., 0, :], np.zeros_like(run_speed)], axis=-1)
    nothing = np.zeros((*lead[:2], before.shape[-1] + growth.shape[-1]))
    return curve, slope, np.concatenate([nothing, run_speed], axis=-1)


def _level_columns(data: GrowthData, weight: Array) -> Array:
    """Random-walk increments over log(1 + N/5), pinned to 0 at N = 0: [J, D, levels]."""
    edges = np.log1p(np.append(0.0, data.levels) / WORDS_SCALE)
    return np.asarray((weight[..., None] >= edges[1:] - 1e-12) * np.sqrt(np.diff(edges)))
