"""Rate models as sources of emergence features.

The hard decision: a model is refitted at every cutoff to the cells seen by then, final-checkpoint forecasts
included; one fit to everything, read off at early checkpoints, would leak the future into the features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from foreshock.analysis.forecast.exceedance import draw_paths
from foreshock.analysis.forecast.growth_model import fit_growth


@dataclass(frozen=True, slots=True)
class GrowthRates:
    """The growth model's posterior median of the log unprompted rate (see `analysis.forecast`)."""

    settings: int = 60
    draws: int = 600
    seed: int = 0

    def log_rates(self, seen: pd.DataFrame, final: dict[str, float]) -> pd.DataFrame:
        """As `RateModel.log_rates`."""
        horizon = max(final.values())
        posterior = fit_growth(seen, horizon, settings=self.settings, seed=self.seed)
        paths = draw_paths(posterior, np.unique([*final.values()]), self.draws, self.seed)
        rows = []
        for j, (run, kind) in enumerate(paths.surfaces):
            for i in range(int(posterior.data.n_steps[j])):
                rows.append((run, kind, posterior.data.steps[j, i], _median_log_rate(paths.seen[:, j, i])))
            at = int(np.searchsorted(paths.steps, final[run]))
            if final[run] > paths.last_step[j]:
                rows.append((run, kind, final[run], _median_log_rate(paths.future[:, j, at])))
        return pd.DataFrame(rows, columns=["run", "exploit_type", "checkpoint", "log_rate"])


def _median_log_rate(logits: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> float:
    """Median of log sigmoid."""
    return float(-np.logaddexp(0.0, -np.median(logits)))
