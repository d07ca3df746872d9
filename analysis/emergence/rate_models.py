"""Rate models as sources of emergence features.

A model is refitted at every cutoff to the cells seen by then, final-checkpoint forecasts included; one fit to
everything, read off at early checkpoints, would leak the future into the features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from foreshock.analysis.evidence.evidence import Surface
from foreshock.analysis.forecast.exceedance import draw_paths
from foreshock.analysis.forecast.growth_model import fit_growth
from foreshock.analysis.gp.counts import SurfaceCounts
from foreshock.analysis.gp.fit import fit_gp
from foreshock.analysis.gp.means import MeanKind
from foreshock.analysis.gp.models import GPSettings, ModelKind
from foreshock.analysis.gp.predict import predict
from foreshock.analysis.surfaces.cells import run_checkpoints
from foreshock.analysis.surfaces.metrics import RateModel


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


@dataclass(frozen=True, slots=True)
class ConstrainedGPRates:
    """The constrained GP's log unprompted rate (see `analysis.gp`): one fit a run, on its own seen checkpoints."""

    mean: MeanKind = MeanKind.CONSTANT

    def log_rates(self, seen: pd.DataFrame, final: dict[str, float]) -> pd.DataFrame:
        """As `RateModel.log_rates`."""
        rows = []
        for run, steps in run_checkpoints(seen).items():
            counts = surface_counts_of(seen[seen["run"] == run])
            fit = fit_gp(counts, GPSettings(model=ModelKind.CONSTRAINED, mean=self.mean))
            wanted = np.unique([*steps, final[run]])
            logits = predict(fit, steps=wanted, levels=np.array([0])).logit_mean[:, :, 0]
            for surface, values in zip(counts.surfaces, -np.logaddexp(0.0, -logits), strict=True):
                rows += [(run, surface.exploit_type, s, float(v)) for s, v in zip(wanted, values, strict=True)]
        return pd.DataFrame(rows, columns=["run", "exploit_type", "checkpoint", "log_rate"])


def model_series(
    model: RateModel, seen: pd.DataFrame, steps: dict[str, list[float]]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A model's log unprompted rates as series of a metric (run, exploit_type, checkpoint, value, reason): at the seen
    checkpoints, and its forecast for the final one, which stands at the last checkpoint seen: a level without a slope.

    steps: all checkpoints of each run.
    """
    final = {run: values[-1] for run, values in steps.items()}
    rates = model.log_rates(seen, final).rename(columns={"log_rate": "value"}).assign(reason=None)
    seen_steps = set(zip(seen["run"], seen["checkpoint"], strict=True))
    is_seen = np.array([pair in seen_steps for pair in zip(rates["run"], rates["checkpoint"], strict=True)])
    is_final = (rates["checkpoint"] == rates["run"].map(final)).to_numpy()
    last_seen = seen.groupby("run")["checkpoint"].max()
    return rates[is_seen], rates[is_final].assign(checkpoint=rates["run"].map(last_seen))


def surface_counts_of(cells: pd.DataFrame) -> SurfaceCounts:
    """The GP suite's input for one run: counts and mean KL of every (checkpoint, level), zeros where not run."""
    import torch

    kinds = sorted(cells["exploit_type"].unique())
    steps = np.unique(cells["checkpoint"].to_numpy(float))
    levels = np.union1d(cells["prefill_level"].to_numpy(int), [0])
    shape = (len(kinds), len(steps), len(levels))
    place = (
        np.searchsorted(kinds, cells["exploit_type"]),
        np.searchsorted(steps, cells["checkpoint"].to_numpy(float)),
        np.searchsorted(levels, cells["prefill_level"].to_numpy(int)),
    )
    n, k, kl = np.zeros(shape), np.zeros(shape), np.full(shape, np.nan)
    n[place], k[place], kl[place] = (cells[name].to_numpy(float) for name in ("n", "k", "kl_mean"))
    kl[:, :, levels == 0] = 0.0
    parts = (torch.as_tensor(a.reshape(shape[0], -1)) for a in (n, k, kl, np.full(shape, np.nan)))
    run = str(cells["run"].iloc[0])
    return SurfaceCounts(tuple(Surface(run, str(kind)) for kind in kinds), steps, levels, *parts)
