"""Does a metric say more about the final rate than the rate itself? A regression per metric, judged on unseen types.

Every prediction is for an exploit type that the regression has not seen in any run, and `q2` compares it with
predicting the other types' mean. R² on the fitted types, as usually shown, rewards any metric.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from foreshock.analysis.forecast.logits import level_zero_logits, score_logits, weighted_line
from foreshock.analysis.surfaces.cells import SURFACE, run_checkpoints, seen_until
from foreshock.analysis.surfaces.features import Reason
from foreshock.analysis.surfaces.metrics import DIRECT_METRICS, metric_series

RATE_ITSELF = "logit_rate_level0"
MEAN_ONLY = "mean_of_other_types"


def predictor_values(cells: pd.DataFrame, cutoff_idx: int) -> pd.DataFrame:
    """run, exploit_type and one column per predictor: its value at the last checkpoint seen at the cutoff.

    A lower bound without any success is put at the lowest observed one: all that is known is that it is low.
    """
    seen = seen_until(cells, cutoff_idx)
    last = seen.groupby("run")["checkpoint"].max()
    zero = level_zero_logits(seen)
    zero = zero[zero["checkpoint"] == zero["run"].map(last)]
    table = zero[[*SURFACE, "logit"]].rename(columns={"logit": RATE_ITSELF})
    for metric in DIRECT_METRICS:
        series = metric_series(seen, metric)
        series = series[series["checkpoint"] == series["run"].map(last)]
        values = series["value"].where(series["reason"] != Reason.NO_SUCCESS, series["value"].min())
        table = table.merge(series[SURFACE].assign(**{metric.value: values}), on=SURFACE, how="left")
    return table


def compare_predictors(cells: pd.DataFrame) -> pd.DataFrame:
    """Leave-one-type-out scores of each predictor of the final logit rate, per cutoff.

    Columns: cutoff_idx, predictor, n, rmse_logit, rmse_rate, deviance, q2 (1 - squared error over that of the other
    types' mean). Predictors that were not measured have n = 0.
    """
    steps = run_checkpoints(cells)
    logits = level_zero_logits(cells)
    final_step = {run: s[-1] for run, s in steps.items()}
    final = logits[logits["checkpoint"] == logits["run"].map(final_step)]
    rows: list[dict[str, object]] = []
    for cutoff in range(min(len(s) for s in steps.values()) - 1):
        table = final.merge(predictor_values(cells, cutoff), on=SURFACE, how="inner")
        baseline = _leave_one_type_out(table, None)
        for name in (MEAN_ONLY, RATE_ITSELF, *(metric.value for metric in DIRECT_METRICS)):
            predicted = baseline if name == MEAN_ONLY else _leave_one_type_out(table, name)
            scores = score_logits(predicted, table)
            both = np.isfinite(predicted) & np.isfinite(baseline)
            truth = table["logit"].to_numpy(float)
            error = ((predicted - truth)[both] ** 2).sum()
            reference = ((baseline - truth)[both] ** 2).sum()
            rows.append(
                {
                    "cutoff_idx": cutoff,
                    "predictor": name,
                    "n": scores.n,
                    "rmse_logit": scores.rmse_logit,
                    "rmse_rate": scores.rmse_rate,
                    "deviance": scores.deviance,
                    "q2": 1 - error / reference if both.any() and reference > 0 else np.nan,
                }
            )
    return pd.DataFrame(rows)


def _leave_one_type_out(table: pd.DataFrame, name: str | None) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    predicted = np.full(len(table), np.nan)
    x = np.zeros(len(table)) if name is None else table[name].to_numpy(float)
    y, variance = table["logit"].to_numpy(float), table["variance"].to_numpy(float)
    for kind in table["exploit_type"].unique():
        mine = (table["exploit_type"] == kind).to_numpy()
        train = ~mine & np.isfinite(x)
        if train.sum() >= 3:
            intercept, slope = weighted_line(x[train], y[train], variance[train])
            predicted[mine] = intercept + slope * x[mine]
    return predicted
