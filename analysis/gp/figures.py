"""Two pictures of a fitted model: the rate surface of one exploit type, and the unprompted rate over training.

Intervals are drawn on the log scale of the rate and cut at 1e-7, below which no sweep of this size says anything.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib.colors import LogNorm

from foreshock.analysis.figures.palette import RUNS
from foreshock.analysis.figures.save import SavedFigure, save_figure
from foreshock.analysis.figures.style import INK, SEQUENTIAL, checkpoint_axis, house_style, new_figure
from foreshock.analysis.gp.fit import GPFit
from foreshock.analysis.gp.predict import Z90, Z95, predict

_FLOOR = 1e-7


def surface_figure(fit: GPFit, surface: int, directory: Path, name: str) -> SavedFigure:
    """Median rate over log step and level as filled contours, observed rates as dots."""
    counts = fit.model.counts
    steps = np.geomspace(max(counts.steps.min(), 0.5), max(counts.steps.max(), 0.6), 60)
    levels = np.unique(np.linspace(0, counts.levels.max(), 50).round().astype(np.int64))
    grid = predict(fit, steps, levels)
    median = np.maximum(grid.median[surface], _FLOOR)
    label = counts.surfaces[surface]
    n, k = (t[surface].reshape(counts.shape).numpy() for t in (counts.n, counts.k))
    with house_style():
        figure, axis = new_figure(6.2, 3.9)
        norm = LogNorm(1e-5, 1.0)
        drawn = axis.pcolormesh(steps, levels, median.T, cmap=SEQUENTIAL, norm=norm, shading="nearest", rasterized=True)
        c, level = np.nonzero(n > 0)
        seen = np.maximum(k[c, level] / n[c, level], 1e-5)
        axis.scatter(
            counts.steps[c],
            counts.levels[level],
            c=seen,
            cmap=SEQUENTIAL,
            norm=norm,
            s=22,
            edgecolors=INK,
            linewidths=0.5,
        )
        axis.set_xscale("log")
        checkpoint_axis(axis, [float(s) for s in counts.steps])
        axis.set_ylabel("prefilled words")
        axis.grid(visible=False)
        figure.colorbar(drawn, ax=axis, label="exploit rate")
        table = pd.DataFrame(
            {
                "step": np.repeat(steps, len(levels)),
                "words": np.tile(levels, len(steps)),
                "median_rate": grid.median[surface].ravel(),
            }
        )
        return save_figure(
            figure,
            table,
            directory,
            name,
            f"Exploit rate over training and prefill: {label.exploit_type.replace('_', ' ')}, {label.run}",
            "Colour: median rate of the Gaussian-process model. Dots: observed rates in the same colours (no exploit "
            "seen: palest).",
        )


def trajectory_figure(fit: GPFit, surface: int, directory: Path, name: str) -> SavedFigure:
    """Unprompted rate over training with 90% and 95% bands, and observed level-0 rates."""
    counts = fit.model.counts
    steps = np.geomspace(max(counts.steps.min(), 0.5), max(counts.steps.max(), 0.6), 80)
    grid = predict(fit, steps, np.array([0]))
    median = np.maximum(grid.median[surface, :, 0], _FLOOR)
    (low90, high90), (low95, high95) = (grid.interval(z) for z in (Z90, Z95))
    bands = {"90": (low90, high90), "95": (low95, high95)}
    label = counts.surfaces[surface]
    zero = slice(counts.level0, None, len(counts.levels))
    n, k = counts.n[surface, zero], counts.k[surface, zero]
    with house_style():
        figure, axis = new_figure(6.2, 3.5)
        table = {"step": steps, "median_rate": grid.median[surface, :, 0], "mean_rate": grid.mean[surface, :, 0]}
        for share, alpha in (("95", 0.14), ("90", 0.18)):
            low, high = (np.maximum(side[surface, :, 0], _FLOOR) for side in bands[share])
            axis.fill_between(steps, low, high, color=RUNS[0], alpha=alpha, linewidth=0, label=f"{share}% interval")
            table |= {f"lower{share}": low, f"upper{share}": high}
        axis.plot(steps, median, color=RUNS[0], label="median")
        seen = torch.nonzero(k > 0).flatten().numpy()
        axis.plot(
            counts.steps[seen], (k / n.clamp(min=1))[seen].numpy(), "o", color=INK, markersize=4, label="observed"
        )
        axis.set_yscale("log")
        axis.set_ylim(_FLOOR, 1.2)
        checkpoint_axis(axis, [float(s) for s in counts.steps])
        axis.set_ylabel("unprompted exploit rate")
        axis.legend(loc="upper left")
        return save_figure(
            figure,
            pd.DataFrame(table),
            directory,
            name,
            f"Unprompted exploit rate: {label.exploit_type.replace('_', ' ')}, {label.run}",
            "Gaussian-process model fitted to all prefill levels; dots are observed without prefill. The bands are the "
            "model's own and are not calibrated; the headline estimate's are.",
        )
