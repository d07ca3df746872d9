"""A GP fit's unprompted rates as estimates, for gp_rates.csv and for features."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np

from foreshock.analysis.gp.fit import GPFit
from foreshock.analysis.gp.predict import Z90, Z95, predict
from foreshock.durable import atomic_write_bytes

COLUMNS = (
    "run",
    "exploit_type",
    "checkpoint",
    "model",
    "mean",
    "n",
    "successes",
    "log10_rate",
    "log10_mean_rate",
    "lower90",
    "upper90",
    "lower95",
    "upper95",
    "log_evidence",
)


def write_gp_rates(fit: GPFit, path: Path) -> int:
    """Write one row per surface and checkpoint, level 0, log10 units; returns the number of rows."""
    counts = fit.model.counts
    settings = fit.model.settings
    grid = predict(fit, levels=np.array([0]))
    sides = [side for z in (Z90, Z95) for side in grid.interval(z)]
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    rows = 0
    for j, surface in enumerate(counts.surfaces):
        for c, step in enumerate(counts.steps):
            cell = c * len(counts.levels) + counts.level0
            values = [grid.median[j, c, 0], grid.mean[j, c, 0], *(side[j, c, 0] for side in sides)]
            logs = [f"{np.log10(max(float(v), 1e-300)):.6g}" for v in values]
            head = [surface.run, surface.exploit_type, int(step), settings.model.value, settings.mean.value]
            seen = [int(counts.n[j, cell]), int(counts.k[j, cell])]
            writer.writerow([*head, *seen, *logs, f"{float(fit.evidence[j]):.6g}"])
            rows += 1
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_bytes(path, buffer.getvalue().encode())
    return rows
