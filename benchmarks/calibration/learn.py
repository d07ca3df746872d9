"""Learn the headline's quantiles and its detector of wrong inputs on random worlds, and write the file that ships.

Factors and the alarm are set on families of worlds that were left out, each by what the others taught: worlds
that nobody drew differ from those that somebody did as families differ from each other. A factor is chosen so that the
*mean over worlds* of the covered share reaches the goal: cells of a world share their traces and are no independent
sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from benchmarks.calibration.gather import Sample
from benchmarks.calibration.nets import fit_networks
from benchmarks.calibration.worlds.sweep import Array
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier

from foreshock.analysis.headline.learned import PROBABILITIES, Learned
from foreshock.analysis.headline.networks import Networks
from foreshock.analysis.headline.trees import Trees

GOALS = (0.9625, 0.935, 0.5, 0.935, 0.9625)
"""Share of cells that each quantile should leave on its outer side's inside, in families left out: less than nominal,
since there one network answers that saw fewer families, and what ships is the mean of three that saw all. Chosen on
development draws of `paths`, from which nothing is learned."""
FALSE_ALARMS, FALSE_DOUBTS = 0.04, 0.14
MEMBERS = 3


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


def fit_quantiles(sample: Sample, rows: NDArray[np.bool_], seed: int, members: int = MEMBERS) -> Networks:
    """Networks of the residual log10(rate) - smoother's median. Cells with exploits of their own count half: the
    others are what the headline is for."""
    target = np.clip(sample.truth - sample.median, -6, 6)[rows]
    weight = world_weights(sample.world[rows]) * np.where(sample.k[rows] == 0, 1.0, 0.5)
    return fit_networks(sample.x[rows].astype(np.float64), target, weight, seed, members)


def left_out(sample: Sample, group: NDArray[Any], seed: int) -> Array:
    """Raw quantiles [N, 5] of every cell by networks that saw none of its group."""
    raw = np.full((len(sample.k), len(PROBABILITIES)), np.nan)
    for one in np.unique(group):
        mine = group == one
        raw[mine] = fit_quantiles(sample, ~mine, seed, 1).predict(sample.x[mine].astype(np.float64))
    return raw


def conformal(residual: Array, raw: Array, world: NDArray[Any]) -> Array:
    """Factor [5] on each quantile's distance from the median so that the mean over worlds reaches GOALS."""
    raw = np.sort(raw, 1)
    middle = raw[:, 2]
    weight = world_weights(world)
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
        max_iter=200, max_leaf_nodes=8, learning_rate=0.06, min_samples_leaf=20, l2_regularization=1.0,
        max_features=0.3, early_stopping=False, random_state=seed,
    )  # fmt: skip
    values = sample.signs[rows].astype(np.float32)
    values[:, ~np.isfinite(values).any(0)] = 0.0  # a sign that no sweep has; scikit-learn cannot bin it
    model.fit(values, sample.fault[rows] >= 0)
    return export([model])


def alarm_levels(sample: Sample, group: NDArray[Any], seed: int) -> tuple[float, float]:
    """Logits that FALSE_DOUBTS and FALSE_ALARMS of sound sweeps pass, judged by detectors that saw none of theirs."""
    scores = np.full(len(sample.fault), np.nan)
    for one in np.unique(group):
        mine = group == one
        scores[mine] = fit_detector(sample, ~mine, seed).predict(sample.signs[mine].astype(np.float32))[:, 0]
    sound = scores[sample.fault < 0]
    return float(np.quantile(sound, 1 - FALSE_DOUBTS)), float(np.quantile(sound, 1 - FALSE_ALARMS))


def learn(sample: Sample, taught: Sample, signs_group: NDArray[Any], raw: Array, seed: int) -> Learned:
    """Factors and the alarm are from families left out of `sample`, the networks from all of `taught`, which holds
    more. signs_group: of each row of signs; raw: of `left_out`."""
    quantiles = fit_quantiles(taught, np.ones(len(taught.k), bool), seed)
    stretch = conformal(sample.truth - sample.median, raw, sample.world)
    detector = fit_detector(sample, np.ones(len(sample.fault), bool), seed)
    levels = alarm_levels(sample, signs_group, seed)
    return Learned(quantiles, stretch, sample.names, detector, sample.sign_names, *levels)
