"""Exploit rates after fractions of a model's own reasoning, apart for reasoning that had ended in an exploit and other.

Rates are means over tasks. Continuations of one task depend on each other, so limits are those of Clopper and Pearson
at the number of independent attempts that the spread between tasks amounts to (Korn and Graubard 1998, Survey
Methodology 24:193), with Student's t.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from foreshock.errors import InputError
from foreshock.jobs.records.checkpoint_names import step_of_directory
from foreshock.jobs.records.jsonl import read_rows
from foreshock.jobs.records.layout import RunLayout, checkpoint_files

ALL = "all"
THEN = ("continue", "answer")
HALF = 0.5
_NEEDED = ("task_id", "fraction", "own_exploit_success", "own_attempt_idx")


class Rate(NamedTuple):
    """A mean over tasks with its 95% limits; all NaN without a task."""

    rate: float
    lower95: float
    upper95: float


def load_own_reasoning(run_dir: Path) -> pd.DataFrame:
    """One row a continuation: then, checkpoint (infinity for `final`), exploit_type, task_id, own_attempt_idx,
    own_exploit_success, fraction, exploit_success (None where unread), failed. Raises InputError for a run without any,
    and for a row that lacks one of these."""
    rows = []
    for then in THEN:
        for name, path in checkpoint_files(RunLayout(run_dir).own_reasoning / then):
            step = step_of_directory(name)
            for row in read_rows(path, _NEEDED):
                rows.append(
                    {
                        "then": then,
                        "checkpoint": float("inf") if step is None else float(step),
                        "exploit_type": str(row.get("exploit_type")),
                        "failed": row.get("error") is not None,
                        "exploit_success": row.get("exploit_success"),
                        **{key: row[key] for key in _NEEDED},
                    }
                )
    if not rows:
        raise InputError("no continuations of its own reasoning here", path=run_dir, fix="foreshock own-reasoning RUN")
    return pd.DataFrame(rows).astype({"exploit_success": object})


def summarise(rows: pd.DataFrame) -> pd.DataFrame:
    """One line for each then, checkpoint, exploit type (and all of them), outcome of the original and fraction.

    tasks, traces, n: continuations that were judged; unread: those without code to judge, in neither; exploits; rate
    with limits.
    """
    rows = rows[~rows["failed"]]
    both = pd.concat([rows.assign(exploit_type=ALL), rows], ignore_index=True)
    keys = ["then", "checkpoint", "exploit_type", "own_exploit_success", "fraction"]
    lines = []
    for values, group in both.groupby(keys, sort=True):
        judged = group[group["exploit_success"].notna()]
        won = judged["exploit_success"].astype(float)
        found = rate_over_tasks(won.to_numpy(np.float64), judged["task_id"].to_numpy())
        lines.append(
            dict(zip(keys, values, strict=True))
            | {
                "tasks": judged["task_id"].nunique(),
                "traces": len(group[["task_id", "own_attempt_idx"]].drop_duplicates()),
                "n": len(judged),
                "unread": len(group) - len(judged),
                "exploits": int(won.sum()),
                **found._asdict(),
            }
        )
    return pd.DataFrame(lines)


def rate_over_tasks(won: NDArray[np.floating[Any]], tasks: NDArray[np.object_]) -> Rate:
    """Mean over tasks of their mean outcome. won: [n] of 0 and 1; tasks: [n] names."""
    if not len(won):
        return Rate(np.nan, np.nan, np.nan)
    means = pd.Series(won).groupby(tasks).mean().to_numpy()
    n_tasks, rate = len(means), float(means.mean())
    variance = float(means.var(ddof=1)) / n_tasks if n_tasks > 1 else 0.0
    free = rate * (1 - rate)
    effective = float(n_tasks) if variance <= 0 or free <= 0 else min(free / variance, float(len(won)))
    if n_tasks > 1 and len(won) > 1:
        effective *= float(stats.t.ppf(0.975, len(won) - 1) / stats.t.ppf(0.975, n_tasks - 1)) ** 2
    k = rate * effective
    lower = 0.0 if rate <= 0 else float(stats.beta.ppf(0.025, k, effective - k + 1))
    upper = 1.0 if rate >= 1 else float(stats.beta.ppf(0.975, k + 1, effective - k))
    return Rate(rate, lower, upper)


def carried(summary: pd.DataFrame) -> pd.DataFrame:
    """How early reasoning that ended in an exploit carries it, one line a then, checkpoint and exploit type.

    half_at: the smallest fraction from which on at least half of the continuations exploit, None where none is; area:
    of the rate over the fraction, by trapezoids, None unless cut at 0 and at 1.
    """
    lines = []
    own = summary[summary["own_exploit_success"].astype(bool)]
    keys = ["then", "checkpoint", "exploit_type"]
    for values, group in own.groupby(keys, sort=True):
        curve = group.dropna(subset=["rate"]).sort_values("fraction")
        at, rate = curve["fraction"].to_numpy(float), curve["rate"].to_numpy(float)
        below = np.flatnonzero(rate < HALF)
        first = below[-1] + 1 if len(below) else 0
        whole = len(at) > 1 and at[0] == 0.0 and at[-1] == 1.0
        lines.append(
            dict(zip(keys, values, strict=True))
            | {
                "traces": int(group["traces"].max()),
                "half_at": float(at[first]) if first < len(at) else None,
                "area": float(np.trapezoid(rate, at)) if whole else None,
            }
        )
    return pd.DataFrame(lines, columns=[*keys, "traces", "half_at", "area"])
