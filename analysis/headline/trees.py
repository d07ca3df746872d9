"""Boosted regression trees read from a plain array file: learned once, applied with numpy alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foreshock.analysis.evidence.evidence import Floats

_LEAF = -1


@dataclass(frozen=True, slots=True)
class Trees:
    """Several ensembles in one set of node arrays, each [nodes].

    feature: column, -1 at a leaf; threshold: go left where value <= it (at a leaf: the leaf's value); left: index of
    the left child within the tree, the right one follows it; missing_left: where NaN goes; root: [trees] first node of
    each tree; ensemble: [trees] which ensemble a tree adds to; base: [ensembles].
    """

    feature: NDArray[np.int16]
    threshold: NDArray[np.float32]
    left: NDArray[np.int16]
    missing_left: NDArray[np.bool_]
    root: NDArray[np.int32]
    ensemble: NDArray[np.int16]
    base: NDArray[np.float64]

    def predict(self, values: Floats) -> Floats:
        """[N, ensembles] from features [N, F]."""
        x = values.astype(np.float32)
        rows = np.arange(len(x))[:, None]
        first = self.root.astype(np.int64)[None, :]
        node = np.broadcast_to(first, (len(x), len(self.root))).copy()
        while True:
            feature = self.feature[node]
            inner = feature != _LEAF
            if not inner.any():
                break
            value = x[rows, np.maximum(feature, 0)]
            goes_left = np.where(np.isnan(value), self.missing_left[node], value <= self.threshold[node])
            child = first + self.left[node] + ~goes_left
            node = np.where(inner, child, node)
        leaf = self.threshold[node].astype(np.float64)
        out = np.tile(self.base, (len(x), 1))
        for e in range(len(self.base)):
            out[:, e] += leaf[:, self.ensemble == e].sum(1)
        return out

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Arrays by name, for a file."""
        return {name: getattr(self, name) for name in Trees.__slots__}
