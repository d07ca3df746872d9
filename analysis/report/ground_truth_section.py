"""The ground-truth section: directly measured level-0 rates against what the sweep and the estimators said."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from markupsafe import Markup
from scipy import stats
from scipy.special import ndtri

from foreshock.analysis.figures import SavedFigure, write_csv
from foreshock.analysis.figures.palette import RunLooks
from foreshock.analysis.figures.runs import clopper_pearson, estimates_figure, truth_figure
from foreshock.analysis.page.sections import ReportTable, Section, html_table, paragraph
from foreshock.analysis.report.gather import RunFindings
from foreshock.analysis.tables.own_csv import read_csv
from foreshock.errors import InputError
from foreshock.jobs.records.layout import RunLayout

HEADLINE = "headline"
_ESTIMATE = "estimate"
_GRID = 200
_TAIL = 0.025
_Z95 = 1.959964
_RATE_COLUMNS = ("run", "exploit_type", "checkpoint", "method", "log10_rate", "lower95", "upper95")


def truth_section(runs: Sequence[RunFindings], rates: pd.DataFrame | None, looks: RunLooks) -> Section | None:
    """The section, or None when no run holds ground truth. `rates`: rows of rates.csv for any of the runs."""
    measured = [run for run in runs if run.truth is not None]
    if not measured:
        return None
    figures: list[SavedFigure] = []
    tables: list[ReportTable] = []
    for run in measured:
        directory = RunLayout(run.run_dir).analysis / "ground_truth"
        table = by_checkpoint(run)
        figure = truth_figure(table, directory, "ground_truth", run.label, looks.colour(run.label))
        figures.append(replace(figure, title=f"{run.label}: {figure.title}") if len(runs) > 1 else figure)
        per_type = by_type(run)
        tables.append(ReportTable(f"{run.label}: measured rates by exploit type",
                                  write_csv(per_type, directory / "measured_rates.csv")))  # fmt: skip
    body = paragraph(
        "At chosen checkpoints many more samples were drawn without any prefill. They give the unprompted rate "
        "directly, so estimates made from the sweep alone can be checked."
    )
    compared = None if rates is None else compare_estimates(measured, rates)
    if compared is not None and len(compared):
        directory = RunLayout(measured[0].run_dir).analysis / "ground_truth"
        drawn = compared.dropna(subset=["log10_rate", "lower95"])
        if len(drawn):
            figures.append(estimates_figure(drawn, directory, HEADLINE, looks))
        body += _agreement(compared)
    else:
        body += html_table(_wide(measured))
    return Section(
        title="Ground truth",
        anchor="ground-truth",
        lead="How often the checkpoints exploit when simply asked many more times.",
        body_html=body,
        figures=tuple(figures),
        tables=tuple(tables),
    )


def by_type(run: RunFindings) -> pd.DataFrame:
    """run, exploit_type, checkpoint, n, k, rate, lower95, upper95 of the extra samples."""
    assert run.truth is not None
    cells = run.truth.cells
    cells = cells[cells["prefill_level"] == 0].reset_index(drop=True)
    lower, upper = clopper_pearson(cells["k"].to_numpy(), cells["n"].to_numpy())
    return cells.drop(columns=["prefill_level"]).assign(rate=cells["k"] / cells["n"], lower95=lower, upper95=upper)


def by_checkpoint(run: RunFindings) -> pd.DataFrame:
    """checkpoint, source (measured, sweep), n, k, rate, lower95, upper95, over all exploit types."""
    assert run.truth is not None
    parts = []
    for source, cells in (("measured", run.truth.cells), ("sweep", run.counts.cells)):
        zero = cells[cells["prefill_level"] == 0].groupby("checkpoint")[["n", "k"]].sum().reset_index()
        zero.insert(1, "source", source)
        parts.append(zero)
    data = pd.concat(parts, ignore_index=True)
    data = data[data["checkpoint"].isin(parts[0]["checkpoint"])].reset_index(drop=True)
    lower, upper = clopper_pearson(data["k"].to_numpy(), data["n"].to_numpy())
    return data.assign(rate=data["k"] / data["n"], lower95=lower, upper95=upper)


def compare_estimates(runs: Sequence[RunFindings], rates: pd.DataFrame) -> pd.DataFrame:
    """Headline estimates and bounds beside measurements, one row per (run, exploit type, checkpoint) that has both.

    Raises:
        InputError: `rates` lacks columns.
    """
    missing = [name for name in _RATE_COLUMNS if name not in rates.columns]
    if missing:
        raise InputError(f"rates.csv lacks the columns {', '.join(missing)}", fix="`foreshock rates` writes it")
    parts = []
    for run in runs:
        truth = by_type(run).rename(
            columns={name: f"measured_{name}" for name in ("n", "k", "rate", "lower95", "upper95")}
        )
        mine = rates[(rates["run"] == run.run_dir.resolve().name) & (rates["method"] == HEADLINE)]
        truth["exploit_type"] = truth["exploit_type"].astype(str)
        # Tables without a status are taken at their word: every row an estimate.
        mine = mine.assign(status=mine.get("status", _ESTIMATE))
        mine = mine[["exploit_type", "checkpoint", "log10_rate", "lower95", "upper95", "status"]]
        # A bound may lack a median and one limit; an estimate has all.
        mine = mine.dropna(subset=["upper95", "status"])
        mine = mine[(mine["status"] != _ESTIMATE) | mine[["log10_rate", "lower95"]].notna().all(axis=1)]
        mine = mine.assign(checkpoint=_steps(mine["checkpoint"]), exploit_type=mine["exploit_type"].astype(str))
        truth["checkpoint"] = truth["checkpoint"].astype(np.float64)
        joined = truth.drop(columns=["run", "n_tasks"]).merge(mine, on=["exploit_type", "checkpoint"])
        joined.insert(0, "run", run.label)
        parts.append(joined)
    return pd.concat(parts, ignore_index=True)


def _steps(column: pd.Series[Any]) -> pd.Series[float]:
    return column.astype(str).replace("final", "inf").astype(np.float64)


def predictive_coverage(compared: pd.DataFrame) -> pd.DataFrame:
    """Whether each measured count lies in the 95% predictive interval of its estimate.

    The log10 rate is taken as two half normals that meet at the median and have the estimate's 95% limits; the count
    is binomial given the rate. Columns: covered, expected (chance of that under the prediction itself; about .95 or
    more, since counts are whole), below (the measurement is lower than predicted), above.
    """
    middle, lower, upper = (compared[name].to_numpy(float)[:, None] for name in ("log10_rate", "lower95", "upper95"))
    places = (np.arange(_GRID) + 0.5) / _GRID
    normal = ndtri(places)[None, :]
    spread = np.where(normal < 0, middle - lower, upper - middle) / _Z95
    rate = np.minimum(10.0 ** (middle + spread * normal), 1.0)
    k, n = compared["measured_k"].to_numpy(int), compared["measured_n"].to_numpy(int)

    def at_most(count: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        return np.asarray(np.mean(np.asarray(stats.binom.cdf(count[:, None], n[:, None], rate)), axis=1))

    # The count's quantiles: the least with P(K <= it) above the tail, and above one minus the tail.
    least, most = _first_above(at_most, n, _TAIL), _first_above(at_most, n, 1 - _TAIL)
    return pd.DataFrame(
        {
            "covered": (k >= least) & (k <= most),
            "expected": at_most(most) - at_most(least - 1),
            "below": k < least,
            "above": k > most,
        },
        index=compared.index,
    )


def _first_above(
    at_most: Callable[[npt.NDArray[np.int64]], npt.NDArray[np.float64]], n: npt.NDArray[np.int64], share: float
) -> npt.NDArray[np.int64]:
    """The least count in [0, n] whose `at_most` exceeds `share`, by bisection, for all cells at once."""
    low, high = np.zeros_like(n), n.copy()
    while (low < high).any():
        middle = (low + high) // 2
        enough = at_most(middle) > share
        low, high = np.where(enough, low, np.minimum(middle + 1, high)), np.where(enough, middle, high)
    return low


def _agreement(compared: pd.DataFrame) -> Markup:
    estimates = compared[compared["status"] == _ESTIMATE]
    body = Markup("")
    if len(estimates):
        found = predictive_coverage(estimates)
        text = (
            f"Of {len(found)} cells labelled estimate, {int(found['covered'].sum())} measured counts "
            f"({100 * found['covered'].mean():.0f}%) lie in the 95% predictive interval of the estimate; "
            f"{100 * found['expected'].mean():.0f}% would if the intervals were right (counts are whole, so a little "
            f"more than 95%). {int(found['above'].sum())} counts are higher than predicted, "
            f"{int(found['below'].sum())} lower. Cells of one type share prefill traces, so they are fewer than they "
            "look."
        )
        seen = estimates[estimates["measured_k"] > 0]
        if len(seen):
            error = np.log10(seen["measured_rate"]) - seen["log10_rate"]
            rms = float(np.sqrt((error**2).mean()))
            text += (
                f" Where exploits were measured ({len(seen)} cells), the estimate is off by {rms:.2f} decades (RMS), "
                "the count's own error included."
            )
        body += paragraph(text)
    bounds = compared[compared["status"] != _ESTIMATE]
    if len(bounds):
        k, n = bounds["measured_k"].to_numpy(int), bounds["measured_n"].to_numpy(int)
        limit = np.minimum(10.0 ** bounds["upper95"].to_numpy(float), 1.0)
        held = int(np.sum(np.asarray(stats.binom.sf(k - 1, n, limit)) > _TAIL))
        body += paragraph(
            f"Of {len(bounds)} cells labelled a bound, {held} measured counts are compatible with the upper limit."
        )
    return body


def _wide(runs: Sequence[RunFindings]) -> pd.DataFrame:
    parts = []
    for run in runs:
        data = by_checkpoint(run)
        for step, rows in data.groupby("checkpoint"):
            entry: dict[str, object] = {"run": run.label, "checkpoint": step}
            row: Any
            for row in rows.itertuples():
                entry[f"{row.source}"] = f"{row.k}/{row.n}"
                entry[f"{row.source} rate, 95%"] = f"{_short(row.rate)}% ({_short(row.lower95)}–{_short(row.upper95)})"
            parts.append(entry)
    return pd.DataFrame(parts)


def _short(rate: float) -> str:
    percent = 100 * rate
    if percent in (0.0, 100.0):
        return f"{percent:.0f}"
    return f"{percent:.2f}" if percent < 1 else f"{percent:.1f}" if percent < 9.95 else f"{percent:.0f}"


def find_rates(run_dirs: Sequence[Path]) -> pd.DataFrame | None:
    """rates.csv of the runs, from analysis/ or analysis/rates/ of any of them; None if there is none."""
    found = []
    for run_dir in run_dirs:
        analysis = RunLayout(run_dir).analysis
        for path in (analysis / "rates.csv", analysis / "rates" / "rates.csv"):
            if path.is_file():
                found.append(read_csv(path))
    return pd.concat(found, ignore_index=True).drop_duplicates() if found else None
