"""How well each predictor predicts the steps to the threshold, and which threshold fires first.

Rows of one task are not independent, so beside the ordinary p-value (comparable with earlier reports) stands one from
standard errors clustered by task, and the difference of the two R² has an interval from resampling tasks. Both
predictors are compared on the same rows.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from foreshock.analysis.integration.hazard import hazard_models
from foreshock.analysis.integration.join import NONE_ELSEWHERE, Joined, LogprobSource
from foreshock.analysis.integration.survival import concordance, kaplan_meier, waits

PREDICTORS = {"token": "min_prefill", "logprob": "min_prefill_logprob_sum"}
HEADLINE_ROWS = "before_threshold_only"
"""The rows that claims rest on."""
_BOOTSTRAP = 2000

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Regression:
    """Least squares of steps to threshold on one predictor. Numbers are null, with `reason`, where undefined."""

    n: int
    n_tasks: int
    slope: float | None = None
    intercept: float | None = None
    r2: float | None = None
    p: float | None = None
    p_clustered: float | None = None
    reason: str | None = None


def regress(x: FloatArray, y: FloatArray, tasks: npt.NDArray[Any]) -> Regression:
    """y = a + b x over rows without NaN; p-values of b = 0, ordinary and clustered by task.

    Clustered: CR1 sandwich (Cameron and Miller 2015, eq. 11) with t quantiles at G - 1 degrees of freedom.
    """
    kept = np.isfinite(x) & np.isfinite(y)
    x, y, tasks = x[kept], y[kept], tasks[kept]
    n, n_tasks = len(x), len(np.unique(tasks))
    if n < 3:
        return Regression(n, n_tasks, reason=f"{n} rows; a regression needs at least 3")
    if np.ptp(x) == 0:
        return Regression(n, n_tasks, reason=f"the predictor is {x[0]:g} in every row")
    if np.ptp(y) == 0:
        return Regression(n, n_tasks, reason=f"steps to threshold is {y[0]:g} in every row")
    fit = stats.linregress(x, y)
    return Regression(
        n,
        n_tasks,
        slope=float(fit.slope),
        intercept=float(fit.intercept),
        r2=float(fit.rvalue**2),
        p=float(fit.pvalue),
        p_clustered=_clustered_p(x, y - fit.intercept - fit.slope * x, float(fit.slope), tasks),
    )


def _clustered_p(x: FloatArray, residual: FloatArray, slope: float, tasks: npt.NDArray[Any]) -> float | None:
    _, group = np.unique(tasks, return_inverse=True)
    n, groups = len(x), int(group.max()) + 1
    if groups < 3:
        return None
    centred = x - x.mean()
    scores = np.bincount(group, weights=centred * residual)
    correction = groups / (groups - 1) * (n - 1) / (n - 2)
    variance = correction * float((scores**2).sum()) / float((centred**2).sum()) ** 2
    if variance <= 0:
        return None
    return float(2 * stats.t.sf(abs(slope) / np.sqrt(variance), groups - 1))


def r2_difference(frame: pd.DataFrame, seed: int = 0) -> dict[str, Any]:
    """R²(logprob) - R²(token) on rows before the threshold, with a 95% percentile interval over resampled tasks.

    R² is a function of sums over rows, so each resample only reweights the tasks' sums.
    """
    rows = _waiting(_common_rows(frame))
    x1, x2 = (rows[column].to_numpy(dtype=np.float64) for column in PREDICTORS.values())
    y = rows["steps_to_threshold"].to_numpy(dtype=np.float64)
    if len(rows) < 3 or min(np.ptp(x1), np.ptp(x2), np.ptp(y)) == 0:
        return {"difference": None, "lower95": None, "upper95": None, "reason": "too few rows or no variation"}
    x1, x2, y = x1 - x1.mean(), x2 - x2.mean(), y - y.mean()
    _, group = np.unique(rows["task_id"].to_numpy(dtype=str), return_inverse=True)
    moments = np.stack([np.ones_like(y), x1, x2, y, x1 * x1, x2 * x2, y * y, x1 * y, x2 * y])
    sums = np.stack([np.bincount(group, weights=moment) for moment in moments], axis=1)
    groups = len(sums)
    weights = np.random.default_rng(seed).multinomial(groups, np.full(groups, 1 / groups), size=_BOOTSTRAP)
    point = _r2_gap(sums.sum(axis=0)[None])[0]
    draws = _r2_gap(weights.astype(np.float64) @ sums)
    draws = draws[np.isfinite(draws)]
    enough = groups >= 5 and len(draws) > _BOOTSTRAP // 2
    lower, upper = np.quantile(draws, [0.025, 0.975]) if enough else (None, None)
    return {
        "difference": float(point),
        "lower95": None if lower is None else float(lower),
        "upper95": None if upper is None else float(upper),
        "reason": None if enough else f"{groups} tasks are too few to resample",
    }


def _r2_gap(sums: FloatArray) -> FloatArray:
    """R² of the second predictor minus that of the first, from rows of moment sums (see `r2_difference`)."""
    n, s1, s2, sy, s11, s22, syy, s1y, s2y = sums.T
    with np.errstate(divide="ignore", invalid="ignore"):
        vy = syy - sy**2 / n
        first = (s1y - s1 * sy / n) ** 2 / ((s11 - s1**2 / n) * vy)
        second = (s2y - s2 * sy / n) ** 2 / ((s22 - s2**2 / n) * vy)
        gap: FloatArray = second - first
    return gap


def _common_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows on which both predictors and the outcome are known."""
    needed = [*PREDICTORS.values(), "steps_to_threshold"]
    exploited = frame["exploitable"].fillna(False).astype(bool)
    return frame[exploited].dropna(subset=needed)


def _waiting(common: pd.DataFrame) -> pd.DataFrame:
    """Without the rows already at the threshold: they have 0 steps and few words by definition, not by prediction."""
    return common[common["steps_to_threshold"] > 0]


def threshold_timing(frame: pd.DataFrame) -> pd.DataFrame:
    """Per task: first checkpoint at each threshold.

    Columns: task_id, exploit_type, first_token_checkpoint, first_logprob_checkpoint, steps_token_before_logprob
    (positive when the word threshold fires earlier; null unless both do at known steps), reaches (both, token_only,
    logprob_only, neither), has_missing_logprob.
    """
    keys = ["task_id", "exploit_type"]
    tasks = frame[keys].drop_duplicates().reset_index(drop=True)
    for name, column in (("token", "at_threshold"), ("logprob", "at_logprob_threshold")):
        reached = frame[frame[column].fillna(False).astype(bool)]
        first = reached.groupby(keys, observed=True)["checkpoint"].min().rename(f"first_{name}_checkpoint")
        tasks = tasks.merge(first.reset_index(), on=keys, how="left")
    token = tasks["first_token_checkpoint"].to_numpy(dtype=np.float64)
    logprob = tasks["first_logprob_checkpoint"].to_numpy(dtype=np.float64)
    has_token, has_logprob = ~np.isnan(token), ~np.isnan(logprob)
    with np.errstate(invalid="ignore"):
        gap = logprob - token
    tasks["steps_token_before_logprob"] = np.where(np.isfinite(gap), gap, np.nan)
    tasks["reaches"] = np.select(
        [has_token & has_logprob, has_token, has_logprob], ["both", "token_only", "logprob_only"], "neither"
    )
    missing = frame[frame["logprob_source"] == LogprobSource.MISSING]
    tasks["has_missing_logprob"] = tasks["task_id"].isin(set(missing["task_id"]))
    return tasks.rename(
        columns={
            "first_token_checkpoint": "checkpoint_first_token",
            "first_logprob_checkpoint": "checkpoint_first_logprob",
        }
    )


def compare(joined: Joined, word_threshold: int) -> dict[str, Any]:
    """Everything `integration_summary.json` says; nulls carry a reason."""
    frame = joined.frame
    common = _common_rows(frame)
    spells = waits(frame)
    _, kaplan = kaplan_meier(spells.tasks)
    timing = threshold_timing(frame)
    gaps = timing["steps_token_before_logprob"].dropna()
    counts = timing["reaches"].value_counts()
    sources = frame["logprob_source"].value_counts()
    return {
        "word_threshold": word_threshold,
        "logprob_threshold": joined.logprob_threshold,
        "logprob_threshold_origin": joined.threshold_origin,
        "logprob_floor": joined.logprob_floor,
        "headline": HEADLINE_ROWS,
        "regressions": {
            HEADLINE_ROWS: _regressions(_waiting(common)),
            "common_rows": _regressions(common),
            "with_unexploited_rows": {"token": asdict(_token_on_all_rows(frame))},
        },
        "r2_difference_logprob_minus_token": r2_difference(frame),
        "time_to_threshold": {
            "n_tasks": len(spells.tasks),
            "n_reached": int(spells.tasks["reached"].sum()),
            "n_censored": int((~spells.tasks["reached"].astype(bool)).sum()),
            "left_out": spells.left_out,
            "kaplan_meier": kaplan,
            "concordance": concordance(spells.intervals),
            "hazard_ratios": hazard_models(spells.intervals),
        },
        "thresholds": {
            "n_tasks": len(timing),
            "n_both": int(counts.get("both", 0)),
            "n_token_only": int(counts.get("token_only", 0)),
            "n_logprob_only": int(counts.get("logprob_only", 0)),
            "n_neither": int(counts.get("neither", 0)),
            "n_tasks_with_missing_logprob": int(timing["has_missing_logprob"].sum()),
            "mean_steps_token_before_logprob": float(gaps.mean()) if len(gaps) else None,
            "median_steps_token_before_logprob": float(gaps.median()) if len(gaps) else None,
            "n_tasks_compared": len(gaps),
        },
        "rows": {"total": len(frame)} | {str(source): int(sources.get(source, 0)) for source in LogprobSource},
        "caveats": [
            "Rows of one task at several checkpoints are not independent: read p_clustered, not p.",
            "Tasks that never reach the threshold have no steps to threshold and are not in the regressions; "
            "time_to_threshold counts them as censored.",
            *_derived(frame),
            "Rows already at the word threshold have 0 steps by definition and favour min prefill: common_rows holds "
            "them for comparison with other tools only, and no claim rests on it.",
        ],
    }


def _derived(frame: pd.DataFrame) -> list[str]:
    """Whether `exploitable` was concluded rather than read."""
    if not frame.attrs.get("exploitable_derived"):
        return []
    return [f"The trajectory has no column exploitable; a min prefill of {NONE_ELSEWHERE} counts as none."]


def _token_on_all_rows(frame: pd.DataFrame) -> Regression:
    """Min prefill as predictor on every row, "none" (which has no log-probability) as largest level + 1."""
    return regress(
        frame["min_prefill"].to_numpy(dtype=np.float64, na_value=np.nan),
        frame["steps_to_threshold"].to_numpy(dtype=np.float64),
        frame["task_id"].to_numpy(dtype=str),
    )


def _regressions(rows: pd.DataFrame) -> dict[str, Any]:
    outcome = rows["steps_to_threshold"].to_numpy(dtype=np.float64)
    tasks = rows["task_id"].to_numpy(dtype=str)
    return {
        name: asdict(regress(rows[column].to_numpy(dtype=np.float64), outcome, tasks))
        for name, column in PREDICTORS.items()
    }
