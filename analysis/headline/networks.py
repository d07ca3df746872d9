"""A few small neural networks read from a plain array file: learned once, averaged, applied with numpy alone.

The file holds each weight in one byte, as a multiple of a 127th of the largest that leads to the same unit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foreshock.analysis.evidence.evidence import Floats

_STEPS = 127


@dataclass(frozen=True, slots=True)
class Scaling:
    """How features become inputs: cut to low..high [F], minus mean, divided by sd [F]; what is missing is 0 there and
    1 in an input of its own for each column of `missing` [I]."""

    low: Floats
    high: Floats
    mean: Floats
    sd: Floats
    missing: NDArray[np.int64]

    @classmethod
    def of(cls, values: Floats) -> Scaling:
        """From the features of all training cells [N, F]. Columns that are missing together share one input."""
        known = np.isfinite(values)
        some = known.any(0)
        filled = np.where(some, values, 0.0)
        low, high = np.nanquantile(filled, (0.0005, 0.9995), axis=0)
        cut = np.clip(filled, low, high)
        mean, sd = np.nanmean(cut, 0), np.nanstd(cut, 0)
        patterns: dict[bytes, int] = {}
        share = 1 - known.mean(0)
        for column in np.flatnonzero(some & (share > 0.002) & (share < 0.998)):
            patterns.setdefault(np.packbits(known[:, column]).tobytes(), int(column))
        return cls(low, high, mean, np.where(sd > 1e-6, sd, 1.0), np.array(sorted(patterns.values()), np.int64))

    def inputs(self, values: Floats) -> NDArray[np.float32]:
        """[N, F + I] from features [N, F]."""
        scaled = (np.clip(values, self.low, self.high) - self.mean) / self.sd
        gone = np.isnan(scaled)
        return np.concatenate([np.where(gone, 0.0, scaled), gone[:, self.missing]], 1).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Networks:
    """Networks of one shape. weights: of each layer [networks, inputs, outputs]; biases: [networks, outputs]; SiLU
    between layers. The last layer's five outputs are the median and, through softplus, distances outwards from it."""

    scaling: Scaling
    weights: tuple[NDArray[Any], ...]
    biases: tuple[NDArray[Any], ...]

    def predict(self, values: Floats) -> Floats:
        """Five ascending quantiles [N, 5] from features [N, F]: the mean over networks."""
        first = self.scaling.inputs(values)
        total = np.zeros((len(first), 5))
        for member in range(len(self.biases[0])):
            x = first
            for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
                x = x @ weight[member] + bias[member]
                if layer < len(self.weights) - 1:
                    x = x / (1 + np.exp(-np.clip(x, -60, 60)))
            total += ascending(x.astype(np.float64))
        return total / len(self.biases[0])

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Arrays by name, for a file."""
        found: dict[str, NDArray[Any]] = {name: getattr(self.scaling, name) for name in Scaling.__slots__}
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            unit = (np.abs(weight.astype(np.float64)).max(1, keepdims=True) / _STEPS).astype(np.float32)
            steps = np.round(weight / np.where(unit > 0, unit, 1)).astype(np.int8)
            found |= {f"weight{layer}": steps, f"unit{layer}": unit, f"bias{layer}": bias}
        return found

    @classmethod
    def of_arrays(cls, held: Mapping[str, Any]) -> Networks:
        """The reverse of `arrays`, but for the rounding."""
        layers = sum(name.startswith("weight") for name in held)
        return cls(
            Scaling(*(held[name] for name in Scaling.__slots__)),
            tuple(held[f"weight{i}"] * held[f"unit{i}"] for i in range(layers)),
            tuple(held[f"bias{i}"] for i in range(layers)),
        )


def ascending(raw: Floats) -> Floats:
    """Quantiles [N, 5] of a network's last outputs [N, 5]."""
    away = np.logaddexp(0.0, raw)
    middle = raw[:, 2]
    low, high = middle - away[:, 1], middle + away[:, 3]
    return np.stack([low - away[:, 0], low, middle, high, high + away[:, 4]], 1)
