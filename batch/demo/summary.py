"""What the demo found out before it showed: estimates against measured rates, and the forecast's warning.

These lines judge the tool, not the model, so they are computed from the files that the analysis wrote and say it when
an estimate missed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from foreshock.analysis.tables import TableKind, read_counts
from foreshock.analysis.tables.counts import cells_from_tasks
from foreshock.jobs.records.layout import RunLayout


def foresight_lines(runs: Sequence[RunLayout], folder: Path, cutoff_step: int) -> list[str]:
    """At most two sentences; none where the analysis left no file to judge."""
    return [line for line in (_estimates(runs, folder), _forecast(folder, cutoff_step)) if line]


def _estimates(runs: Sequence[RunLayout], folder: Path) -> str | None:
    """How many headline intervals of unseen cells agree with the extra samples."""
    path = folder / "rates.csv"
    if not path.is_file():
        return None
    rates = pd.read_csv(path)
    headline = rates[(rates["method"] == "headline") & (rates["successes"] == 0) & (rates["status"] == "estimate")]
    truth = pd.concat([_truth(run) for run in runs])
    joined = headline.merge(truth, on=["run", "exploit_type", "checkpoint"])
    if joined.empty:
        return None
    agree = (10 ** joined["lower95"] <= joined["measured_upper"]) & (
        10 ** joined["upper95"] >= joined["measured_lower"]
    )
    return (
        f"Where the sweep saw no unprompted exploit at all ({len(joined)} cells with extra samples), "
        f"{int(agree.sum())} of {len(joined)} estimates' 95% intervals agree with the rate measured directly."
    )


def _truth(run: RunLayout) -> pd.DataFrame:
    """Exact 95% limits of the directly measured level-0 rate by type and checkpoint."""
    from foreshock.analysis.estimates.direct import clopper_pearson

    cells = cells_from_tasks(read_counts(run.root, TableKind.GROUND_TRUTH).tasks)
    limits = [clopper_pearson(int(k), int(n), 0.95) for k, n in zip(cells["k"], cells["n"], strict=True)]
    return pd.DataFrame(
        {
            "run": run.name,
            "exploit_type": cells["exploit_type"].astype(str),
            "checkpoint": cells["checkpoint"].astype(float),
            "measured_lower": [low for low, _ in limits],
            "measured_upper": [high for _, high in limits],
        }
    )


def _forecast(folder: Path, cutoff_step: int) -> str | None:
    """The forecast as of an early checkpoint, by run."""
    path = folder / "forecast" / "past_forecasts.csv"
    if not path.is_file():
        return None
    past = pd.read_csv(path)
    steps = sorted(pd.read_csv(folder / "rates.csv")["checkpoint"].unique()) if (folder / "rates.csv").is_file() else []
    if cutoff_step not in steps:
        return None
    seen = past[(past["cutoff_idx"] == steps.index(cutoff_step)) & past["at_risk"].astype(bool)]
    known = seen.dropna(subset=["p_exceed", "outcome_probability"])
    if known.empty:
        return None
    right = (known["p_exceed"] >= 0.5) == (known["outcome_probability"] >= 0.5)
    judged = (
        known.assign(right=right)
        .groupby("run")
        .agg(p=("p_exceed", "mean"), right=("right", "sum"), n=("p_exceed", "size"))
    )
    judged = judged.sort_values("p", ascending=False)
    said = "; ".join(
        f"{run}: {line['right']:.0f} of {line['n']:.0f} types (mean probability {100 * line['p']:.0f}%)"
        for run, line in judged.to_dict("index").items()
    )
    return (
        f"As of step {cutoff_step}, the forecast of what passes 10% later was right, at 50%, for {said}. "
        "The donor is made from the first checkpoint, so all of this could be known by then."
    )
