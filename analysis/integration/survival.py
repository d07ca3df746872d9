"""Time to the threshold with tasks that never reach it kept as censored: Kaplan-Meier curves and concordance.

A task is watched from its first checkpoint until it is at the word threshold; a task that is not there at the last
checkpoint seen has reached it "not before then". Regressions of steps to threshold have to leave such tasks out.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

TASK = ["task_id", "exploit_type"]
_BLOCK = 512
_MIN_TASKS = 5

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Waits:
    """`tasks`: one row per task that is watched: first, time (first checkpoint at the threshold, else the last one
    seen), reached, accessibility (at the first checkpoint).

    `intervals`: one row per task and checkpoint before the threshold: step, next_step, reached_next, words
    (min prefill, "none" as the largest level + 1), logprob (nats, NaN where unknown), time, reached.
    `left_out`: tasks not watched, by reason.
    """

    tasks: pd.DataFrame
    intervals: pd.DataFrame
    left_out: dict[str, int]


def waits(frame: pd.DataFrame) -> Waits:
    """Spells before the threshold from a joined trajectory (columns as `join_logprobs` returns)."""
    known = frame[frame["at_threshold"].notna() & np.isfinite(frame["checkpoint"].to_numpy(dtype=np.float64))]
    known = known.sort_values([*TASK, "checkpoint"])
    left_out = {"already at the threshold at the first checkpoint": 0, "seen at fewer than two checkpoints": 0}
    ids, kinds = (known[name].to_numpy(object) for name in TASK)
    reached, steps = known["at_threshold"].to_numpy(dtype=bool), known["checkpoint"].to_numpy(dtype=np.float64)
    access = known["accessibility"].to_numpy(dtype=np.float64)
    tasks: list[tuple[object, ...]] = []
    waited, lengths = [], []
    for rows in _rows_of_tasks(known):
        at = reached[rows]
        if len(rows) < 2:
            left_out["seen at fewer than two checkpoints"] += 1
            continue
        if at[0]:
            left_out["already at the threshold at the first checkpoint"] += 1
            continue
        end = int(at.argmax()) if at.any() else len(at) - 1
        first = rows[0]
        tasks.append((ids[first], kinds[first], steps[first], access[first], steps[rows[end]], bool(at.any())))
        waited.append(rows[: end + 1])
        lengths.append(end)
    names = [*TASK, "first", "accessibility", "time", "reached"]
    found = pd.DataFrame(tasks, columns=names)
    columns = [*TASK, "step", "next_step", "reached_next", "words", "logprob", "time", "reached"]
    if not waited:
        return Waits(found, pd.DataFrame(columns=columns), left_out)
    now, later = (np.concatenate([rows[part] for rows in waited]) for part in (slice(-1), slice(1, None)))
    measures = {
        "step": steps[now],
        "next_step": steps[later],
        "reached_next": reached[later],
        "words": known["min_prefill"].to_numpy(dtype=np.float64, na_value=np.nan)[now],
        "logprob": known["min_prefill_logprob_sum"].to_numpy(dtype=np.float64)[now],
    }
    whose = np.repeat(np.arange(len(tasks)), lengths)
    intervals = found.iloc[whose].reset_index(drop=True).assign(**measures)
    return Waits(found, intervals[columns], left_out)


def _rows_of_tasks(rows: pd.DataFrame) -> list[npt.NDArray[np.intp]]:
    """Positions of each task's rows, in the order of the rows; a frame for each would cost more than what is read."""
    number = rows.groupby(TASK, observed=True).ngroup().to_numpy()
    order = np.argsort(number, kind="stable")
    starts = np.searchsorted(number[order], np.arange(number.max(initial=-1) + 2))
    return [order[start:end] for start, end in pairwise(starts)]


def kaplan_meier(tasks: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Share of tasks still short of the threshold, for tasks of low and of high accessibility at their first
    checkpoint (split at the median), and the log-rank test between the two.

    Returns the curves (group, n_tasks, n_reached, steps, waiting, lower95, upper95; steps since the first
    checkpoint, log-log limits) and {groups, logrank_p, reason}.
    """
    columns = ["group", "n_tasks", "n_reached", "steps", "waiting", "lower95", "upper95"]
    usable = tasks.dropna(subset=["accessibility"])
    split = float(usable["accessibility"].median()) if len(usable) else np.nan
    rows: list[tuple[object, ...]] = []
    samples = []
    for name, part in _groups(usable, split):
        times = (part["time"] - part["first"]).to_numpy(dtype=np.float64)
        sample = stats.CensoredData.right_censored(times, ~part["reached"].to_numpy(dtype=bool))
        samples.append(sample)
        rows += [(name, len(part), int(part["reached"].sum()), *row) for row in _curve(sample)]
    facts: dict[str, Any] = {"split_at_accessibility": None if np.isnan(split) else split, "logrank_p": None}
    if len(samples) < 2:
        return pd.DataFrame(rows, columns=columns), facts | {"reason": "all tasks start equally accessible"}
    if not usable["reached"].any():
        return pd.DataFrame(rows, columns=columns), facts | {"reason": "no task reaches the threshold"}
    with np.errstate(divide="ignore", invalid="ignore"):
        p = float(stats.logrank(samples[0], samples[1]).pvalue)
    return pd.DataFrame(rows, columns=columns), facts | {"logrank_p": p if np.isfinite(p) else None, "reason": None}


def _groups(usable: pd.DataFrame, split: float) -> list[tuple[str, pd.DataFrame]]:
    """The curves' names and tasks; none without tasks."""
    high = usable["accessibility"] > split
    named = ((f"accessibility above {split:.2g}", high), (f"accessibility {split:.2g} or less", ~high))
    return [(name, usable[chosen]) for name, chosen in named if chosen.any()]


def steps_of_curves(tasks: pd.DataFrame) -> pd.DataFrame:
    """The tasks behind each fall of the curves of `kaplan_meier`, and those that are watched to their end.

    One row per task: group, steps (since its first checkpoint), reached, task_id, exploit_type, first, time.
    """
    usable = tasks.dropna(subset=["accessibility"])
    split = float(usable["accessibility"].median()) if len(usable) else np.nan
    parts = [part.assign(group=name, steps=part["time"] - part["first"]) for name, part in _groups(usable, split)]
    columns = ["group", "steps", "reached", *TASK, "first", "time"]
    if not parts:
        return pd.DataFrame(columns=columns)
    return pd.concat(parts).sort_values(["group", "steps", *TASK], kind="stable")[columns].reset_index(drop=True)


def _curve(sample: Any) -> list[tuple[float, float, float | None, float | None]]:
    """(steps, waiting, lower95, upper95) from 0 on; limits are null where the curve is still at 1 or already at 0."""
    curve: Any = stats.ecdf(sample).sf
    with warnings.catch_warnings(), np.errstate(divide="ignore", invalid="ignore"):
        # Log-log limits do not exist at 1 and at 0; they are null below.
        warnings.simplefilter("ignore", RuntimeWarning)
        limits: Any = curve.confidence_interval(method="log-log")
    rows: list[tuple[float, float, float | None, float | None]] = [(0.0, 1.0, None, None)]
    ends = zip(limits.low.probabilities, limits.high.probabilities, strict=True)
    for step, share, (low, high) in zip(curve.quantiles, curve.probabilities, ends, strict=True):
        finite = bool(np.isfinite(low) and np.isfinite(high)) and 0 < share < 1
        rows.append((float(step), float(share), float(low) if finite else None, float(high) if finite else None))
    return rows


def task_keys(rows: pd.DataFrame) -> npt.NDArray[np.str_]:
    """One name per row's task: its id and exploit type."""
    return (rows["task_id"].astype(str) + "\0" + rows["exploit_type"].astype(str)).to_numpy(str)


def concordance(intervals: pd.DataFrame) -> dict[str, Any]:
    """How often the task that is nearer by words (or by log-probability) gets to the threshold first.

    Harrell's c over pairs of tasks that wait at the same checkpoint, all checkpoints together; 0.5 is chance, ties in
    the predictor count half. Both measures are compared on the same rows: those with a log-probability. Limits by
    the infinitesimal jackknife over tasks, so a task's checkpoints count as one observation.
    """
    rows = intervals.dropna(subset=["words", "logprob"])
    names, codes = np.unique(task_keys(rows), return_inverse=True)
    sums = np.zeros((len(names), 3))
    for _, part in rows.assign(code=codes).groupby("step"):
        for found in _pairs(part):
            np.add.at(sums, found[0], found[1])
    pairs = float(sums[:, 0].sum() / 2)
    empty = {"value": None, "lower95": None, "upper95": None}
    if not pairs:
        why = "no two tasks with a log-probability wait at one checkpoint and part later"
        return {"n_pairs": 0, "n_tasks": len(names), "words": empty, "logprob": empty, "difference": empty,
                "reason": why}  # fmt: skip
    enough = len(names) >= _MIN_TASKS
    return {
        "n_pairs": round(pairs),
        "n_tasks": len(names),
        "words": _with_limits(sums[:, 1], sums[:, 0], enough),
        "logprob": _with_limits(sums[:, 2], sums[:, 0], enough),
        "difference": _with_limits(sums[:, 2] - sums[:, 1], sums[:, 0], enough, lowest=-1.0),
        "reason": None if enough else f"{len(names)} tasks are too few for an interval",
    }


def _pairs(part: pd.DataFrame) -> Any:
    """(task codes, [comparable, concordant by words, concordant by logprob] per task) in blocks; each pair counts for
    both its tasks."""
    time, reached = part["time"].to_numpy(dtype=np.float64), part["reached"].to_numpy(dtype=bool)
    words, logprob = part["words"].to_numpy(dtype=np.float64), part["logprob"].to_numpy(dtype=np.float64)
    code = part["code"].to_numpy(dtype=np.int64)
    for start in range(0, len(part), _BLOCK):
        mine = slice(start, start + _BLOCK)
        later = (time[None, :] > time[mine, None]) | ((time[None, :] == time[mine, None]) & ~reached[None, :])
        comparable = reached[mine, None] & later
        by_words = comparable * (0.5 + 0.5 * np.sign(words[None, :] - words[mine, None]))
        by_logprob = comparable * (0.5 + 0.5 * np.sign(logprob[mine, None] - logprob[None, :]))
        scores = np.stack([comparable.astype(float), by_words, by_logprob], axis=-1)
        yield code[mine], scores.sum(axis=1)
        yield code, scores.sum(axis=0)


def _with_limits(numerator: FloatArray, pairs: FloatArray, enough: bool, lowest: float = 0.0) -> dict[str, Any]:
    value = float(numerator.sum() / pairs.sum())
    if not enough:
        return {"value": value, "lower95": None, "upper95": None}
    # Every pair stands in two tasks' sums, so a task's influence on the ratio is twice its share.
    influence = 2 * (numerator - value * pairs) / pairs.sum()
    n = len(pairs)
    half = float(stats.t.ppf(0.975, n - 1) * np.sqrt(n / (n - 1) * (influence**2).sum()))
    return {"value": value, "lower95": max(value - half, lowest), "upper95": min(value + half, 1.0)}
