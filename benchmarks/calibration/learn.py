"""Learn the headline's quantiles and its detector of wrong inputs on random worlds, and write the file that ships.

Worlds are split by world: most fit the trees, the rest set the conformal factors and the alarm. A factor is chosen so
that the *mean over worlds* of the covered share reaches the goal: cells of a world share their traces and are no
independent sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from benchmarks.calibration.gather import Sample
from benchmarks.calibration.worlds.sweep import Array
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from foreshock.analysis.headline.learned import PROBABILITIES, Learned
from foreshock.analysis.headline.trees import Trees

GOALS = (0.982, 0.96, 0.5, 0.96, 0.982)
"""Share of cells that each quantile should leave on its outer side's inside, a little beyond the nominal one: worlds
that nobody drew are stranger than those that somebody did."""
FALSE_ALARMS = 0.03


def export(models: Sequence[Any]) -> Trees:
    """scikit-learn's fitted ensembles as plain arrays (their `_predictors`, which predict() reads too)."""
    feature: list[int] = []
    threshold: list[float] = []
    left: list[int] = []
    missing: list[bool] = []
    root: list[int] = []
    ensemble: list[int] = []
    base: list[float] = []
    for e, model in enumerate(models):
        base.append(float(np.asarray(model._baseline_prediction).ravel()[0]))
        for (predictor,) in model._predictors:
            nodes = predictor.nodes
            root.append(len(feature))
            ensemble.append(e)
            order = [0]
            for at in order:  # grows while it is read: breadth first, the right child just after the left
                node = nodes[at]
                if node["is_leaf"]:
                    feature.append(-1)
                    threshold.append(float(node["value"]))
                    left.append(0)
                    missing.append(False)
                    continue
                feature.append(int(node["feature_idx"]))
                threshold.append(float(node["num_threshold"]))
                left.append(len(order))
                missing.append(bool(node["missing_go_to_left"]))
                order += [int(node["left"]), int(node["right"])]
    return Trees(
        np.array(feature, np.int16), np.array(threshold, np.float32), np.array(left, np.int16), np.array(missing),
        np.array(root, np.int32), np.array(ensemble, np.int16), np.array(base),
    )  # fmt: skip


def world_weights(world: NDArray[Any]) -> Array:
    """Weight of each row such that every world counts the same: [N], mean 1."""
    _, index, count = np.unique(world, return_inverse=True, return_counts=True)
    weight = 1.0 / count[index]
    return np.asarray(weight / weight.mean())


def fit_quantiles(sample: Sample, rows: NDArray[np.bool_], seed: int, trees: int = 150, leaves: int = 12) -> Trees:
    """Five ensembles of the residual log10(rate) - smoother's median."""
    target = np.clip(sample.truth - sample.median, -6, 6)[rows]
    weight = world_weights(sample.world[rows])
    models = []
    for q in PROBABILITIES:
        model = HistGradientBoostingRegressor(
            loss="quantile", quantile=q, max_iter=trees, max_leaf_nodes=leaves, learning_rate=0.08,
            min_samples_leaf=80, l2_regularization=1.0, max_bins=128, max_features=0.4, early_stopping=False,
            random_state=seed,
        )  # fmt: skip
        models.append(model.fit(sample.x[rows], target, sample_weight=weight))
    return export(models)


def conformal(residual: Array, raw: Array, world: NDArray[Any], zero: NDArray[np.bool_]) -> Array:
    """Factor [5] on each quantile's distance from the median so that the mean over worlds reaches GOALS."""
    raw = np.sort(raw, 1)
    middle = raw[:, 2]
    weight = world_weights(world) * np.where(zero, 1.0, 1.0)
    stretch = np.ones(5)
    for i, goal in enumerate(GOALS):
        if i == 2:
            continue
        reach = np.abs(raw[:, i] - middle) + 1e-9
        needed = (residual - middle) / reach * (-1 if i < 2 else 1)
        order = np.argsort(needed)
        share = np.cumsum(weight[order]) / weight.sum()
        stretch[i] = max(float(needed[order][np.searchsorted(share, goal)]), 0.3)
    return stretch


def fit_detector(sample: Sample, rows: NDArray[np.bool_], seed: int) -> Trees:
    """One ensemble: the logit that a sweep is corrupted."""
    model = HistGradientBoostingClassifier(
        max_iter=120, max_leaf_nodes=8, learning_rate=0.08, min_samples_leaf=15, l2_regularization=1.0,
        max_features=0.4, early_stopping=False, random_state=seed,
    )  # fmt: skip
    model.fit(sample.signs[rows].astype(np.float32), sample.fault[rows] >= 0)
    return export([model])


def learn(sample: Sample, seed: int, trees: int = 150, leaves: int = 12) -> Learned:
    """Fit on four worlds in five, calibrate on the fifth."""
    held = sample.world % 5 == 4
    quantiles = fit_quantiles(sample, ~held, seed, trees, leaves)
    residual = (sample.truth - sample.median)[held]
    raw = quantiles.predict(sample.x[held])
    stretch = conformal(residual, raw, sample.world[held], sample.k[held] == 0)
    away = sample.signs_world % 5 == 4
    detector = fit_detector(sample, ~away, seed)
    sound = away & (sample.fault < 0)
    alarm = float(np.quantile(detector.predict(sample.signs[sound])[:, 0], 1 - FALSE_ALARMS))
    with np.errstate(all="ignore"):
        low, high = np.nanquantile(sample.x, (0.0005, 0.9995), axis=0)
    low, high = np.where(np.isnan(low), -np.inf, low), np.where(np.isnan(high), np.inf, high)
    return Learned(quantiles, stretch, low, high, sample.names, detector, sample.sign_names, alarm)
