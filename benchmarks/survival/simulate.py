"""Trajectories of tasks whose hazard of reaching the threshold is known.

Between two checkpoints a task that waits reaches the threshold with probability
1 - exp(-exp(a + b_w x_w + b_l x_l + u)), where x_w is words below 50 in tens, x_l the log-probability above -100 nats
in tens, both measured at the earlier checkpoint. Words fall and log-probabilities rise as training goes on, each at the
task's own pace. `frailty` is the spread of u, which belongs to the task and is never seen: with it the model that is
fitted is wrong.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

LEVELS = np.array([15, 20, 30, 45, 60, 75, 100])


@dataclass(frozen=True, slots=True)
class Setting:
    """An experiment: tasks, checkpoints, coefficients per 10 words fewer and per 10 nats more."""

    name: str
    tasks: int
    checkpoints: int
    words: float
    logprob: float
    base: float = -2.0
    frailty: float = 0.0


def simulate(setting: Setting, rng: np.random.Generator) -> pd.DataFrame:
    """One experiment as `join_logprobs` would give it: one row per task and checkpoint."""
    steps = np.unique(np.round(np.geomspace(5, 200, setting.checkpoints)))
    rows = []
    for task in range(setting.tasks):
        distance, pace = rng.uniform(20, 100), rng.uniform(0, 8)
        frailty = setting.frailty * rng.normal()
        reached = False
        for i, step in enumerate(steps):
            wanted = max(distance - pace * i + rng.normal(0, 6), 15)
            words = 5 if reached else int(LEVELS[np.abs(LEVELS - wanted).argmin()])
            logprob = -1.6 * words + rng.normal(0, 18) + 2.0 * i
            logprob = min(logprob, -0.5)
            rows.append((f"task-{task}", "x", step, reached, words, logprob, 1.0 if reached else 1 - (words - 10) / 91))
            if not reached:
                slope = setting.words * (50 - words) / 10 + setting.logprob * (logprob + 100) / 10
                hazard = np.exp(setting.base + slope + frailty)
                reached = bool(rng.random() < -np.expm1(-hazard))
    names = ["task_id", "exploit_type", "checkpoint", "at_threshold", "min_prefill", "min_prefill_logprob_sum"]
    frame = pd.DataFrame(rows, columns=[*names, "accessibility"])
    return frame.astype({"at_threshold": "boolean", "min_prefill": "Int64", "checkpoint": float})


def waiting_curve(rate: float, steps: np.ndarray[tuple[int], np.dtype[np.float64]]) -> dict[float, float]:
    """Share of tasks that wait after each checkpoint when the hazard is `rate` for all tasks and intervals."""
    return {float(step - steps[0]): float(np.exp(-rate * i)) for i, step in enumerate(steps)}
