"""A structural estimate of every cell: levels joined, their mismatch penalised, then smoothed over training and types.

No level is gated by its mean weight. Where all weights average to less than one the donor's prefixes miss a share of
what the target writes: a level's estimate is raised by a part of that share and widened by its size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.special import expit

from foreshock.analysis.evidence.evidence import DonorKind, Evidence, Floats, type_index
from foreshock.analysis.headline.missing import nan_is_missing
from foreshock.analysis.headline.prefixes import LevelTable


@dataclass(frozen=True, slots=True)
class Settings:
    """The smoother's numbers, nats unless said otherwise; found by random search on random worlds."""

    shift: float = 0.25
    widen: float = 0.14
    log_normal_share: float = 1.8
    disagreement: float = 0.8
    luck: float = 0.55
    floor_sd: float = 0.05
    none_shift: float = 5.4
    none_sd: float = 4.2
    level_agreement: float = 0.84
    type_bias: float = 1.5
    surface_bias: float = 0.4
    drift_bias: float = 0.27
    level_sd: float = 2.7
    type_sd: float = 0.3
    surface_sd: float = 0.7
    slope_sd: float = 0.55
    bend_sd: float = 2.7
    bend_length: float = 0.22


@dataclass(frozen=True, slots=True)
class Smoothed:
    """Natural-log quantities, each [J, C].

    own, own_sd: levels of the cell joined (NaN where none); given, given_sd: smoothed without direct counts; mean, sd:
    with them; level_y, level_sd: [J, C, L] of each level.
    """

    own: Floats
    own_sd: Floats
    given: Floats
    given_sd: Floats
    mean: Floats
    sd: Floats
    level_y: Floats
    level_sd: Floats


def progress(steps: Floats) -> Floats:
    """Log step mapped to [0, 1]; all zero for a single checkpoint. Step 0 counts as half the first positive step."""
    positive = steps[steps > 0]
    x = np.log(np.maximum(steps, float(positive.min()) / 2 if len(positive) else 1.0))
    width = float(np.ptp(x))
    return np.asarray((x - x.min()) / width if width > 0 else np.zeros_like(x))


def level_measurements(table: LevelTable, h: Settings) -> tuple[Floats, Floats]:
    """Each level's estimate of the log rate and its standard deviation: two [J, C, L], NaN where there is none."""
    with nan_is_missing():
        gap = table.log_normal - table.truncated
        value = table.truncated + h.log_normal_share * np.clip(gap, -2.0, 2.0)
        short = np.clip(table.log_mean_weight, -8.0, 1.5)
        value = value - h.shift * short
        var = 1 / (table.s + 0.5) + h.luck / np.maximum(table.ess, 1.0) + (h.widen * short) ** 2
        var = var + (h.disagreement * np.clip(np.abs(gap), 0, 4)) ** 2 + h.floor_sd**2
        # Without an exploit the modelled rate is what shrinkage makes of 0 of n: too high, by an unknown factor.
        none = table.s < 0.5
        value = value - np.where(none, h.none_shift, 0.0)
        var = var + np.where(none, h.none_sd**2, 0.0)
    return value, np.sqrt(var)


def joined(y: Floats, sd: Floats, h: Settings) -> tuple[Floats, Floats]:
    """The levels of each cell joined: mean and sd [J, C], NaN where no level says anything."""
    known = np.isfinite(y)
    precision = np.where(known, 1 / np.where(known, sd, 1.0) ** 2, 0.0)
    total = precision.sum(-1)
    some = total > 0
    mean = (precision * np.where(known, y, 0.0)).sum(-1) / np.maximum(total, 1e-12)
    spread = (precision * np.where(known, y - mean[..., None], 0.0) ** 2).sum(-1) / np.maximum(total, 1e-12)
    levels = total**2 / np.maximum((precision**2).sum(-1), 1e-12)
    # Levels share their traces: they count as one at agreement 1, as themselves at 0.
    var = levels / np.maximum(total, 1e-12) * (h.level_agreement + (1 - h.level_agreement) / np.maximum(levels, 1.0))
    var = var + spread / np.maximum(levels, 1.0)
    return np.where(some, mean, np.nan), np.where(some, np.sqrt(var), np.nan)


def smooth(evidence: Evidence, table: LevelTable, n: Floats, k: Floats, h: Settings) -> Smoothed:
    """Join, smooth, and take in the direct counts. n, k: [J, C] effective counts (effective_counts)."""
    level_y, level_sd = level_measurements(table, h)
    own, own_sd = joined(level_y, level_sd, h)
    if evidence.donor is DonorKind.CONDITIONED_UNCORRECTED:
        own, own_sd = own - 0.9, np.sqrt(own_sd**2 + 0.8**2)
    shape = n.shape
    x = np.tile(progress(evidence.steps), shape[0])
    kind = np.repeat(type_index(evidence), shape[1])
    runs = sorted({s.run for s in evidence.surfaces})
    run = np.repeat([runs.index(s.run) for s in evidence.surfaces], shape[1])
    same_type, same_run = kind[:, None] == kind, run[:, None] == run
    same = same_type & same_run
    distance = np.abs(x[:, None] - x)
    scaled = 5**0.5 * distance / h.bend_length
    bend = (1 + scaled + scaled**2 / 3) * np.exp(-scaled)
    centred = (x - 0.5)[:, None] * (x - 0.5)
    cov = h.level_sd**2 + 2.0**2 * centred + 0.5**2 * same_run * bend
    cov = cov + same_type * (h.type_sd**2 + 0.5 * h.slope_sd**2 * centred)
    cov = cov + same * (h.surface_sd**2 + h.slope_sd**2 * centred + h.bend_sd**2 * bend)
    cov[np.diag_indices_from(cov)] += 1e-4
    mean = np.full(len(x), -7.0) + 2.0 * (x - 0.5)
    y = own.ravel()
    seen = np.flatnonzero(np.isfinite(y))
    if len(seen):
        noise = same_type * h.type_bias**2 + same * (h.surface_bias**2 + h.drift_bias**2 * np.exp(-distance / 0.4))
        noise = noise[np.ix_(seen, seen)] + np.diag(own_sd.ravel()[seen] ** 2)
        factor = cho_factor(cov[np.ix_(seen, seen)] + noise, lower=True)
        gain = cov[:, seen]
        mean = mean + gain @ cho_solve(factor, y[seen] - mean[seen])
        cov = cov - gain @ cho_solve(factor, gain.T)
    given, given_sd = mean.copy(), np.sqrt(np.maximum(np.diag(cov), 1e-6))
    at, sd = _with_counts(mean, cov, n.ravel(), k.ravel())
    smoothed = [part.reshape(shape) for part in (given, given_sd, at, sd)]
    return Smoothed(own, own_sd, smoothed[0], smoothed[1], smoothed[2], smoothed[3], level_y, level_sd)


def _with_counts(mean: Floats, cov: Floats, n: Floats, k: Floats) -> tuple[Floats, Floats]:
    """Laplace approximation with Binomial(k | n, sigmoid(f)): mode and marginal sd, damped Newton (GPML 3.1)."""
    f = mean.copy()
    dual = np.zeros_like(mean)

    def objective(f: Floats, dual: Floats) -> float:
        return float((k * f - n * np.logaddexp(0, f)).sum() - 0.5 * dual @ (f - mean))

    best = objective(f, dual)
    eye = np.eye(len(f))
    for _ in range(25):
        p = expit(f)
        w = np.maximum(n * p * (1 - p), 1e-12)
        root = np.sqrt(w)
        factor = cho_factor(eye + root[:, None] * cov * root, lower=True)
        b = w * (f - mean) + k - n * p
        wanted = b - root * cho_solve(factor, root * (cov @ b))
        step = wanted - dual
        moved = cov @ step
        scale, found = 1.0, False
        for _ in range(12):
            new = objective(f + scale * moved, dual + scale * step)
            if new >= best:
                found = True
                break
            scale /= 2
        if not found:
            break
        f, dual = f + scale * moved, dual + scale * step
        if new - best < 1e-6:
            break
        best = new
    p = expit(f)
    root = np.sqrt(np.maximum(n * p * (1 - p), 1e-12))
    factor = cho_factor(eye + root[:, None] * cov * root, lower=True)
    half = root[:, None] * cov
    var = np.diag(cov) - (half * cho_solve(factor, half)).sum(0)
    return f, np.sqrt(np.maximum(var, 1e-6))
