"""The five models that turn features into a ranking, scored by pairs for many labellings at once.

threshold_level, threshold_slope, threshold_projected rank by one feature. tuned_projection ranks by
level + a * slope with a in 0..10 tuned on other types; logistic_level_slope fits an L2 logistic regression on
other types.

A fitted model judges a pair (positive, negative) only when neither of the pair's two *types* was used to fit it, and
both samples of the pair are scored by that same fit. Scores of different fits are never compared: leaving a positive
out lowers the intercept for that very sample, which is why leave-one-out AUC is .36 on noise.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from foreshock.analysis.emergence.auc import PairTotals, pair_totals, same_run, win_matrix
from foreshock.analysis.emergence.logistic import fit_logistic, predict
from foreshock.analysis.surfaces.features import Features

Array = NDArray[np.float64]
A_GRID = np.linspace(0.0, 10.0, 101)


class Model(StrEnum):
    """Names as in the tables."""

    LEVEL = "threshold_level"
    SLOPE = "threshold_slope"
    PROJECTED = "threshold_projected"
    TUNED = "tuned_projection"
    LOGISTIC = "logistic_level_slope"


@dataclass(frozen=True, slots=True)
class Samples:
    """What a model needs of n samples: inputs [n, p], the codes of their types (or blocks) and runs [n].

    `usable`: [n] which of the samples the model can rank at all.
    """

    inputs: Array
    blocks: NDArray[np.int64]
    runs: NDArray[np.int64]

    @property
    def size(self) -> int:
        """Number of samples."""
        return len(self.runs)


def usable(model: Model, features: Features) -> NDArray[np.bool_]:
    """Which samples the model can rank: the level must be known, or known to lie below every observed one."""
    ranked = np.isfinite(features.level) | features.bottom
    if model is Model.SLOPE:
        return np.asarray(np.isfinite(features.slope))
    return np.asarray(ranked)


def model_inputs(model: Model, features: Features, keep: NDArray[np.bool_]) -> Array:
    """Columns of the model for the kept samples; `bottom` levels sort below all others and tie with each other.

    Logistic columns are standardised over the kept samples (labels play no part) and gain an indicator of `bottom`.
    """
    level, slope, bottom = features.level[keep], features.slope[keep], features.bottom[keep]
    if model is Model.SLOPE:
        return np.asarray(slope[:, None])
    if model is Model.LEVEL:
        return np.asarray(np.where(bottom, -np.inf, level)[:, None])
    if model is Model.PROJECTED:
        return np.asarray(np.where(bottom, -np.inf, features.projected[keep])[:, None])
    flat = np.where(np.isfinite(slope), slope, 0.0)
    if model is Model.TUNED:
        return np.column_stack([np.where(bottom, -np.inf, level), flat])
    lowest = np.min(level[~bottom], initial=0.0) if bottom.all() else np.min(level[~bottom])
    columns = np.column_stack([np.where(bottom, lowest, level), flat, bottom.astype(float)])
    spread = columns.std(0)
    spread[spread <= 1e-12 * np.maximum(1.0, np.abs(columns).max(0, initial=0.0))] = np.inf
    return np.asarray((columns - columns.mean(0)) / spread)


def score(model: Model, samples: Samples, labels: Array) -> PairTotals:
    """Pair totals of the model for labels [B, n] in [0, 1]."""
    if model is Model.TUNED:
        return _tuned(samples, labels)
    if model is Model.LOGISTIC:
        return _cross_fitted_logistic(samples, labels)
    return pair_totals(win_matrix(samples.inputs[:, 0]), labels, samples.runs)


@dataclass(frozen=True, slots=True)
class _Fold:
    """Pairs between two blocks (or within one), and the samples that a fit for them may use."""

    train: NDArray[np.int64]
    first: NDArray[np.int64]
    second: NDArray[np.int64]
    within_block: bool


def _folds(blocks: NDArray[np.int64]) -> Iterator[_Fold]:
    members = [np.flatnonzero(blocks == b) for b in np.unique(blocks)]
    everyone = np.arange(len(blocks))
    for i, first in enumerate(members):
        if len(first) > 1:
            yield _Fold(np.setdiff1d(everyone, first), first, first, True)
        for second in members[i + 1 :]:
            held_out = np.concatenate([first, second])
            yield _Fold(np.setdiff1d(everyone, held_out), first, second, False)


@dataclass(slots=True)
class _Sums:
    wins: Array
    pairs: Array
    wins_within: Array
    pairs_within: Array

    @staticmethod
    def zeros(size: int) -> _Sums:
        return _Sums(*(np.zeros(size) for _ in range(4)))

    def add(self, wins: Array, pairs: Array, near: Array) -> None:
        """wins, pairs: [B, m1, m2] weights of ordered pairs; near: [m1, m2] same-run indicator."""
        self.wins += wins.sum((-1, -2))
        self.pairs += pairs.sum((-1, -2))
        self.wins_within += (wins * near).sum((-1, -2))
        self.pairs_within += (pairs * near).sum((-1, -2))

    def totals(self) -> PairTotals:
        return PairTotals(self.wins, self.pairs, self.wins_within, self.pairs_within)


def _cross_fitted_logistic(samples: Samples, labels: Array) -> PairTotals:
    sums = _Sums.zeros(len(labels))
    near = same_run(samples.runs)
    for fold in _folds(samples.blocks):
        beta = fit_logistic(samples.inputs[fold.train], labels[:, fold.train])
        first = np.round(predict(beta, samples.inputs[fold.first]), 9)
        second = np.round(predict(beta, samples.inputs[fold.second]), 9)
        higher = (first[:, :, None] > second[:, None, :]) + 0.5 * (first[:, :, None] == second[:, None, :])
        y1, y2 = labels[:, fold.first], labels[:, fold.second]
        up = y1[:, :, None] * (1 - y2[:, None, :])
        down = (1 - y1[:, :, None]) * y2[:, None, :]
        block_near = near[np.ix_(fold.first, fold.second)]
        if fold.within_block:
            # Ordered pairs of one block already hold both directions; a sample is no pair with itself.
            up = up * (1 - np.eye(len(fold.first)))
            sums.add(up * higher, up, block_near)
        else:
            sums.add(up * higher + down * (1 - higher), up + down, block_near)
    return sums.totals()


def _tuned(samples: Samples, labels: Array) -> PairTotals:
    """Level + a * slope, a chosen per fold by the training pairs' AUC; the smallest a wins ties."""
    level, slope = samples.inputs[:, 0], samples.inputs[:, 1]
    orderings: list[Array] = []
    seen: set[bytes] = set()
    for a in A_GRID:
        wins = win_matrix(level + a * slope)
        if wins.tobytes() not in seen:
            seen.add(wins.tobytes())
            orderings.append(wins)
    block_ids = np.unique(samples.blocks)
    member = np.asarray(samples.blocks[:, None] == block_ids[None, :], dtype=float)
    near = same_run(samples.runs)
    won = np.stack([_block_sums(wins, labels, member) for wins in orderings])
    won_near = np.stack([_block_sums(wins * near, labels, member) for wins in orderings])
    apart = 1 - np.eye(samples.size)
    pairs, pairs_near = _block_sums(apart, labels, member), _block_sums(apart * near, labels, member)
    total = won.sum((-1, -2))
    by_block = won.sum(-1) + won.sum(-2)
    sums = _Sums.zeros(len(labels))
    rows = np.arange(len(labels))
    for t in range(len(block_ids)):
        for u in range(t, len(block_ids)):
            both = won[:, :, t, u] + won[:, :, u, t] if t != u else won[:, :, t, t]
            # Training wins: all pairs that touch neither block (pairs inside and between them are in both sums).
            own = won[:, :, t, t] + won[:, :, u, u] + both if t != u else both
            touching = by_block[:, :, t] + by_block[:, :, u] - own if t != u else by_block[:, :, t] - own
            best = np.argmax(np.round(total - touching, 9), axis=0)
            near_both = won_near[:, :, t, u] + won_near[:, :, u, t] if t != u else won_near[:, :, t, t]
            cells = [(t, u), (u, t)] if t != u else [(t, t)]
            sums.wins += both[best, rows]
            sums.wins_within += near_both[best, rows]
            sums.pairs += np.sum([pairs[:, i, j] for i, j in cells], axis=0)
            sums.pairs_within += np.sum([pairs_near[:, i, j] for i, j in cells], axis=0)
    return sums.totals()


def _block_sums(wins: Array, labels: Array, member: Array) -> Array:
    """[B, T, T]: weighted wins of positives of block t over negatives of block u."""
    out = np.empty((len(labels), member.shape[1], member.shape[1]))
    for start in range(0, len(labels), 64):
        part = labels[start : start + 64]
        weighted = part[:, :, None] * wins[None] * (1 - part)[:, None, :]
        out[start : start + 64] = np.matmul(np.matmul(member.T[None], weighted), member[None])
    return out
