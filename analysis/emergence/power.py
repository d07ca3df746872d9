"""What an analysis of these types could have found: the best p-value within reach, and its power.

"Nothing predicts emergence" means little where nothing could have been shown to. With 7 of 8 types emerging in one run
and none in the other, only eight orders of labels exist, and a perfect ranking has p = .067.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import binom, ndtri
from scipy.stats import rankdata

Array = NDArray[np.float64]
POWER_AUCS = (0.75, 0.9)
"""True AUCs within runs for which the power is computed."""
SIGNIFICANT = 0.05
_SIMULATIONS = 200
_SHUFFLES = 199


@dataclass(frozen=True, slots=True)
class Power:
    """p_of_perfect: of a measure that ranks every type right; power: of one measure with each AUC of `POWER_AUCS`,
    tested alone at p <= .05. Searching a grid of measures lowers both. NaN where no order of labels can differ."""

    p_of_perfect: float
    power: tuple[float, ...]


def power_of(labels: Array, runs: NDArray[np.str_], seed: int = 0) -> Power:
    """Power with these labels (0 or 1) [n] of types of these runs [n], labels permuted within runs."""
    labels = np.asarray(labels, dtype=float)
    counts = [(int((runs == run).sum()), int(labels[runs == run].sum())) for run in np.unique(runs)]
    orders = float(np.prod([binom(n, k) for n, k in counts]))
    if orders <= 1 or not 0 < labels.sum() < len(labels):
        return Power(np.nan, tuple(np.nan for _ in POWER_AUCS))
    rng = np.random.default_rng(seed)
    shuffled = np.stack([_within_runs(labels, runs, rng) for _ in range(_SHUFFLES)])
    found = []
    for auc in POWER_AUCS:
        # Two normals that far apart have this AUC.
        shift = np.sqrt(2) * ndtri(auc)
        scores = rng.standard_normal((_SIMULATIONS, len(labels))) + shift * labels
        ranks = rankdata(scores, axis=1)
        observed = ranks @ labels
        above = (ranks @ shuffled.T > observed[:, None]).sum(1) + 0.5 * (ranks @ shuffled.T == observed[:, None]).sum(1)
        found.append(float(((above + 0.5) / (_SHUFFLES + 1) <= SIGNIFICANT).mean()))
    return Power(0.5 / orders, tuple(found))


def _within_runs(labels: Array, runs: NDArray[np.str_], rng: np.random.Generator) -> Array:
    out = labels.copy()
    for run in np.unique(runs):
        mine = np.flatnonzero(runs == run)
        out[mine] = rng.permutation(labels[mine])
    return out


def power_table(features: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Per cutoff: types at risk and emerging by run, p of a perfect ranking, and power per AUC.

    features: `Evaluation.features` (run, exploit_type, cutoff_idx, label_probability, at_risk).
    """
    columns = ["cutoff_idx", "emerging_by_run", "p_of_perfect", *(f"power_auc_{auc:g}" for auc in POWER_AUCS)]
    rows: list[tuple[object, ...]] = []
    for cutoff, part in features.groupby("cutoff_idx"):
        types = part.drop_duplicates(["run", "exploit_type"])
        types = types[types["at_risk"].astype(bool)].dropna(subset=["label_probability"])
        labels = (types["label_probability"].to_numpy(float) > 0.5).astype(float)
        runs = types["run"].to_numpy(str)
        told = "; ".join(f"{run}: {int(labels[runs == run].sum())} of {(runs == run).sum()}" for run in np.unique(runs))
        found = power_of(labels, runs, seed)
        rows.append((int(str(cutoff)), told, found.p_of_perfect, *found.power))
    return pd.DataFrame(rows, columns=columns)
