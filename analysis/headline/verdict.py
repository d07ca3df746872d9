"""Whether a cell's headline interval may be quoted as an estimate, and if not, why.

The interval was learned from worlds where the inputs were sound. What can be asked of the data at hand is asked here:
do the weights average to about one, do a cell's levels agree with each other and with each left out, do tasks agree,
was anything like this seen in training, and could weights and outcomes be of different prefixes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from foreshock.analysis.evidence.evidence import Bools, Evidence, Floats
from foreshock.analysis.headline.features import Features
from foreshock.analysis.headline.missing import nan_is_missing
from foreshock.analysis.headline.prefixes import LevelTable
from foreshock.analysis.headline.smoother import Settings, Smoothed, joined

_DECADE = float(np.log(10.0))


@dataclass(frozen=True, slots=True)
class Limits:
    """What a cell may show and still be an estimate; set on development worlds (docs/methods.md).

    width: decades of the 95% interval; strangeness: share of features outside training's range; mean_weight: decades
    below 1 of the weights that carry the estimate; left_out: how far one level left out may move the levels' joint
    value, in half widths; spread: decades by which levels may differ; tasks: decades of overdispersion over tasks.
    """

    width: float = 2.6
    strangeness: float = 0.04
    mean_weight: float = 6.0
    left_out: float = 2.0
    spread: float = 1.6
    tasks: float = 2.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """estimate: [J, C]; reason: why not, by cell, empty where it is."""

    estimate: Bools
    reason: tuple[tuple[str, ...], ...]


def leave_one_out(smoothed: Smoothed, settings: Settings) -> Floats:
    """Largest change, in decades, of a cell's joint value when one level is left out: [J, C], NaN with one level."""
    changes = []
    for level in range(smoothed.level_y.shape[-1]):
        y = smoothed.level_y.copy()
        gone = np.isfinite(y[..., level])
        y[..., level] = np.nan
        without, _ = joined(y, smoothed.level_sd, settings)
        changes.append(np.where(gone, np.abs(without - smoothed.own), np.nan))
    stacked = np.stack(changes)
    with nan_is_missing():
        return np.asarray(np.nanmax(np.where(np.isfinite(stacked), stacked, -np.inf), 0)) / _DECADE


def judge(
    evidence: Evidence,
    table: LevelTable,
    smoothed: Smoothed,
    features: Features,
    quantiles: Floats,
    strangeness: Floats,
    inputs: list[str],
    settings: Settings,
    limits: Limits,
) -> Verdict:
    """The verdict on every cell. quantiles: [5, J, C] of log10(rate)."""
    shape = smoothed.mean.shape
    column = {name: features.values[:, i].reshape(shape) for i, name in enumerate(features.names)}
    width = quantiles[4] - quantiles[0]
    moved = leave_one_out(smoothed, settings) / np.maximum(width / 2, 1e-9)
    some = (evidence.k.sum(-1) > 0) | (np.nan_to_num(table.s).sum(-1) > 0)
    surface_some = some.any(1, keepdims=True) & np.ones(shape, dtype=bool)
    tests: list[tuple[Bools, str, Floats]] = [
        (np.full(shape, bool(inputs)), "inputs: " + (inputs[0] if inputs else ""), np.zeros(shape)),
        (~surface_some, "no exploit at any level of this type in this run", np.zeros(shape)),
        (width > limits.width, "the 95% interval spans {:.1f} decades", width),
        (strangeness > limits.strangeness, "{:.0%} of what was measured lies outside all training worlds", strangeness),
        (
            -column["weight_by_hits"] > limits.mean_weight,
            "the weights average to 10^-{:.1f} instead of 1: the donor misses most of what this checkpoint writes",
            -column["weight_by_hits"],
        ),
        (column["levels_spread"] > limits.spread, "prefill levels differ by {:.1f} decades", column["levels_spread"]),
        (moved > limits.left_out, "leaving out one level moves the estimate by {:.1f} half widths", moved),
        (
            column["tasks_dispersion"] > limits.tasks,
            "a few tasks carry the exploits (10^{:.1f} times the spread of equal tasks)",
            column["tasks_dispersion"],
        ),
    ]
    reasons = np.full(shape, "", dtype=object)
    for failed, text, value in tests:
        for j, c in np.argwhere(np.nan_to_num(failed).astype(bool) & (reasons == "")):
            reasons[j, c] = text.format(value[j, c])
    return Verdict(reasons == "", tuple(tuple(row) for row in reasons.tolist()))
