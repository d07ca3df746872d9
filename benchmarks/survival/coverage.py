"""How often 95% intervals hold the truth."""

from __future__ import annotations

import numpy as np
import pandas as pd
from benchmarks.survival.simulate import Setting, simulate, waiting_curve

from foreshock.analysis.integration.hazard import hazard_models
from foreshock.analysis.integration.survival import kaplan_meier, waits

SETTINGS = (
    Setting("30 tasks", 30, 8, 0.3, 0.1),
    Setting("100 tasks", 100, 8, 0.3, 0.1),
    Setting("300 tasks", 300, 15, 0.3, 0.1),
    Setting("few reach it", 100, 8, 0.3, 0.1, base=-4.0),
    Setting("no effect", 100, 8, 0.0, 0.0, base=-1.5),
    Setting("strong", 100, 8, 0.8, 0.3),
    Setting("unseen frailty", 100, 8, 0.3, 0.1, frailty=1.0),
)
_PREDICTORS = ("words", "logprob")


def coverage(setting: Setting, runs: int, seed: int) -> pd.DataFrame:
    """One row per predictor of the model with both, and one for the curve of tasks of equal hazard."""
    rng = np.random.default_rng([seed, setting.tasks, setting.checkpoints])
    truth = {"words": setting.words, "logprob": setting.logprob}
    held: dict[str, list[bool]] = {name: [] for name in _PREDICTORS}
    errors: dict[str, list[float]] = {name: [] for name in _PREDICTORS}
    widths: dict[str, list[float]] = {name: [] for name in _PREDICTORS}
    curve: list[bool] = []
    for _ in range(runs):
        found = hazard_models(waits(simulate(setting, rng)).intervals)["both"]
        for name in _PREDICTORS:
            if found[name] is not None:
                low, high = np.log(found[name]["lower95"]), np.log(found[name]["upper95"])
                held[name].append(bool(low <= truth[name] <= high))
                errors[name].append(float(np.log(found[name]["hazard_ratio"]) - truth[name]))
                widths[name].append(float(high - low))
        curve += _curve_holds(setting, rng)
    rows = [
        {
            "setting": setting.name,
            "what": name,
            "fitted": len(held[name]) / runs,
            "truth": truth[name],
            "bias": np.mean(errors[name]),
            "width": np.mean(widths[name]),
            "covered": np.mean(held[name]),
        }
        for name in _PREDICTORS
    ]
    nothing = {"fitted": 1.0, "truth": np.nan, "bias": np.nan, "width": np.nan}
    rows.append({"setting": setting.name, "what": "waiting"} | nothing | {"covered": np.mean(curve)})
    return pd.DataFrame(rows)


def _curve_holds(setting: Setting, rng: np.random.Generator) -> list[bool]:
    """Whether Kaplan-Meier limits hold the true curve, at every step where they exist, with one hazard for all."""
    rate = float(np.exp(setting.base))
    flat = Setting(setting.name, setting.tasks, setting.checkpoints, 0.0, 0.0, base=setting.base)
    tasks = waits(simulate(flat, rng)).tasks.assign(accessibility=0.5)
    curves, _ = kaplan_meier(tasks)
    truth = waiting_curve(rate, np.unique(np.round(np.geomspace(5, 200, setting.checkpoints))))
    known = curves.dropna(subset=["lower95"])
    return [bool(row.lower95 <= truth[row.steps] <= row.upper95) for row in known.itertuples()]
