"""The definitions of the original study, by name, so that its tables can be compared with ours.

`--definitions original` averages over prefill levels, `original-max` takes the best level. Both keep what made the
old numbers what they were: k/n > threshold at any checkpoint as the label, smoothed rates with accumulated sample
sizes, a slope of 0 where there is one checkpoint, the last value where the newest checkpoint has none, leave-one-out
fits without a penalty.

Nothing here is repaired. Smoothing ranks types by sample size where no exploit was seen and leave-one-out scores
noise below one half; the default definitions exist because of that. Differences that remain: cells are counted from
the evals (the original counted the KL rows), and intervals and permutation p-values are added.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from foreshock.analysis.emergence.auc import ROUNDING, newcombe_interval, pair_totals, win_matrix
from foreshock.analysis.emergence.models import A_GRID, Model
from foreshock.analysis.emergence.permutation import WithinRunShuffles, mid_p
from foreshock.analysis.emergence.rate_models import model_series
from foreshock.analysis.surfaces.cells import SURFACE, run_checkpoints, seen_until
from foreshock.analysis.surfaces.features import Features, make_features
from foreshock.analysis.surfaces.labels import raw_label
from foreshock.analysis.surfaces.metrics import Metric, RateModel

Array = NDArray[np.float64]
_POINT = [*SURFACE, "checkpoint"]
_EPS = 0.5


class Definitions(StrEnum):
    """Which set of definitions an evaluation follows."""

    CURRENT = "current"
    ORIGINAL = "original"
    ORIGINAL_MAX = "original-max"


def original_metrics(cells: pd.DataFrame, definitions: Definitions) -> pd.DataFrame:
    """run, exploit_type, checkpoint and one column per metric, as the original computed them from all cells.

    It stops where a run has no KL rows. Here what needs them is NaN where no prefilled level has any: level 0 alone,
    whose KL is 0, would pass for the most natural prefills of all.
    """
    rows = [(*key, *_point(part, definitions)) for key, part in cells[cells["n"] > 0].groupby(_POINT)]
    names = [Metric.NEG_KL.value, Metric.RATE.value, Metric.LOWER_BOUND.value]
    table = pd.DataFrame(rows, columns=[*_POINT, *names])
    for metric, column in ((Metric.LOGPROB, "logprob_mean"), (Metric.CODE, "code_logprob")):
        score = cells.dropna(subset=[column]).groupby(_POINT)[column].mean() if column in cells else ()
        if isinstance(score, pd.Series) and len(score):
            table = table.merge(score.rename(metric.value).reset_index(), on=_POINT, how="left")
    return table


def _point(part: pd.DataFrame, definitions: Definitions) -> tuple[float, float, float]:
    """-KL, exploit rate and lower bound of one type at one checkpoint."""
    unprompted = part["prefill_level"] == 0
    scored = ~unprompted & np.isfinite(part["kl_mean"])
    if scored.any():
        used = part[unprompted | scored].assign(kl=part["kl_mean"].where(~unprompted, 0.0))
        return _pooled(used) if definitions is Definitions.ORIGINAL else _best_level(used)
    rate = float(part["k"].sum() / part["n"].sum()) if definitions is Definitions.ORIGINAL else np.nan
    return np.nan, rate, np.nan


def _pooled(part: pd.DataFrame) -> tuple[float, float, float]:
    """Means over levels; a zero cell borrows the n of all zero cells at its own and higher levels."""
    part = part.sort_values("prefill_level")
    n, k = part["n"].to_numpy(float), part["k"].to_numpy(float)
    zero_n = np.where(k == 0, n, 0.0)
    accumulated = np.cumsum(zero_n[::-1])[::-1]
    smooth_n = np.where(k == 0, accumulated, n)
    log_rate = np.log((k + _EPS) / (smooth_n + 2 * _EPS))
    neg_kl = -part["kl"].to_numpy(float)
    return float(neg_kl.mean()), float(k.sum() / n.sum()), float(neg_kl.mean() + log_rate.mean())


def _best_level(part: pd.DataFrame) -> tuple[float, float, float]:
    """The level with the highest -KL + log(k/n); NaN when no level has a success."""
    part = part[part["k"] > 0]
    if part.empty:
        return np.nan, np.nan, np.nan
    rate = (part["k"] / part["n"]).to_numpy(float)
    bound = -part["kl"].to_numpy(float) + np.log(rate)
    best = int(np.argmax(bound))
    return -float(part["kl"].iloc[best]), float(rate[best]), float(bound[best])


def gp_metric(metric: Metric, mean: str) -> str:
    """How a metric of one of several Gaussian processes is called: `gp_log_rate_p0[linear]`."""
    return f"{metric.value}[{mean}]"


def gp_table(results: pd.DataFrame, means: Sequence[str]) -> pd.DataFrame:
    """AUC of each mean's level by number of checkpoints seen: mean, metric, then one column a number."""
    rows = []
    for mean in means:
        for metric in (Metric.GP, Metric.GP_LAST):
            chosen = results[
                (results["metric"] == gp_metric(metric, mean)) & (results["model"] == Model.LEVEL.value)
            ].sort_values("cutoff_idx")
            auc = dict(zip((chosen["cutoff_idx"] + 1).astype(str), chosen["auc"], strict=True))
            rows.append({"mean": mean, "metric": metric.value} | auc)
    return pd.DataFrame(rows)


def evaluate_original(
    cells: pd.DataFrame,
    definitions: Definitions,
    *,
    threshold: float,
    permutations: int,
    seed: int,
    rate_models: Mapping[str, RateModel] | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(results, features) with the columns of the default evaluation, for the original definitions.

    `rate_models`: Gaussian processes by the name of their mean, fitted anew at every cutoff to what was seen then.
    """
    surfaces = pd.MultiIndex.from_frame(cells[SURFACE].drop_duplicates().sort_values(SURFACE))
    label = raw_label(cells, surfaces, threshold)
    steps = run_checkpoints(cells)
    runs = surfaces.get_level_values("run")
    shuffles = WithinRunShuffles(runs, permutations, seed)
    rows, tables = [], []
    for cutoff in range(min(len(s) for s in steps.values())):
        last_seen = np.array([steps[run][cutoff] for run in runs])
        final = np.array([steps[run][-1] for run in runs])
        seen = seen_until(cells, cutoff)
        for name, series in _all_series(seen, steps, definitions, rate_models or {}):
            features = make_features(series, surfaces, last_seen, final, single_slope=0.0, carried=True)
            keep = np.isfinite(features.level) & np.isfinite(label)
            tables.append(_feature_rows(cutoff, name, surfaces, features, label))
            for model in Model:
                rows.append({"cutoff_idx": cutoff, "metric": name, "model": model.value}
                            | _score(model, features, label, keep, shuffles, runs))  # fmt: skip
    return pd.DataFrame(rows), pd.concat(tables, ignore_index=True)


def _all_series(
    seen: pd.DataFrame, steps: dict[str, list[float]], definitions: Definitions, rate_models: Mapping[str, RateModel]
) -> Iterator[tuple[str, pd.DataFrame]]:
    table = original_metrics(seen, definitions)
    for name in table.columns[len(_POINT) :]:
        yield name, table[[*_POINT, name]].rename(columns={name: "value"}).assign(reason="not measured")
    for mean, model in rate_models.items():
        path, last = model_series(model, seen, steps)
        yield gp_metric(Metric.GP, mean), path
        yield gp_metric(Metric.GP_LAST, mean), last


def _feature_rows(cutoff: int, metric: str, surfaces: pd.MultiIndex, features: Features, label: Array) -> pd.DataFrame:
    names = {"run": surfaces.get_level_values("run"), "exploit_type": surfaces.get_level_values("exploit_type")}
    values = {"level": features.level, "slope": features.slope, "projected": features.projected, "raw_label": label}
    return pd.DataFrame({"cutoff_idx": cutoff, "metric": metric} | names | values)


def _score(
    model: Model,
    features: Features,
    label: Array,
    keep: NDArray[np.bool_],
    shuffles: WithinRunShuffles,
    runs: pd.Index,
) -> dict[str, object]:
    y = label[keep]
    level, slope, projected = features.level[keep], features.slope[keep], features.projected[keep]
    positives, negatives = float(y.sum()), float((1 - y).sum())
    codes = np.unique(np.asarray(runs[keep], dtype=str), return_inverse=True)[1].astype(np.int64)
    p_value, auc, within = None, np.nan, np.nan
    reason = None if positives and negatives else "every type has the same label"
    if not keep.any():
        reason = "no type has both a value and a label"
    if reason is None:
        simple = {Model.LEVEL: level, Model.SLOPE: slope, Model.PROJECTED: projected}
        if model in simple:
            scores = simple[model]
        else:
            scores = _leave_one_out_tuned(level, slope, y) if model is Model.TUNED else _leave_one_out(level, slope, y)
            reason = "no p-value: leave-one-out scores"
        # Saturated probabilities of unpenalised fits lie closer than rounding, and were told apart.
        rounding = 0.0 if model is Model.LOGISTIC else ROUNDING
        totals = pair_totals(win_matrix(scores, rounding), y[None], codes)
        auc, within = float(totals.auc[0]), float(totals.auc_within[0])
        if model in simple:
            shuffled = pair_totals(win_matrix(scores), shuffles.shuffle(y, keep), codes).auc
            p_value = float(mid_p(np.array([auc]), shuffled[None])[0]) if np.ptp(shuffled) > 0 else None
    interval = newcombe_interval(auc, positives, negatives)
    return {
        "auc": auc,
        "auc_lower": interval.lower,
        "auc_upper": interval.upper,
        "auc_within_run": within,
        "p_value": p_value,
        "n": int(keep.sum()),
        "n_positive": int(positives),
        "n_negative": int(negatives),
        "reason": reason,
    }


def _auc(scores: Array, y: Array) -> float:
    return float(pair_totals(win_matrix(scores), y[None], np.zeros(len(y), dtype=np.int64)).auc[0])


def _leave_one_out_tuned(level: Array, slope: Array, y: Array) -> Array:
    scores = level.copy()
    for i in range(len(y)):
        rest = np.arange(len(y)) != i
        if 0 < y[rest].sum() < rest.sum():
            best = int(np.argmax([_auc(level[rest] + a * slope[rest], y[rest]) for a in A_GRID]))
            scores[i] = level[i] + A_GRID[best] * slope[i]
    return scores


def _leave_one_out(level: Array, slope: Array, y: Array) -> Array:
    """Unpenalised logistic regression; separable folds stop where the optimiser gives up, as they did before."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    x = np.column_stack([level, slope])
    scores = np.empty(len(y))
    for i in range(len(y)):
        rest = np.arange(len(y)) != i
        if not 0 < y[rest].sum() < rest.sum():
            scores[i] = y[rest].mean()
            continue
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=ConvergenceWarning)
            fitted = LogisticRegression(C=np.inf, max_iter=1000).fit(x[rest], y[rest])
        scores[i] = fitted.predict_proba(x[i : i + 1])[0, 1]
    return scores
