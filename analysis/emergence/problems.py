"""Per-problem emergence: which tasks will be exploited without a prefill?

One sample is a task in a run; the metric is its accessibility (1 when a short prefill already exploits it, 0 when
none does); the target is an unprompted exploit at a later checkpoint. Exploit types are the blocks that a fitted
model must not have seen.

Tasks already exploited unprompted by the cutoff are left out, as types are in the main analysis.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from foreshock.analysis.emergence.auc import newcombe_interval
from foreshock.analysis.emergence.models import Model, Samples, model_inputs, score, usable
from foreshock.analysis.emergence.permutation import WithinRunShuffles, mid_p
from foreshock.analysis.surfaces.cells import run_checkpoints
from foreshock.analysis.surfaces.features import make_features
from foreshock.errors import InputError

EASY_WORDS = 10
_TASK = ["run", "task_id"]


def task_accessibility(tasks: pd.DataFrame, easy_words: int = EASY_WORDS) -> pd.DataFrame:
    """run, task_id, exploit_type, checkpoint, min_prefill, value (accessibility).

    tasks: run, task_id, exploit_type, checkpoint, prefill_level, n, k. A checkpoint at which a task has no attempt
    at all has no row. Accessibility is 1 up to `easy_words`, then falls linearly to 0 at the largest level.
    """
    used = tasks[tasks["n"] > 0]
    top = float(used["prefill_level"].max())
    keys = ["run", "task_id", "exploit_type", "checkpoint"]
    solved = used[used["k"] > 0].groupby(keys, observed=True)["prefill_level"].min()
    out = used[keys].drop_duplicates().merge(solved.rename("min_prefill").reset_index(), on=keys, how="left")
    out["min_prefill"] = out["min_prefill"].fillna(top + 1)
    span = max(top - easy_words, 1.0)
    out["value"] = np.clip(1 - (out["min_prefill"] - easy_words) / span, 0.0, 1.0)
    return out


def evaluate_problems(
    tasks: pd.DataFrame, *, easy_words: int = EASY_WORDS, permutations: int = 199, seed: int = 0
) -> pd.DataFrame:
    """One row per cutoff and model: auc, interval, auc_within_run, p_value, n, n_positive, n_negative, reason.

    Raises:
        InputError: a run has one checkpoint.
    """
    table = task_accessibility(tasks.assign(run=tasks["run"].astype(str)), easy_words)
    steps = run_checkpoints(table)
    for run, values in steps.items():
        if len(values) < 2:
            raise InputError(f"run {run} has one checkpoint; predicting what comes later needs at least two")
    zero = tasks[(tasks["prefill_level"] == 0) & (tasks["n"] > 0)]
    names = table[[*_TASK, "exploit_type"]].drop_duplicates().sort_values(_TASK)
    surfaces = pd.MultiIndex.from_frame(names[_TASK].rename(columns={"task_id": "exploit_type"}))
    blocks = np.unique(names["exploit_type"].astype(str), return_inverse=True)[1].astype(np.int64)
    runs = surfaces.get_level_values("run")
    run_codes = np.unique(np.asarray(runs, dtype=str), return_inverse=True)[1].astype(np.int64)
    shuffles = WithinRunShuffles(runs, permutations, seed)
    rows: list[dict[str, object]] = []
    for cutoff in range(min(len(s) for s in steps.values()) - 1):
        last = {run: s[cutoff] for run, s in steps.items()}
        last_seen = np.array([last[run] for run in runs])
        final = np.array([steps[run][-1] for run in runs])
        seen = table[table["checkpoint"] <= table["run"].map(last)]
        series = seen.rename(columns={"exploit_type": "kind", "task_id": "exploit_type"}).assign(reason="not measured")
        features = make_features(series, surfaces, last_seen, final)
        is_later = zero["checkpoint"].to_numpy(float) > zero["run"].astype(str).map(last).to_numpy(float)
        hit_later, known_later = _hits(zero[is_later], surfaces)
        hit_before, _ = _hits(zero[~is_later], surfaces)
        for model in Model:
            keep = usable(model, features) & known_later & ~hit_before
            label = hit_later[keep].astype(float)
            row: dict[str, object] = {"cutoff_idx": cutoff, "metric": "accessibility", "model": model.value}
            samples = Samples(model_inputs(model, features, keep) if keep.any() else np.zeros((0, 2)),
                              blocks[keep], run_codes[keep])  # fmt: skip
            rows.append(row | _row(model, samples, label, keep, shuffles))
    return pd.DataFrame(rows)


def _hits(
    zero: pd.DataFrame, surfaces: pd.MultiIndex
) -> tuple[np.ndarray[tuple[int], np.dtype[np.bool_]], np.ndarray[tuple[int], np.dtype[np.bool_]]]:
    """(any unprompted exploit, any unprompted attempt) per (run, task)."""
    keys = [zero["run"].astype(str), zero["task_id"].astype(str)]
    hit = (zero["k"] > 0).groupby(keys).any().reindex(surfaces)
    return hit.fillna(False).to_numpy(bool), hit.notna().to_numpy(bool)


def _row(
    model: Model,
    samples: Samples,
    label: np.ndarray[tuple[int], np.dtype[np.float64]],
    keep: np.ndarray[tuple[int], np.dtype[np.bool_]],
    shuffles: WithinRunShuffles,
) -> dict[str, object]:
    positives, negatives = float(label.sum()), float((1 - label).sum())
    auc, within, p_value = np.nan, np.nan, None
    if positives and negatives:
        totals = score(model, samples, label[None])
        auc, within = float(totals.auc[0]), float(totals.auc_within[0])
        shuffled = score(model, samples, shuffles.shuffle(label, keep)).auc
        if np.isfinite(auc) and np.ptp(shuffled) > 0:
            p_value = float(mid_p(np.array([auc]), shuffled[None])[0])
    interval = newcombe_interval(auc, positives, negatives)
    both = positives and negatives
    why = None if both else "no task at risk is exploited later" if not positives else "every task at risk is"
    return {
        "auc": auc,
        "auc_lower": interval.lower,
        "auc_upper": interval.upper,
        "auc_within_run": within,
        "p_value": p_value,
        "n": int(keep.sum()),
        "n_positive": int(positives),
        "n_negative": int(negatives),
        "reason": why,
    }
