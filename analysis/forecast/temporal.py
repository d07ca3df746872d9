"""Predicting a type's rate from its own past: persistence, AR(1), extrapolation in log step, a Gaussian process.

AR(1) is fitted on the *other* exploit types, because eight points of one type cannot carry a regression, and it
predicts one checkpoint ahead; the others predict the final checkpoint from each cutoff.
"""

from __future__ import annotations

from enum import StrEnum

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from foreshock.analysis.forecast.logits import score_logits, weighted_line
from foreshock.analysis.surfaces.cells import SURFACE
from foreshock.analysis.surfaces.labels import log_step

Array = NDArray[np.float64]
_GP_VARIANCE, _GP_LENGTH = 4.0, 1.5


class Method(StrEnum):
    """Names as in the tables."""

    PERSISTENCE = "persistence"
    AR1 = "ar1"
    EXTRAPOLATION = "log_step_extrapolation"
    GP = "gp"
    GROWTH = "growth_model"


def next_step_predictions(logits: pd.DataFrame) -> pd.DataFrame:
    """One row per consecutive pair of checkpoints: the later cell, and `persistence` and `ar1` predictions of it.

    ar1 is logit[t + 1] = a + b logit[t], fitted by weighted least squares to the pairs of all other exploit types
    (NaN where there are none).
    """
    ordered = logits.sort_values([*SURFACE, "checkpoint"])
    before = ordered.groupby(SURFACE)[["logit", "checkpoint"]].shift(1)
    pairs = ordered.assign(previous=before["logit"], previous_checkpoint=before["checkpoint"])
    pairs = pairs.dropna(subset=["previous"]).reset_index(drop=True)
    ar1 = np.full(len(pairs), np.nan)
    for kind in pairs["exploit_type"].unique():
        mine = (pairs["exploit_type"] == kind).to_numpy()
        if (~mine).sum() >= 3:
            rest = pairs[~mine]
            x, y, variance = (rest[name].to_numpy(float) for name in ("previous", "logit", "variance"))
            intercept, slope = weighted_line(x, y, variance)
            ar1[mine] = intercept + slope * pairs.loc[mine, "previous"].to_numpy(float)
    pairs[Method.PERSISTENCE.value] = pairs["previous"]
    pairs[Method.AR1.value] = ar1
    return pairs


def final_predictions(logits: pd.DataFrame, cutoff_idx: int) -> pd.DataFrame:
    """The final cell of every surface, with predictions from its first `cutoff_idx` + 1 checkpoints.

    Surfaces with no later checkpoint are left out.
    """
    rows = []
    for _, part in logits.groupby(SURFACE):
        part = part.sort_values("checkpoint")
        if len(part) <= cutoff_idx + 1:
            continue
        seen, final = part.iloc[: cutoff_idx + 1], part.iloc[-1]
        x = log_step(seen["checkpoint"].to_numpy(float))
        y, variance = seen["logit"].to_numpy(float), seen["variance"].to_numpy(float)
        at = float(log_step(np.array([final["checkpoint"]]))[0])
        intercept, slope = weighted_line(x, y, variance)
        rows.append(
            final.to_dict()
            | {
                "cutoff_idx": cutoff_idx,
                Method.PERSISTENCE.value: y[-1],
                Method.EXTRAPOLATION.value: intercept + slope * at if len(seen) > 1 else np.nan,
                Method.GP.value: _gp(x, y, variance, at),
            }
        )
    return pd.DataFrame(rows)


def _gp(x: Array, y: Array, variance: Array, at: float) -> float:
    """Posterior mean of a Matern-5/2 process over log step around the weighted mean of what was seen."""
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern

    centre = float(np.average(y, weights=1 / (variance + 0.25)))
    kernel = ConstantKernel(_GP_VARIANCE) * Matern(_GP_LENGTH, nu=2.5)
    model = GaussianProcessRegressor(kernel, alpha=variance, optimizer=None)
    model.fit(x[:, None], y - centre)
    return centre + float(model.predict(np.array([[at]]))[0])


def temporal_scores(logits: pd.DataFrame, growth: pd.DataFrame | None = None) -> pd.DataFrame:
    """Scores per target (`next` or `final`), cutoff and method: n, rmse_logit, rmse_rate, deviance.

    growth: cutoff_idx, run, exploit_type, log10_rate as forecast by the growth model for the final checkpoint.
    """
    rows: list[dict[str, object]] = []
    following = next_step_predictions(logits)
    for method in (Method.PERSISTENCE, Method.AR1):
        rows.append(_score_row("next", None, method, following))
    longest = int(logits.groupby(SURFACE).size().max()) if len(logits) else 0
    for cutoff in range(longest - 1):
        table = final_predictions(logits, cutoff)
        methods = [Method.PERSISTENCE, Method.EXTRAPOLATION, Method.GP]
        if growth is not None and len(growth):
            mine = growth[growth["cutoff_idx"] == cutoff].set_index(SURFACE)["log10_rate"]
            rate = 10 ** mine.reindex(pd.MultiIndex.from_frame(table[SURFACE])).to_numpy(float)
            table[Method.GROWTH.value] = np.log(rate) - np.log1p(-rate)
            methods.append(Method.GROWTH)
        for method in methods:
            rows.append(_score_row("final", cutoff, method, table))
    return pd.DataFrame(rows)


def _score_row(target: str, cutoff: int | None, method: Method, table: pd.DataFrame) -> dict[str, object]:
    scores = score_logits(table[method.value].to_numpy(float), table)
    return {
        "target": target,
        "cutoff_idx": cutoff,
        "method": method.value,
        "n": scores.n,
        "rmse_logit": scores.rmse_logit,
        "rmse_rate": scores.rmse_rate,
        "deviance": scores.deviance,
    }
