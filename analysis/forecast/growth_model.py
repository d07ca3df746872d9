"""The growth model's posterior: a weighted mixture of Laplace approximations over hyperparameter settings.

Settings are drawn quasi-randomly from the prior and weighted by their evidence; each further round is drawn from
a Student-t fitted to all the weighted ones before it (adaptive importance sampling, Bugallo et al. 2017).

Integrate over hyperparameters, never optimise. With few checkpoints the evidence hardly says how rough growth curves
are, and a single optimum turns that ignorance into false certainty.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import linalg, stats
from scipy.special import ndtri

from foreshock.analysis.forecast.design import (
    Array,
    Design,
    GrowthData,
    GrowthPrior,
    Hyper,
    TimeAxis,
    build_design,
    growth_data,
)
from foreshock.analysis.forecast.laplace import Mode, find_mode
from foreshock.errors import InputError

_NAMES = tuple(field.name for field in fields(Hyper))
_PRIOR_MEAN = np.log([0.5, 0.8, 5.0, 7.0, 0.25, 0.5, 1.0, 0.4])
_PRIOR_SD = np.array([0.5, 0.6, 0.2, 0.2, 0.3, 0.6, 0.7, 0.6])
"""Prior of the log scales."""
_WARP_SD = 0.7
_UNKNOWN_WARP = (-0.5, 1.2)
"""Probit mean and sd of the warp with fewer than three checkpoints, whose spacing says nothing yet."""
_MOST_WARP = 1.5
_T_DF = 6
_ROUNDS = 5
_MIN_PROPOSAL_ESS = 10.0
_CHUNK = 16
_Student = Any
"""scipy's frozen multivariate t, which it does not export."""


@dataclass(frozen=True, slots=True)
class GrowthPosterior:
    """A mixture of Gaussians over the growth curves of all surfaces.

    weights: [B] of the settings kept; `design`, `mode`: their Laplace approximations; `hyper`: their scales;
    `ess`: effective number of settings among all that were tried.
    """

    data: GrowthData
    axis: TimeAxis
    hyper: Hyper
    design: Design
    mode: Mode
    weights: Array
    ess: float


@dataclass(frozen=True, slots=True)
class HyperPrior:
    """Normal prior of the log scales and, last, of the warp's probit: mean and sd, [H] each."""

    mean: Array
    sd: Array

    def log_density(self, points: Array) -> Array:
        """[B] of points [B, H]."""
        return np.asarray(np.sum(stats.norm.logpdf(points, self.mean, self.sd), axis=-1))


def hyper_prior(data: GrowthData, axis: TimeAxis) -> HyperPrior:
    """The prior for these checkpoints.

    People space checkpoints where they expect change, so time is likely to run as the checkpoints do: evenly spaced
    ones speak for growth in step, ever wider ones for growth in log step.
    """
    longest = data.run_steps[np.argmax([len(np.unique(steps)) for steps in data.run_steps])]
    steps = np.unique(longest)
    warp = _UNKNOWN_WARP
    if len(steps) >= 3:
        tried = np.linspace(0, 1, 21)
        gaps = np.diff(axis.z(steps, tried), axis=-1)
        evenest = float(tried[np.argmin(gaps.std(-1) / gaps.mean(-1))])
        warp = (float(np.clip(ndtri(evenest), -_MOST_WARP, _MOST_WARP)), _WARP_SD)
    return HyperPrior(np.append(_PRIOR_MEAN, warp[0]), np.append(_PRIOR_SD, warp[1]))


def _hyper(points: Array) -> Hyper:
    scales = {name: np.exp(points[:, i]) for i, name in enumerate(_NAMES[:-1])}
    return Hyper(**scales, warp=np.asarray(stats.norm.cdf(points[:, -1])))


def _evidence(data: GrowthData, axis: TimeAxis, prior: GrowthPrior, points: Array) -> Array:
    parts = []
    for start in range(0, len(points), _CHUNK):
        design = build_design(data, _hyper(points[start : start + _CHUNK]), axis, prior)
        parts.append(find_mode(data, design).log_evidence)
    return np.concatenate(parts)


def _normalised(log_weights: Array) -> Array:
    weights = np.exp(log_weights - log_weights.max())
    return np.asarray(weights / weights.sum())


def fit_growth(
    cells: pd.DataFrame,
    horizon: float,
    *,
    prior: GrowthPrior | None = None,
    settings: int = 96,
    keep: int = 24,
    seed: int = 0,
) -> GrowthPosterior:
    """Fit the growth model to a cell table; see `growth_data` for its columns.

    horizon: the step that forecasts reach to. settings: hyperparameter settings tried.
    keep: settings kept for forecasts, drawn by weight.

    Raises:
        InputError: no cell has attempts, or the horizon lies before the last checkpoint.
    """
    if not (cells["n"] > 0).any():
        raise InputError("no cell holds an attempt, so there is nothing to fit; check the run directory's evals/")
    prior = prior or GrowthPrior()
    data = growth_data(cells)
    last, first = float(data.steps.max()), float(data.steps.min())
    if not np.isfinite(horizon) or horizon < last:
        raise InputError(
            f"horizon {horizon:.10g} lies before the last checkpoint {last:.0f}; name a step >= {last:.0f}"
        )
    axis = TimeAxis(first, horizon if horizon > first else first + 1.0)
    rng = np.random.default_rng(seed)
    points, weights = _explore(data, axis, prior, settings, rng)
    chosen, counts = np.unique(_systematic(weights, keep, rng), return_counts=True)
    hyper = _hyper(points[chosen])
    design = build_design(data, hyper, axis, prior)
    mode = find_mode(data, design)
    return GrowthPosterior(data, axis, hyper, design, mode, counts / counts.sum(), float(1 / (weights**2).sum()))


def _explore(
    data: GrowthData, axis: TimeAxis, prior: GrowthPrior, settings: int, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Settings [B, H] and their posterior weights [B], in rounds that each start where the last one pointed."""
    size = max(settings // _ROUNDS, 8)
    before = hyper_prior(data, axis)
    uniform = stats.qmc.Sobol(len(_NAMES), rng=rng).random(int(2 ** np.ceil(np.log2(size))))[:size]
    points = before.mean + before.sd * ndtri(np.clip(uniform, 1e-6, 1 - 1e-6))
    log_evidence = _evidence(data, axis, prior, points)
    proposals: list[_Student] = []
    for _ in range(_ROUNDS - 1):
        target = log_evidence + before.log_density(points)
        log_weights = target - _log_mixture(points, before, proposals)
        # Tempering keeps the next proposal from collapsing onto the few best settings so far.
        proposal = _student(points, _normalised(log_weights * _temperature(log_weights)), before)
        fresh = np.atleast_2d(proposal.rvs(size=size, random_state=rng))
        proposals.append(proposal)
        points = np.concatenate([points, fresh])
        log_evidence = np.concatenate([log_evidence, _evidence(data, axis, prior, fresh)])
    log_weights = log_evidence + before.log_density(points) - _log_mixture(points, before, proposals)
    return points, _normalised(log_weights)


def _log_mixture(points: Array, before: HyperPrior, proposals: list[_Student]) -> Array:
    """Log density of the equal mixture of the prior and all proposals (deterministic mixture weights)."""
    densities = [before.log_density(points), *(proposal.logpdf(points) for proposal in proposals)]
    return np.asarray(np.logaddexp.reduce(np.stack(densities), axis=0) - np.log(len(densities)))


def _temperature(log_weights: Array) -> float:
    """The largest power in (0, 1] at which the weights keep an effective size of a quarter of a round or more."""
    for power in np.linspace(1.0, 0.04, 25):
        weights = _normalised(power * log_weights)
        if 1 / (weights**2).sum() >= _MIN_PROPOSAL_ESS:
            return float(power)
    return 0.04


def _student(points: Array, weights: Array, before: HyperPrior) -> _Student:
    mean = weights @ points
    centred = points - mean
    spread = (centred * weights[:, None]).T @ centred + 0.02 * np.diag(before.sd**2)
    return stats.multivariate_t(mean, spread, df=_T_DF)


def _systematic(weights: Array, count: int, rng: np.random.Generator) -> Array:
    places = (np.arange(count) + rng.random()) / count
    return np.minimum(np.searchsorted(np.cumsum(weights), places), len(weights) - 1)


@dataclass(frozen=True, slots=True)
class CurveDraws:
    """theta at the seen checkpoints [S, J, K]; long-run slope, own and run's extra speed [S, J]; settings drawn [S]."""

    curve: Array
    slope: Array
    speed: Array
    run_speed: Array
    setting: NDArray[np.int64]


def draw_curves(posterior: GrowthPosterior, draws: int, seed: int = 0) -> CurveDraws:
    """About `draws` draws from the mixture, each setting in proportion to its weight."""
    rng = np.random.default_rng(seed)
    counts = np.maximum(1, np.round(posterior.weights * draws)).astype(int)
    curves, slopes, speeds, run_speeds, settings = [], [], [], [], []
    for b, count in enumerate(counts):
        local, shared = _draw_setting(posterior.mode, b, int(count), rng)
        design = posterior.design
        curve = design.curve_offset[b] + np.einsum("jkp,sjp->sjk", design.curve_local[b], local)
        curves.append(curve + np.einsum("jkg,sg->sjk", design.curve_shared[b], shared))
        slope = design.slope_offset[b] + np.einsum("jp,sjp->sj", design.slope_local[b], local)
        slopes.append(slope + np.einsum("jg,sg->sj", design.slope_shared[b], shared))
        speeds.append(np.einsum("jp,sjp->sj", design.speed_local[b], local))
        run_speeds.append(np.einsum("jg,sg->sj", design.speed_shared[b], shared))
        settings.append(np.full(count, b))
    return CurveDraws(*(np.concatenate(part) for part in (curves, slopes, speeds, run_speeds, settings)))


def _draw_setting(mode: Mode, b: int, count: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Exact draws of (u [S, J, P], g [S, G]) from setting b's Gaussian: g first, then each u_j given g."""
    n_surfaces, width = mode.local.shape[1:]
    shared_noise = rng.standard_normal((count, mode.shared.shape[-1]))
    deviation = linalg.solve_triangular(mode.chol_shared[b].T, shared_noise.T, lower=False).T
    local_noise = rng.standard_normal((n_surfaces, width, count))
    own = np.linalg.solve(np.swapaxes(mode.chol_local[b], -1, -2), local_noise)
    local = mode.local[b] + np.moveaxis(own, -1, 0) - np.einsum("jpg,sg->sjp", mode.border[b], deviation)
    return local, mode.shared[b] + deviation
