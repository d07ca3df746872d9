"""Figures of the emergence analysis: AUC against what has been seen, and how far features separate the types."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure as MplFigure
from matplotlib.ticker import MaxNLocator

from foreshock.analysis.emergence.models import Model
from foreshock.analysis.figures import SavedFigure, house_style, new_figure, save_figure
from foreshock.analysis.figures.palette import OTHER, RunLooks
from foreshock.analysis.figures.style import INK, RULE, SOFT_INK
from foreshock.analysis.figures.values import mark_point, rows_of, samples_of

TYPES_TABLE = "emergence-types"
"""Anchor of the report's table of the types that every AUC ranks."""
_LABELS = {
    Model.LEVEL: "level",
    Model.SLOPE: "slope",
    Model.PROJECTED: "projected",
    Model.TUNED: "level + a·slope",
    Model.LOGISTIC: "logistic",
}
_COLUMNS = 3


def auc_figure(results: pd.DataFrame, directory: Path) -> SavedFigure:
    """AUC against the number of checkpoints seen: one panel a metric, one line a model, 95% intervals as thin bars."""
    metrics = list(dict.fromkeys(results["metric"]))
    rows = -(-len(metrics) // _COLUMNS)
    data = results.assign(checkpoints_seen=results["cutoff_idx"] + 1)
    with house_style():
        figure, axes, key = _panels(9.0, 2.7 * rows + 0.6, rows, min(_COLUMNS, max(len(metrics), 1)))
        for axis, metric in zip(axes.flat, metrics, strict=False):
            axis.axhline(0.5, color=RULE, lw=1.0, zorder=0)
            for offset, (model, colour) in enumerate(zip(Model, OTHER, strict=True)):
                part = data[(data["metric"] == metric) & (data["model"] == model.value)].dropna(subset=["auc"])
                if part.empty:
                    continue
                x = part["checkpoints_seen"] + 0.09 * (offset - 2)
                axis.vlines(x, part["auc_lower"], part["auc_upper"], color=colour, lw=0.8, alpha=0.4)
                axis.plot(x, part["auc"], color=colour, marker="o", markersize=3.5, lw=1.3, label=_LABELS[model])
                for place, row in zip(x, rows_of(part), strict=True):
                    told = f"{metric}, {_LABELS[model]}, {row.checkpoints_seen} checkpoints seen: AUC {row.auc:.2f}"
                    mark_point(axis, place, row.auc, f"{told} ({row.n} types)", table=TYPES_TABLE)
            axis.set_title(metric)
            axis.set_ylim(-0.03, 1.03)
            axis.set_xlim(0.5, data["checkpoints_seen"].max() + 0.5)
        for axis in axes.flat[len(metrics) :]:
            axis.set_axis_off()
        for axis in axes[:, 0]:
            axis.set_ylabel("AUC")
        for axis in axes[:, 1:].flat:
            axis.tick_params(labelleft=False)
        for axis in axes.flat:
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
            axis.set_xlabel("checkpoints seen")
        _fill_key(key, axes)
        return save_figure(
            figure,
            data,
            directory,
            "auc_vs_cutoff",
            "How early can emergence be told?",
            "AUC of ranking exploit types by whether they will pass the threshold later, against the number of "
            "checkpoints seen. 0.5 is guessing. Bars are Newcombe's 95% intervals; types that had already emerged "
            "are left out, so the last cutoffs have fewer types.",
        )


def separation_figure(
    features: pd.DataFrame, directory: Path, metric: str, looks: RunLooks, cutoffs: int = 4
) -> SavedFigure:
    """Level and slope of one metric for every type, emerging ones set apart, at up to `cutoffs` cutoffs."""
    data = features[features["metric"] == metric]
    available = sorted(data["cutoff_idx"].unique())
    shown = [available[i] for i in np.unique(np.linspace(0, len(available) - 1, cutoffs).astype(int))]
    with house_style():
        figure, axes, key = _panels(2.5 * len(shown) + 0.6, 3.4, 1, len(shown))
        known = data["level"].dropna()
        pad = 0.06 * (float(np.ptp(known)) or 1.0) if len(known) else 1.0
        for axis, cutoff in zip(axes[0], shown, strict=True):
            _separation_panel(axis, data[data["cutoff_idx"] == cutoff], looks)
            axis.set_title(f"{cutoff + 1} checkpoint{'s' if cutoff else ''} seen")
            if len(known):
                axis.set_ylim(float(known.min()) - pad, float(known.max()) + pad)
        axes[0, 0].set_ylabel(metric)
        for axis in axes[0, 1:]:
            axis.tick_params(labelleft=False)
        _fill_key(key, axes)
        return save_figure(
            figure,
            data,
            directory,
            "feature_separation",
            f"Do emerging types stand out early? ({metric})",
            "Each point is an exploit type of a run at the last checkpoint seen. Filled: more likely than not to pass "
            "the threshold at a later checkpoint; open: not; crosses: emerged already. Types without a value are "
            "not drawn; the table names the reason.",
        )


def _panels(width: float, height: float, rows: int, columns: int) -> tuple[MplFigure, Any, Any]:
    """A figure, its panels [rows, columns], and a flat axis below them that will hold the legend."""
    ratios = [*[1.0] * rows, 0.1]
    figure, axes = new_figure(width, height, rows + 1, columns, squeeze=False, height_ratios=ratios)
    grid = axes[0, 0].get_gridspec()
    for axis in axes[-1]:
        axis.remove()
    key = figure.add_subplot(grid[-1, :])
    key.set_axis_off()
    return figure, axes[:-1], key


def _fill_key(key: Any, axes: Any) -> None:
    handles: dict[str, Any] = {}
    for axis in axes.flat:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    if handles:
        key.legend(list(handles.values()), list(handles), loc="center", ncols=len(handles), borderaxespad=0.0)


def _separation_panel(axis: Any, part: pd.DataFrame, looks: RunLooks) -> None:
    positive = part["label_probability"].fillna(0.0).to_numpy(float) > 0.5 if "label_probability" in part else (
        part["raw_label"].to_numpy(float) > 0.5
    )  # fmt: skip
    emerged = ~part["at_risk"].to_numpy(bool) if "at_risk" in part else np.zeros(len(part), dtype=bool)
    jitter = np.random.default_rng(0).uniform(-0.16, 0.16, len(part))
    for run in looks.ordered(part["run"]):
        colour = looks.colour(run)
        mine = (part["run"] == run).to_numpy()
        groups = (
            (mine & positive & ~emerged, 1, {"marker": looks.marker(run), "color": colour}),
            (mine & ~positive & ~emerged, 0, {"marker": looks.marker(run), "facecolors": "none", "edgecolors": colour}),
            (mine & emerged, 2, {"marker": "x", "color": SOFT_INK, "lw": 1.0}),
        )
        for chosen, place, style in groups:
            label = looks.legend(run) if place == 1 else None
            level = part["level"].to_numpy(float)[chosen]
            axis.scatter(place + jitter[chosen], level, s=26, label=label, **style)
            for at, height, row in zip(place + jitter[chosen], level, rows_of(part[chosen]), strict=True):
                if np.isfinite(height):
                    told = f"{looks.label(run)}, {row.exploit_type}: {height:.3g}"
                    mark_point(axis, at, height, told, samples_of(run, kind=str(row.exploit_type)))
    axis.set_xticks([0, 1, 2], ["stays", "emerges", "emerged"], color=INK)
    axis.set_xlim(-0.5, 2.5)
