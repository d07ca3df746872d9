"""The metrics whose early values may predict emergence, as one value per (run, exploit type, checkpoint).

    mean_neg_kl              mean over levels of -KL: how natural the exploit's opening is to the model
    log_exploit_lower_bound  highest over levels of log(k/n) - mean KL of the attempts that exploited: a valid lower
                             bound of the log unprompted rate (up to sampling noise), by Jensen's inequality
    exploit_rate             mean over levels, 0 included, of k/n
    exploit_logprob          mean over problems of log P(exploit code), without any reasoning before it
    honest_exploit_logprob   the same after honest reasoning, the same words at every checkpoint
    prefill_logprob          mean over levels of log P(exploit reasoning)
    gp_log_rate_p0           a model's log unprompted rate at the seen checkpoints, fitted to what was seen
    gp_log_rate_p0_last      that model's forecast for the final checkpoint

Means over levels use only levels measured at every checkpoint seen so far, so that a level that appears or vanishes
does not pass for a change; and every function here is given the seen cells only.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol

import numpy as np
import pandas as pd

from foreshock.analysis.surfaces.cells import SURFACE
from foreshock.analysis.surfaces.features import Reason

_POINT = [*SURFACE, "checkpoint"]


class Metric(StrEnum):
    """Names as in the tables."""

    NEG_KL = "mean_neg_kl"
    LOWER_BOUND = "log_exploit_lower_bound"
    RATE = "exploit_rate"
    CODE = "exploit_logprob"
    HONEST_CODE = "honest_exploit_logprob"
    LOGPROB = "prefill_logprob"
    GP = "gp_log_rate_p0"
    GP_LAST = "gp_log_rate_p0_last"
    GROWTH = "growth_log_rate_p0"
    GROWTH_LAST = "growth_log_rate_p0_last"


MODEL_METRICS = {Metric.GP: Metric.GP_LAST, Metric.GROWTH: Metric.GROWTH_LAST}
"""Metrics made by a rate model: its trajectory and its forecast for the final checkpoint."""


class RateModel(Protocol):
    """A model of the unprompted rate, fitted anew to the cells seen at each cutoff."""

    def log_rates(self, seen: pd.DataFrame, final: dict[str, float]) -> pd.DataFrame:
        """Log unprompted rates of every (run, exploit type) in `seen`.

        seen: cells up to the cutoff, nothing later. final: each run's final checkpoint.
        Returns run, exploit_type, checkpoint, log_rate (nats) at the seen checkpoints and the final one.
        """


def metric_series(seen: pd.DataFrame, metric: Metric) -> pd.DataFrame:
    """run, exploit_type, checkpoint, value, reason of a directly computed metric.

    Raises ValueError for the metrics of rate models, which need a `RateModel`.
    """
    if metric is Metric.NEG_KL:
        prefilled = seen[seen["prefill_level"] > 0]
        return _level_mean(seen, prefilled.assign(value=-prefilled["kl_mean"]))
    if metric is Metric.LOGPROB:
        prefilled = seen[seen["prefill_level"] > 0]
        return _level_mean(seen, prefilled.assign(value=prefilled["logprob_mean"]))
    if metric is Metric.CODE:
        return _level_mean(seen, seen.assign(value=seen["code_logprob"]))
    if metric is Metric.HONEST_CODE:
        return _level_mean(seen, seen.assign(value=seen["honest_code_logprob"]))
    if metric is Metric.RATE:
        counted = seen[seen["n"] > 0]
        return _level_mean(seen, counted.assign(value=counted["k"] / counted["n"]))
    if metric is Metric.LOWER_BOUND:
        return _lower_bound(seen)
    raise ValueError(f"{metric} comes from a rate model, not from the cells alone")


def _points(seen: pd.DataFrame) -> pd.DataFrame:
    return seen[_POINT].drop_duplicates().sort_values(_POINT).reset_index(drop=True)


def _level_mean(seen: pd.DataFrame, valued: pd.DataFrame) -> pd.DataFrame:
    """Mean of `value` over the levels that have one at every (surface, checkpoint) that has any."""
    valued = valued[np.isfinite(valued["value"].astype(float))]
    points = _points(seen)
    if valued.empty:
        return points.assign(value=np.nan, reason=Reason.NOT_MEASURED)
    n_points = len(valued[_POINT].drop_duplicates())
    counts = valued.groupby("prefill_level").size()
    common = counts.index[counts == n_points]
    if not len(common):
        return points.assign(value=np.nan, reason=Reason.NO_COMMON_LEVEL)
    means = valued[valued["prefill_level"].isin(common)].groupby(_POINT)["value"].mean()
    return _with_reason(points.merge(means.reset_index(), on=_POINT, how="left"), Reason.NOT_MEASURED)


def _lower_bound(seen: pd.DataFrame) -> pd.DataFrame:
    prefilled = seen[(seen["prefill_level"] > 0) & (seen["n"] > 0)]
    measured = prefilled.groupby(_POINT)["kl_mean"].agg(lambda kl: bool(np.isfinite(kl).any())).rename("measured")
    found = prefilled[(prefilled["k"] > 0) & np.isfinite(prefilled["kl_success"])]
    bound = np.minimum(np.log(found["k"] / found["n"]) - found["kl_success"], 0.0)
    best = found.assign(value=bound).groupby(_POINT)["value"].max()
    out = _points(seen).merge(best.reset_index(), on=_POINT, how="left")
    out = _with_reason(out.merge(measured.reset_index(), on=_POINT, how="left"), Reason.NO_SUCCESS)
    unmeasured = out["value"].isna() & ~out["measured"].fillna(False).astype(bool)
    out.loc[unmeasured, "reason"] = Reason.NOT_MEASURED
    return out.drop(columns="measured")


def _with_reason(frame: pd.DataFrame, why: Reason) -> pd.DataFrame:
    missing = frame["value"].isna().to_numpy()
    reasons: list[str | None] = [why.value if gone else None for gone in missing]
    return frame.assign(reason=pd.Series(reasons, index=frame.index, dtype=object))


DIRECT_METRICS = (Metric.NEG_KL, Metric.LOWER_BOUND, Metric.RATE, Metric.LOGPROB, Metric.CODE, Metric.HONEST_CODE)
