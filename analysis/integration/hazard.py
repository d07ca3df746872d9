"""Discrete-time hazard of reaching the threshold, by words and by log-probability, with censored tasks included.

Between two checkpoints a task that waits reaches the threshold with probability 1 - exp(-exp(a + b x)), where x is
measured at the earlier checkpoint and every interval has an a of its own. exp(b) is then the hazard ratio of Cox's
proportional hazards model for times that are only known to lie between two checkpoints (Prentice and Gloeckler
1978, Biometrics 34). Needs statsmodels (the extra `survival`).
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from foreshock.analysis.integration.survival import FloatArray, task_keys

MODELS = {"words_all_rows": ("words",), "words": ("words",), "logprob": ("logprob",), "both": ("words", "logprob")}
"""Predictors of each model; all but the first use the rows that have a log-probability."""
_UNIT = 10.0
"""Hazard ratios are per 10 words and per 10 nats."""
_MIN_EVENTS = 5
_LARGEST_LOG = 700.0
"""Log hazard ratios beyond it have no number."""

_WIDEST = 4.5
"""More standard errors than a 95% limit is away, at the fewest tasks that are fitted."""

_SEPARATED = 1e-3
"""Largest error of any fitted probability at which the fit counts as perfect separation."""


def hazard_models(intervals: pd.DataFrame) -> dict[str, Any]:
    """Per model of `MODELS`: n_intervals, n_tasks, n_reached, and per predictor hazard ratio with 95% limits and p.

    A hazard ratio above 1 means sooner. Words: per 10 words *fewer*; log-probability: per 10 nats *more*. Standard
    errors are clustered by task where that makes them larger. Where none can be fitted numbers are null, with `reason`.
    """
    rows = intervals.dropna(subset=["words"])
    common = rows.dropna(subset=["logprob"])
    return {name: _fit(rows if name == "words_all_rows" else common, which) for name, which in MODELS.items()}


def _fit(rows: pd.DataFrame, predictors: tuple[str, ...]) -> dict[str, Any]:
    rows = _informative(rows)
    tasks = task_keys(rows)
    reached = rows["reached_next"].to_numpy(dtype=np.float64)
    out: dict[str, Any] = {"n_intervals": len(rows), "n_tasks": len(np.unique(tasks)), "n_reached": int(reached.sum())}
    nothing = dict.fromkeys(predictors)
    if reached.sum() < _MIN_EVENTS:
        return out | nothing | {"reason": f"{int(reached.sum())} tasks reach the threshold; at least {_MIN_EVENTS}"}
    flat = [name for name in predictors if np.ptp(rows[name].to_numpy(dtype=np.float64)) == 0]
    if flat:
        return out | nothing | {"reason": f"{flat[0]} is the same in every row"}
    signs = {"words": -1.0, "logprob": 1.0}
    x = np.column_stack([signs[name] * rows[name].to_numpy(dtype=np.float64) / _UNIT for name in predictors])
    try:
        slopes, errors = _cloglog(x, reached, rows, tasks)
    except ModuleNotFoundError:
        return out | nothing | {"reason": "needs statsmodels: pip install 'foreshock[survival]'"}
    except (ArithmeticError, np.linalg.LinAlgError) as error:
        return out | nothing | {"reason": str(error)}
    quantile = float(stats.t.ppf(0.975, out["n_tasks"] - 1))
    for name, slope, width in zip(predictors, slopes, errors, strict=True):
        out[name] = {
            "hazard_ratio": float(np.exp(slope)),
            "lower95": float(np.exp(slope - quantile * width)),
            "upper95": float(np.exp(slope + quantile * width)),
            "p": float(2 * stats.t.sf(abs(slope) / width, out["n_tasks"] - 1)),
        }
    return out | {"reason": None}


def _informative(rows: pd.DataFrame) -> pd.DataFrame:
    """Without intervals in which no waiting task, or every one, reaches the threshold: they say nothing of b."""
    share = rows.groupby(["step", "next_step"])["reached_next"].transform("mean").astype(float)
    return rows[(share > 0) & (share < 1)]


def _cloglog(x: FloatArray, reached: FloatArray, rows: pd.DataFrame, tasks: npt.NDArray[np.str_]) -> tuple[Any, Any]:
    """Slopes of `x` and their standard errors, clustered or the likelihood's, whichever is larger.

    Raises ArithmeticError where none are finite.
    """
    from statsmodels.genmod.families import Binomial, links
    from statsmodels.genmod.generalized_linear_model import GLM

    interval = rows.groupby(["step", "next_step"]).ngroup().to_numpy()
    dummies = np.eye(int(interval.max()) + 1)[interval]
    centred = x - x.mean(axis=0)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            model = GLM(reached, np.column_stack([centred, dummies]), family=Binomial(link=links.CLogLog()))
            groups = np.unique(tasks, return_inverse=True)[1]
            fit = model.fit(maxiter=200, cov_type="cluster", cov_kwds={"groups": groups})
        except ValueError as error:
            raise ArithmeticError(f"no hazard could be fitted ({error})") from None
        size = x.shape[1]
        # The sandwich is too small where few tasks reach the threshold; the likelihood's own errors, where tasks differ
        # by what is not measured. The larger one holds in either case.
        likely = np.sqrt(np.diag(np.asarray(fit.normalized_cov_params)))[:size]
        slopes, errors = np.asarray(fit.params)[:size], np.maximum(np.asarray(fit.bse)[:size], likely)
        apart = np.abs(np.asarray(fit.mu) - reached).max() < _SEPARATED
        finite = np.isfinite(slopes).all() and (np.abs(slopes) + _WIDEST * errors < _LARGEST_LOG).all()
    if apart or not fit.converged or not finite or not (errors > 0).all():
        raise ArithmeticError("the measure separates the tasks perfectly (or nearly), so its slope has no finite value")
    return slopes, errors
