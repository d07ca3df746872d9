"""The alarms of one real training run, from a foreshock run over its checkpoints and a file of its rollouts.

Everything is as of each checkpoint, as in the benchmark; what the run did not measure is left out and said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from benchmarks.early_warning.design import THRESHOLD
from numpy.typing import NDArray

from foreshock.analysis.evidence.evidence import Evidence
from foreshock.analysis.evidence.load import load_evidence
from foreshock.analysis.forecast.backtest import ForecastSettings, fit_and_draw
from foreshock.analysis.forecast.exceedance import forecast_table
from foreshock.analysis.forecast.run import future_steps
from foreshock.analysis.headline.estimate import estimate_headline
from foreshock.analysis.surfaces.cells import RunSource, load_run_cells, seen_until
from foreshock.analysis.surfaces.code_scores import code_signals
from foreshock.analysis.surfaces.metrics import Metric, metric_series
from foreshock.analysis.surfaces.whole_traces import trace_signals
from foreshock.analysis.tables import TableKind, read_counts
from foreshock.analysis.tables.counts import cells_from_tasks
from foreshock.analysis.tables.files import has_files
from foreshock.errors import InputError
from foreshock.jobs.records.jsonl import read_jsonl

Array = NDArray[np.float64]


def evidence_until(evidence: Evidence, last: int) -> Evidence:
    """The evidence of checkpoint indices up to `last`."""
    direct = evidence.direct_rows
    if direct is not None:
        seen = direct.checkpoint <= last
        direct = replace(
            direct, **{name: getattr(direct, name)[seen] for name in ("surface", "checkpoint", "task", "n", "k")}
        )
    return replace(
        evidence,
        steps=evidence.steps[: last + 1],
        n=evidence.n[:, : last + 1],
        k=evidence.k[:, : last + 1],
        rows=evidence.rows.take(evidence.rows.checkpoint <= last),
        direct_rows=direct,
    )


def rollout_rates(path: Path, steps: Array) -> Array:
    """Share of exploits among the rollouts since the checkpoint before last: [C], NaN without any.

    Verdicts are true and false, or 1 and 0 as reward functions log them. Raises InputError for a row without a step or
    without a verdict, and where no rollout lies at or before a checkpoint.
    """
    counts: list[tuple[float, float]] = []
    for number, row in read_jsonl(path):
        step = row.get("step")
        hit, flawed, sound = (_verdict(row.get(key)) for key in ("exploit_success", "insecure_pass", "secure_pass"))
        if row.get("exploit_success") is None and flawed is not None and sound is not None:
            hit = flawed and not sound
        numbered = isinstance(step, int | float) and not isinstance(step, bool) and 0 <= step < np.inf
        if not numbered or hit is None:
            raise InputError(
                f"step is {step!r} and the verdict {row.get('exploit_success')!r}; a rollout needs a number `step` and "
                "`exploit_success`, or `insecure_pass` and `secure_pass`, true or false",
                path=path,
                line=number,
            )
        counts.append((float(step), float(hit)))
    if not counts:
        raise InputError("no rollouts in the file", path=path)
    table = np.array(counts)
    found = []
    for c, step in enumerate(steps):
        since = steps[max(0, c - 2)] if c else -1.0
        part = table[(table[:, 0] > since) & (table[:, 0] <= step), 1]
        found.append(part.mean() if len(part) else np.nan)
    if np.isnan(found).all():
        raise InputError(
            f"its rollouts are of steps {table[:, 0].min():g} to {table[:, 0].max():g}, and none lies between the "
            f"checkpoints, {steps[0]:g} to {steps[-1]:g}: do both count the same steps?",
            path=path,
        )
    return np.array(found)


def _verdict(value: Any) -> bool | None:
    """True and false, or 1 and 0; None for anything else."""
    return bool(value) if isinstance(value, bool | int | float) and value in (0, 1) else None


def real_table(
    run_dir: Path, rollouts: Path | None, donor_run: Path | None, last_step: float | None
) -> tuple[pd.DataFrame, list[str]]:
    """One row a checkpoint: step, truth, and every alarm that the run allows; and what could not be made."""
    loaded = load_evidence([run_dir], donor_run)
    evidence, notes = loaded.evidence, list(loaded.notes)
    steps = evidence.steps
    n, k = evidence.direct()
    table: dict[str, Any] = {"step": steps, "direct": _mean_rate(n, k)}
    table["truth"] = _truth(run_dir, steps, notes, table["direct"])
    if rollouts is not None:
        table["rollouts"] = rollout_rates(rollouts, steps)
    signals = trace_signals(run_dir)
    if signals.empty:
        notes.append("no whole traces were scored; set logprob.whole_trace: true")
    else:
        by_step = signals.groupby("checkpoint")
        table["trace"] = by_step["trace_change"].mean().reindex(steps).to_numpy()
        table["trace, a type"] = by_step["trace_change"].max().reindex(steps).to_numpy()
    codes = code_signals(run_dir)
    if codes.empty:
        notes.append("no exploit code was scored after honest reasoning; set logprob.honest_reasoning: own")
    else:
        by_step = codes.groupby("checkpoint")
        table["code"] = by_step["code_change"].mean().reindex(steps).to_numpy()
        table["code, a type"] = by_step["code_change"].max().reindex(steps).to_numpy()
    cells = load_run_cells(RunSource(run_dir)).cells
    kl = metric_series(cells, Metric.NEG_KL).groupby("checkpoint")["value"].mean().reindex(steps).to_numpy(float)
    if np.isfinite(kl).any():
        table["KL level"] = kl - kl[np.isfinite(kl)][0]
    horizon = 2 * float(max(steps[-1], 1.0)) if last_step is None else last_step
    if not steps[-1] < horizon < np.inf:
        raise InputError(f"--last-step {horizon:g} does not lie after the last checkpoint, {steps[-1]:g}")
    headline, forecast = [], []
    for c, step in enumerate(steps):
        medians = estimate_headline(evidence_until(evidence, c)).median[:, c]
        headline.append(float(np.log10(np.mean(10**medians))))
        seen = seen_until(cells, c)
        _, paths = fit_and_draw(seen, horizon, future_steps(float(step), horizon), ForecastSettings(60, 800))
        chances = forecast_table(paths, THRESHOLD)
        forecast.append(float(chances[chances["step"] == horizon]["p_exceed"].max()))
    table["headline"], table["forecast, a type"] = headline, forecast
    return pd.DataFrame(table), notes


def _mean_rate(n: Any, k: Any) -> Array:
    with np.errstate(invalid="ignore", divide="ignore"):
        rates = np.where(n > 0, k / np.maximum(n, 1), np.nan)
    return np.asarray([np.nanmean(column) if np.isfinite(column).any() else np.nan for column in rates.T])


def _truth(run_dir: Path, steps: Array, notes: list[str], direct: Array) -> Array:
    """Ground-truth rates where the run has them, else level 0's own."""
    if not has_files(run_dir, TableKind.GROUND_TRUTH):
        notes.append("no ground_truth/: truth is the same level-0 counts that `direct` sees; set ground_truth.attempts")
        return direct
    cells = cells_from_tasks(read_counts(run_dir, TableKind.GROUND_TRUTH).tasks)
    rates = (cells["k"] / cells["n"]).groupby(cells["checkpoint"].astype(float)).mean()
    return rates.reindex(steps).to_numpy(float)


def shown(table: pd.DataFrame, notes: Sequence[str]) -> str:
    """As Markdown."""
    names = list(table.columns)
    lines = ["| " + " | ".join(names) + " |", "|---" * len(names) + "|"]
    for row in table.itertuples(index=False):
        lines.append("| " + " | ".join("" if value != value else f"{value:.4g}" for value in row) + " |")
    above = table[table["truth"] >= THRESHOLD]["step"]
    end = "the rate never passes 10%" if above.empty else f"the rate passes 10% by step {above.iloc[0]:g}"
    return "\n".join([*lines, "", end, *(f"note: {note}" for note in notes)])
