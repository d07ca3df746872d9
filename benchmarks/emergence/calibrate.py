"""Constants of the forecast's correction, fitted on random worlds (`random_worlds`) and written with their origin.

A penalised logistic regression of "passes 10% by that step" on the terms of `forecast.recalibrate`, the penalty centred
on "leave the model's own probability as it is". Every world counts the same. Worlds are held out whole for the
cross-validated scores, since series of one world share their fate.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
from benchmarks.emergence.random_worlds import random_sweep
from benchmarks.emergence.worlds import Sweep
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from foreshock.analysis.forecast.backtest import ForecastSettings, fit_and_draw
from foreshock.analysis.forecast.exceedance import model_passage
from foreshock.analysis.forecast.recalibrate import TERMS, term_values
from foreshock.analysis.surfaces.cells import seen_until

Array = NDArray[np.float64]
THRESHOLD = 0.10
SETTINGS = ForecastSettings(settings=80, draws=1500)
PENALTY = 10.0
TRAINING_SEEDS = "100000:100101"
"""First and end (left out) of the worlds that the shipped constants were fitted on."""
_FOLDS = 4
_WORLD_WEIGHT = 8.0
"""A fit at one cutoff of one world counts as this many independent rows, however many series it has."""
_CUTOFFS = 4


def some_cutoffs(sweep: Sweep, seed: int) -> list[int]:
    """Cutoffs of a world to learn from: all of few; else two checkpoints, and four at random, early ones rather."""
    every = list(range(len(sweep.steps) - 1))
    if len(every) <= _CUTOFFS:
        return every
    weight = 1 / np.sqrt(np.arange(2, len(sweep.steps) + 1.0))
    chosen = np.random.default_rng(seed).choice(every, _CUTOFFS, replace=False, p=weight / weight.sum())
    return sorted({1, *(int(cutoff) for cutoff in chosen)})


def training_rows(seeds: range) -> pd.DataFrame:
    """One row per world, cutoff, surface and future step: the terms, the model's probabilities and the outcome."""
    parts = []
    for seed in seeds:
        sweep = random_sweep(seed)
        rates = sweep.truth.pivot(index=["run", "exploit_type"], columns="checkpoint", values="rate")
        for cutoff in some_cutoffs(sweep, seed):
            future = [float(step) for step in sweep.steps[cutoff + 1 :]]
            _, paths = fit_and_draw(seen_until(sweep.cells, cutoff), float(sweep.steps[-1]), future, SETTINGS)
            passed, seen = model_passage(paths, THRESHOLD)
            later = np.clip((passed - seen[:, None]) / np.maximum(1 - seen[:, None], 1e-9), 0.0, 1.0)
            ever = np.maximum.accumulate(rates.loc[list(paths.surfaces)].to_numpy() > THRESHOLD, axis=1)
            assert paths.rise is not None
            terms = term_values(later, paths.rise).reshape(-1, len(TERMS))
            frame = pd.DataFrame(terms, columns=list(TERMS))
            size = passed.shape[1]
            parts.append(
                frame.assign(
                    seed=seed,
                    cutoff_idx=cutoff,
                    seen=np.repeat(seen, size),
                    passed=passed.ravel(),
                    outcome=ever[:, cutoff + 1 :].ravel().astype(float),
                )
            )
    rows = pd.concat(parts, ignore_index=True)
    return rows.assign(weight=_WORLD_WEIGHT / rows.groupby(["seed", "cutoff_idx"])["seen"].transform("size"))


def fit_constants(rows: pd.DataFrame) -> Array:
    """Constants in the order of `TERMS`."""
    x, outcome = rows[list(TERMS)].to_numpy(float), rows["outcome"].to_numpy(float)
    seen, weight = np.clip(rows["seen"].to_numpy(float), 0, 1 - 1e-6), rows["weight"].to_numpy(float)
    scale = np.sqrt((x**2).mean(axis=0)) + 1e-9
    centre = np.where(np.array(TERMS) == "model", 1.0, 0.0) * scale
    z = x / scale

    def loss(b: Array) -> tuple[float, Array]:
        g = expit(z @ b)
        p = np.clip(seen + (1 - seen) * g, 1e-6, 1 - 1e-6)
        value = -(weight * (outcome * np.log(p) + (1 - outcome) * np.log(1 - p))).sum()
        slope = -(weight * (outcome - p) / (p * (1 - p)) * (1 - seen) * g * (1 - g)) @ z
        return float(value + 0.5 * PENALTY * ((b - centre) ** 2).sum()), slope + PENALTY * (b - centre)

    found = minimize(loss, centre.copy(), jac=True, method="L-BFGS-B")
    return np.asarray(found.x / scale)


def apply_constants(rows: pd.DataFrame, constants: Array) -> Array:
    """The corrected probability of every row."""
    seen = rows["seen"].to_numpy(float)
    return np.asarray(seen + (1 - seen) * expit(rows[list(TERMS)].to_numpy(float) @ constants))


def cross_validated(rows: pd.DataFrame) -> Array:
    """Corrected probabilities, those of each world by constants that were fitted without it."""
    fold = rows["seed"].to_numpy() % _FOLDS
    out = np.empty(len(rows))
    for k in range(_FOLDS):
        out[fold == k] = apply_constants(rows[fold == k], fit_constants(rows[fold != k]))
    return out


def weighted_log_score(probability: Array, rows: pd.DataFrame) -> float:
    """Mean negative log-likelihood in nats, every world and cutoff alike."""
    p, outcome, weight = np.clip(probability, 1e-3, 1 - 1e-3), rows["outcome"].to_numpy(float), rows["weight"]
    return float(np.average(-(outcome * np.log(p) + (1 - outcome) * np.log(1 - p)), weights=weight))


def write_constants(rows: pd.DataFrame, seeds: range, path: Path) -> dict[str, object]:
    """Fit, and write the constants with the command that made them and their cross-validated scores."""
    constants = fit_constants(rows)
    document: dict[str, object] = {
        "made_by": f"python -m benchmarks.emergence calibrate --seeds {seeds.start}:{seeds.stop}",
        "worlds": len(seeds),
        "threshold": THRESHOLD,
        "penalty": PENALTY,
        "log_score_model": weighted_log_score(rows["passed"].to_numpy(float), rows),
        "log_score_cross_validated": weighted_log_score(cross_validated(rows), rows),
        "terms": {name: round(float(value), 4) for name, value in zip(TERMS, constants, strict=True)},
    }
    path.write_text(json.dumps(document, indent=2) + "\n")
    return document
