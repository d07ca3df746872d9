"""Forecast probabilities corrected by what random worlds showed.

The growth model takes prefilled rates as evidence of where the unprompted rate is. In worlds drawn at random they also
say where it is going: where a run's prefilled attempts exploit more and more, unprompted ones follow. A logistic map
adds that sign to the model's own probability and draws the latter towards one half as far as it proved too sure. Its
constants are `growth_constants.json`, made by `python -m benchmarks.emergence calibrate`.
"""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files

import numpy as np
import pandas as pd
from scipy.special import expit, logit

from foreshock.analysis.forecast.design import Array
from foreshock.analysis.surfaces.cells import SURFACE

TERMS = ("constant", "model", "run's rise")
"""What the logit of a forecast is a sum of. `model`: the growth model's own logit; `run's rise`: see `run_rise`."""
_MOST_LOGITS = 6.0
_MOST_RISE = 4.0


def run_rise(cells: pd.DataFrame, surfaces: tuple[tuple[str, str], ...]) -> Array:
    """Per surface [J] the mean over its run's surfaces of how the logit of the prefilled rate changed, from the first
    to the last checkpoint seen, pooled over the levels above 0 that both have. 0 where nothing can be compared.

    cells: a cell table that holds nothing later than the cutoff.
    """
    prefilled = cells[(cells["prefill_level"] > 0) & (cells["n"] > 0)]
    groups = dict(list(prefilled.groupby(SURFACE)))
    own = np.array([_rise(groups.get(key)) for key in surfaces])
    runs = np.array([run for run, _ in surfaces])
    return np.array([own[runs == run].mean() for run in runs])


def _rise(part: pd.DataFrame | None) -> float:
    if part is None:
        return 0.0
    first, last = (part[part["checkpoint"] == step] for step in (part["checkpoint"].min(), part["checkpoint"].max()))
    both = first.merge(last, on="prefill_level", suffixes=("", "_last"))
    if both.empty:
        return 0.0
    change = _logit(both["k_last"].sum(), both["n_last"].sum()) - _logit(both["k"].sum(), both["n"].sum())
    return float(np.clip(change, -_MOST_RISE, _MOST_RISE))


def _logit(k: float, n: float) -> float:
    return float(np.log(k + 0.5) - np.log(n - k + 0.5))


def term_values(probability: Array, rise: Array) -> Array:
    """The terms of `TERMS` for the model's probabilities [J, F] of passing later and `run_rise` [J]: [J, F, terms]."""
    model = np.clip(logit(np.clip(probability, 1e-9, 1 - 1e-9)), -_MOST_LOGITS, _MOST_LOGITS)
    return np.stack([np.ones_like(model), model, np.broadcast_to(rise[:, None], model.shape)], axis=-1)


def recalibrated(passed: Array, seen: Array, rise: Array, constants: Array | None = None) -> Array:
    """P(passed the threshold by step) [J, F], from the model's own `passed` [J, F] (not falling along F).

    seen: [J] the model's P(passed at a checkpoint seen already), which is left as it is: the map acts on the rest.
    """
    weights = shipped_constants() if constants is None else constants
    later = np.clip((passed - seen[:, None]) / np.maximum(1 - seen[:, None], 1e-9), 0.0, 1.0)
    mapped = expit(term_values(later, rise) @ weights)
    return np.asarray(seen[:, None] + (1 - seen[:, None]) * np.maximum.accumulate(mapped, axis=1))


@cache
def shipped_constants() -> Array:
    """The constants of `growth_constants.json`, in the order of `TERMS`."""
    text = (files("foreshock.analysis.forecast") / "growth_constants.json").read_text()
    terms = json.loads(text)["terms"]
    return np.array([float(terms[name]) for name in TERMS])
