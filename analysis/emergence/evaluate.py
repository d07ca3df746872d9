"""Every metric, model and cutoff: AUC with its interval, and p-values that know how many cells were tried.

The label of a cutoff is what happens *after* it, from later level-0 counts only, and types that have most likely
emerged by the cutoff are left out. A label that shares counts with the features correlates with them by noise alone,
and a type that has emerged needs no prediction.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from foreshock.analysis.emergence.auc import PairTotals, newcombe_interval
from foreshock.analysis.emergence.models import Model, Samples, model_inputs, score, usable
from foreshock.analysis.emergence.permutation import WithinRunShuffles, grid_p_values
from foreshock.analysis.emergence.rate_models import model_series
from foreshock.analysis.surfaces.cells import SURFACE, run_checkpoints, seen_until, validate_cells
from foreshock.analysis.surfaces.features import Features, make_features
from foreshock.analysis.surfaces.labels import (
    DEFAULT_THRESHOLD,
    exceedance_probability,
    level_zero_series,
    raw_label,
)
from foreshock.analysis.surfaces.metrics import DIRECT_METRICS, MODEL_METRICS, Metric, RateModel, metric_series
from foreshock.analysis.tables.schema import checkpoint_label
from foreshock.errors import InputError

Array = NDArray[np.float64]
EMERGED_PROBABILITY = 0.5
LEADING_COLUMNS = (
    "cutoff_idx",
    "metric",
    "model",
    "auc",
    "auc_lower",
    "auc_upper",
    "auc_within_run",
    "p_value",
    "n",
)


@dataclass(frozen=True, slots=True)
class CutoffSamples:
    """The surfaces at one cutoff. label_probability: P(passes the threshold at a later checkpoint), NaN if unknown.

    at_risk: [n] not yet emerged by the cutoff, and with later counts.
    """

    cutoff_idx: int
    surfaces: pd.MultiIndex
    last_seen: Array
    final: Array
    label_probability: Array
    raw_label: Array
    emerged_probability: Array
    at_risk: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """`results`: one row per cutoff, metric and model. `features`: one per cutoff, metric and surface.

    `grid_p`: p-value of the best cell of the whole grid (None when there is nothing to test).
    """

    results: pd.DataFrame
    features: pd.DataFrame
    grid_p: float | None
    notes: tuple[str, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class _Cell:
    """One cell of the grid, before significance: observed totals, and those of the shuffled labels."""

    row: dict[str, object]
    observed: float
    shuffled: Array


def evaluate_emergence(
    cells: pd.DataFrame,
    *,
    threshold: float = DEFAULT_THRESHOLD,
    rate_models: dict[Metric, RateModel] | None = None,
    permutations: int = 999,
    seed: int = 0,
) -> Evaluation:
    """Run the whole grid on a cell table (see `emergence.cells`).

    rate_models: keyed by `Metric.GP` or `Metric.GROWTH`; each adds that metric and its `_last` variant.

    Raises:
        InputError: the table is not sound, a run has one checkpoint, or there is one exploit type.
    """
    cells = validate_cells(cells)
    check_size(cells)
    surfaces = _surfaces(cells)
    steps = run_checkpoints(cells)
    shuffles = WithinRunShuffles(surfaces.get_level_values("run"), permutations, seed)
    grid: list[_Cell] = []
    tables: list[pd.DataFrame] = []
    for cutoff in range(min(len(s) for s in steps.values()) - 1):
        samples = cutoff_samples(cells, surfaces, cutoff, threshold)
        seen = seen_until(cells, cutoff)
        for metric, series in _all_series(seen, steps, rate_models or {}).items():
            features = make_features(series, surfaces, samples.last_seen, samples.final)
            tables.append(_feature_table(samples, metric, features))
            grid += [_evaluate_cell(samples, metric, model, features, shuffles) for model in Model]
    results, grid_p = _finish(grid)
    return Evaluation(results, pd.concat(tables, ignore_index=True), grid_p, tuple(_notes(cells, results)))


def check_size(cells: pd.DataFrame) -> None:
    """InputError when there is nothing to predict from, or for."""
    types = cells["exploit_type"].nunique()
    if types < 2:
        raise InputError(
            f"only one exploit type ({cells['exploit_type'].iloc[0]}); ranking types needs at least two",
            fix="use the per-problem mode (--per-problem), or add runs with more types",
        )
    for run, steps in run_checkpoints(cells).items():
        if len(steps) < 2:
            raise InputError(
                f"run {run} has one checkpoint ({checkpoint_label(steps[0])}); predicting what comes later needs at "
                "least two",
                fix="add checkpoints to the sweep",
            )
    if not ((cells["prefill_level"] == 0) & (cells["n"] > 0)).any():
        raise InputError("no attempt at prefill level 0, so emergence cannot be judged", fix="sweep level 0 too")


def _surfaces(cells: pd.DataFrame) -> pd.MultiIndex:
    return pd.MultiIndex.from_frame(cells[SURFACE].drop_duplicates().sort_values(SURFACE))


def cutoff_samples(cells: pd.DataFrame, surfaces: pd.MultiIndex, cutoff: int, threshold: float) -> CutoffSamples:
    """Labels and risk set of one cutoff."""
    steps = run_checkpoints(cells)
    runs = surfaces.get_level_values("run")
    last_seen = np.array([steps[run][cutoff] for run in runs])
    final = np.array([steps[run][-1] for run in runs])
    seen = seen_until(cells, cutoff)
    later = cells.drop(index=seen.index)
    emerged = exceedance_probability(level_zero_series(seen, surfaces), threshold)
    label = exceedance_probability(level_zero_series(later, surfaces), threshold)
    # Without level-0 counts so far nothing says that the type has emerged.
    at_risk = ~(np.nan_to_num(emerged, nan=0.0) > EMERGED_PROBABILITY) & np.isfinite(label)
    return CutoffSamples(
        cutoff, surfaces, last_seen, final, label, raw_label(cells, surfaces, threshold), emerged, at_risk
    )


def _all_series(
    seen: pd.DataFrame, steps: dict[str, list[float]], rate_models: dict[Metric, RateModel]
) -> dict[Metric, pd.DataFrame]:
    out = {metric: metric_series(seen, metric) for metric in DIRECT_METRICS}
    out = {metric: series for metric, series in out.items() if series["value"].notna().any() or _censored(series)}
    for metric, model in rate_models.items():
        out[metric], out[MODEL_METRICS[metric]] = model_series(model, seen, steps)
    return out


def _censored(series: pd.DataFrame) -> bool:
    return bool((series["reason"] == "no success at any prefilled level").any())


def _evaluate_cell(
    samples: CutoffSamples, metric: Metric, model: Model, features: Features, shuffles: WithinRunShuffles
) -> _Cell:
    keep = samples.at_risk & usable(model, features)
    row: dict[str, object] = {
        "cutoff_idx": samples.cutoff_idx,
        "cutoff_checkpoint": _steps_text(samples),
        "metric": metric.value,
        "model": model.value,
    }
    probability = samples.label_probability[keep]
    label = (probability > 0.5).astype(float)
    raw = samples.raw_label[keep]
    inputs = Samples(
        model_inputs(model, features, keep) if keep.any() else np.zeros((0, 1)),
        _codes(samples.surfaces.get_level_values("exploit_type")[keep]),
        _codes(samples.surfaces.get_level_values("run")[keep]),
    )
    positives, negatives = float(label.sum()), float((1 - label).sum())
    labellings = [label, np.clip(probability, 0, 1), np.nan_to_num(raw)]
    if positives and negatives:
        # Shuffles together with the labels: a fit's cost hardly depends on how many labellings it is made for.
        labellings += list(shuffles.shuffle(label, keep))
    totals = score(model, inputs, np.vstack(labellings)) if keep.any() else _no_totals(len(labellings))
    auc, soft, by_raw = (float(value) for value in totals.auc[:3])
    interval = newcombe_interval(auc, positives, negatives)
    shuffled = totals.auc[3:] if np.isfinite(auc) else np.full(shuffles.count, np.nan)
    row |= {
        "auc": auc,
        "auc_lower": interval.lower,
        "auc_upper": interval.upper,
        "auc_within_run": float(totals.auc_within[0]),
        "auc_label_probability": soft,
        "auc_raw_label": by_raw,
        "n": int(keep.sum()),
        "n_positive": int(positives),
        "n_negative": int(negatives),
        "n_emerged": int((np.nan_to_num(samples.emerged_probability) > EMERGED_PROBABILITY).sum()),
        "n_unobserved": int((samples.at_risk & ~usable(model, features)).sum()),
        "reason": _why_null(auc, keep, positives, negatives),
    }
    return _Cell(row, auc, shuffled)


def _why_null(auc: float, keep: NDArray[np.bool_], positives: float, negatives: float) -> str | None:
    if np.isfinite(auc):
        return None
    if not keep.any():
        return "no type at risk has this feature"
    if positives == 0:
        return "no type at risk emerges later"
    return "every type at risk emerges later" if negatives == 0 else "no pair of types to compare"


def _no_totals(size: int) -> PairTotals:
    return PairTotals(*(np.zeros(size) for _ in range(4)))


def _codes(names: pd.Index) -> NDArray[np.int64]:
    return np.unique(np.asarray(names, dtype=str), return_inverse=True)[1].astype(np.int64)


def _steps_text(samples: CutoffSamples) -> str:
    pairs = sorted(set(zip(samples.surfaces.get_level_values("run"), samples.last_seen, strict=True)))
    return "; ".join(f"{run}: {checkpoint_label(step)}" for run, step in pairs)


def _feature_table(samples: CutoffSamples, metric: Metric, features: Features) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "cutoff_idx": samples.cutoff_idx,
            "metric": metric.value,
            "run": samples.surfaces.get_level_values("run"),
            "exploit_type": samples.surfaces.get_level_values("exploit_type"),
            "level": features.level,
            "slope": features.slope,
            "projected": features.projected,
            "reason": [None if why is None else why.value for why in features.reasons],
            "label_probability": samples.label_probability,
            "raw_label": samples.raw_label,
            "emerged_probability": samples.emerged_probability,
            "at_risk": samples.at_risk,
        }
    )


def _finish(grid: list[_Cell]) -> tuple[pd.DataFrame, float | None]:
    p_values = grid_p_values(np.array([c.observed for c in grid]), np.stack([c.shuffled for c in grid]))
    rows = [
        cell.row | {"p_value": p_values.single[i], "p_value_grid": p_values.adjusted[i]} for i, cell in enumerate(grid)
    ]
    return in_order(pd.DataFrame(rows)), p_values.overall


def in_order(results: pd.DataFrame) -> pd.DataFrame:
    """The columns that other tools read first, under their documented names and order; then ours."""
    return results[[*LEADING_COLUMNS, *(name for name in results.columns if name not in LEADING_COLUMNS)]]


def _notes(cells: pd.DataFrame, results: pd.DataFrame) -> list[str]:
    notes = []
    if not results["auc"].notna().any():
        zero = cells[cells["prefill_level"] == 0]
        all_or_none = "no exploit" if zero["k"].sum() == 0 else "too few or too many exploits"
        notes.append(f"no cutoff has both emerging and non-emerging types at risk ({all_or_none} at level 0)")
    return notes
