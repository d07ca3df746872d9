"""The learned part of the headline: quantiles of log10(rate) around the smoother's median, and how it was learned.

The file headline/learned.npz is made by `python -m benchmarks.calibration learn`, which states its seed. It holds trees
only, no code. What it was learned from, and what it must not be asked about, is in docs/methods.md.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np

from foreshock.analysis.evidence.evidence import Floats
from foreshock.analysis.headline.trees import Trees

PROBABILITIES = (0.025, 0.05, 0.5, 0.95, 0.975)


@dataclass(frozen=True, slots=True)
class Learned:
    """quantiles: trees of five ensembles, PROBABILITIES; stretch: [5] conformal factor on each quantile's distance from
    the median; low, high: [F] range of every feature in training; names: [F] of the features it was learned with;
    detector: trees whose one ensemble is the logit that a sweep's inputs are corrupted; sign_names: of its inputs;
    alarm: logit above which it is said."""

    quantiles: Trees
    stretch: Floats
    low: Floats
    high: Floats
    names: tuple[str, ...]
    detector: Trees
    sign_names: tuple[str, ...]
    alarm: float

    def residuals(self, features: Floats) -> Floats:
        """Quantiles of log10(rate) minus the smoother's median: [N, 5], ascending."""
        raw = self.quantiles.predict(features)
        middle = raw[:, 2:3]
        return np.sort(middle + (np.sort(raw, 1) - middle) * self.stretch, 1)

    def strangeness(self, features: Floats) -> Floats:
        """Share of a cell's measured features outside the range of all training worlds: [N]."""
        known = np.isfinite(features)
        outside = known & ((features < self.low) | (features > self.high))
        return np.asarray(outside.sum(1) / np.maximum(known.sum(1), 1))


def as_bytes(learned: Learned) -> bytes:
    """The file's content; the same trees give the same bytes."""
    arrays: dict[str, Any] = {}
    for prefix, trees in (("quantiles", learned.quantiles), ("detector", learned.detector)):
        arrays |= {f"{prefix}.{name}": array for name, array in trees.arrays().items()}
    arrays |= {"stretch": learned.stretch, "low": learned.low, "high": learned.high, "alarm": np.array(learned.alarm)}
    arrays |= {"names": np.array(learned.names), "sign_names": np.array(learned.sign_names)}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


@cache
def learned() -> Learned:
    """What ships with the package, read once."""
    with np.load(io.BytesIO(files("foreshock.analysis.headline").joinpath("learned.npz").read_bytes())) as held:

        def trees(prefix: str) -> Trees:
            return Trees(*(held[f"{prefix}.{name}"] for name in Trees.__slots__))

        return Learned(
            trees("quantiles"), held["stretch"], held["low"], held["high"], tuple(held["names"].tolist()),
            trees("detector"), tuple(held["sign_names"].tolist()), float(held["alarm"]),
        )  # fmt: skip
