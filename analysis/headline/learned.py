"""The learned part of the headline: quantiles of log10(rate) around the smoother's median, and how it was learned.

The file headline/learned.npz is made by `python -m benchmarks.calibration learn`, which states its seed. It holds
numbers only, no code. What it was learned from, and what it must not be asked about, is in docs/methods.md.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np

from foreshock.analysis.evidence.evidence import Floats
from foreshock.analysis.headline.networks import Networks
from foreshock.analysis.headline.trees import Trees

PROBABILITIES = (0.025, 0.05, 0.5, 0.95, 0.975)


@dataclass(frozen=True, slots=True)
class Learned:
    """quantiles: networks of PROBABILITIES; stretch: [5] conformal factor on each quantile's distance from the median;
    names: [F] of the features it was learned with;
    detector: trees whose one ensemble is the logit that a sweep's inputs are corrupted; sign_names: of its inputs;
    doubt, alarm: logits above which it is said, and above which nothing is an estimate."""

    quantiles: Networks
    stretch: Floats
    names: tuple[str, ...]
    detector: Trees
    sign_names: tuple[str, ...]
    doubt: float
    alarm: float

    def residuals(self, features: Floats) -> Floats:
        """Quantiles of log10(rate) minus the smoother's median: [N, 5], ascending."""
        raw = self.quantiles.predict(features)
        middle = raw[:, 2:3]
        return np.sort(middle + (raw - middle) * self.stretch, 1)

    def strangeness(self, features: Floats) -> Floats:
        """Share of a cell's measured features outside the range of all training worlds: [N]."""
        known = np.isfinite(features)
        outside = known & ((features < self.quantiles.scaling.low) | (features > self.quantiles.scaling.high))
        return np.asarray(outside.sum(1) / np.maximum(known.sum(1), 1))


def as_bytes(learned: Learned) -> bytes:
    """The file's content; the same networks and trees give the same bytes."""
    arrays: dict[str, Any] = {"stretch": learned.stretch}
    for prefix, part in (("quantiles", learned.quantiles), ("detector", learned.detector)):
        arrays |= {f"{prefix}.{name}": array for name, array in part.arrays().items()}
    arrays |= {"doubt": np.array(learned.doubt), "alarm": np.array(learned.alarm)}
    arrays |= {"names": np.array(learned.names), "sign_names": np.array(learned.sign_names)}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


@cache
def learned() -> Learned:
    """What ships with the package, read once."""
    content = files("foreshock.analysis.headline").joinpath("learned.npz").read_bytes()
    with np.load(io.BytesIO(content)) as file:
        held = {name: file[name] for name in file.files}
    quantiles, detector = (
        {name.removeprefix(f"{part}."): array for name, array in held.items() if name.startswith(f"{part}.")}
        for part in ("quantiles", "detector")
    )
    return Learned(
        Networks.of_arrays(quantiles), held["stretch"], tuple(held["names"].tolist()), Trees(**detector),
        tuple(held["sign_names"].tolist()), float(held["doubt"]), float(held["alarm"]),
    )  # fmt: skip
