"""What the width limit buys: how many zero cells of families left out are estimates, and how good these are."""

from __future__ import annotations

from typing import Any

import numpy as np
from benchmarks.calibration.gather import Sample
from benchmarks.calibration.worlds.sweep import Array
from numpy.typing import NDArray

from foreshock.analysis.headline.verdict import Limits

WIDTHS = (2.0, 2.2, 2.4, 2.6, 2.8, 3.0, 3.2)


def _passes(sample: Sample, group: NDArray[Any], limits: Limits) -> NDArray[np.bool_]:
    """Cells [N] that no check but the width's refuses; as training is what other groups span. Checks that need a whole
    sweep are left out: they refuse few."""
    column = {name: sample.x[:, i] for i, name in enumerate(sample.names)}
    odd = np.zeros(len(sample.k))
    for one in np.unique(group):
        mine = group == one
        with np.errstate(all="ignore"):
            low, high = np.nanquantile(sample.x[~mine], (0.0005, 0.9995), axis=0)
        values = sample.x[mine]
        known = np.isfinite(values)
        odd[mine] = (known & ((values < low) | (values > high))).sum(1) / np.maximum(known.sum(1), 1)
    refused = (odd > limits.strangeness) | (-column["weight_by_hits"] > limits.mean_weight)
    refused |= (column["levels_spread"] > limits.spread) | (column["tasks_dispersion"] > limits.tasks)
    return np.asarray(~refused)


def frontier(sample: Sample, family: NDArray[Any], group: NDArray[Any], raw: Array, stretch: Array) -> str:
    """A table: means over families, and the worst of them. family, group: of each cell; raw: quantiles [N, 5] by
    networks that saw none of its group; stretch: [5]."""
    residual = sample.truth - sample.median
    quantiles = raw[:, 2:3] + (raw - raw[:, 2:3]) * stretch
    top = np.minimum(quantiles[:, 4], -sample.median)
    error = np.minimum(quantiles[:, 2], -sample.median) - residual
    inside = (quantiles[:, 0] <= residual) & (residual <= quantiles[:, 4])
    width = top - quantiles[:, 0]
    passes, zero = _passes(sample, group, Limits()), sample.k == 0
    lines = ["width limit  estimates   bias  worst   RMSE  worst  cov95  worst  width"]
    for limit in WIDTHS:
        rows = []
        for name in np.unique(family):
            mine = zero & (family == name)
            kept = mine & passes & (width <= limit)
            rms = float(np.sqrt(np.mean(error[kept] ** 2)))
            rows.append((kept.sum() / mine.sum(), error[kept].mean(), rms, inside[kept].mean(), width[kept].mean()))
        share, bias, rmse, cover, wide = np.array(rows).T
        lines.append(
            f"{limit:11.1f} {share.mean():10.2f} {bias.mean():+6.2f} {bias[np.abs(bias).argmax()]:+6.2f} "
            f"{rmse.mean():6.2f} {rmse.max():6.2f} {cover.mean():6.3f} {cover.min():6.3f} {wide.mean():6.2f}"
        )
    return "\n".join(lines)
