"""What each exploit type of each run has come to and may come to: the rows that the report's answer is made of.

Every row says what it rests on. A rate is an estimate or a bound with its reason; a forecast that is the prior's alone
counts as not known.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from foreshock.analysis.figures.runs import clopper_pearson
from foreshock.analysis.report.gather import RunFindings
from foreshock.analysis.surfaces.labels import DEFAULT_THRESHOLD
from foreshock.analysis.tables.own_csv import read_csv

HEADLINE = "headline"
_POSSIBLE = 0.1


class State(StrEnum):
    """Where a type stands; the value is how the report calls it."""

    EMERGED = "emerged"
    PROBABLY = "probably emerged"
    FORESEEN = "foreseen"
    POSSIBLE = "possible"
    UNLIKELY = "unlikely"
    UNKNOWN = "not known"


@dataclass(frozen=True, slots=True)
class Rate:
    """An unprompted rate: `value` is None for a bound. `reason` says why it is one. `counted`: no model behind it."""

    value: float | None
    lower: float
    upper: float
    reason: str
    counted: bool = False


@dataclass(frozen=True, slots=True)
class Outlook:
    """One exploit type of one run. `since` is the first checkpoint at which counts alone show it above the threshold;
    `median`, `earliest`, `latest` are steps, None beyond the horizon."""

    run: str
    exploit_type: str
    step: float
    k: int
    n: int
    exploits_anywhere: int
    rate: Rate | None
    state: State
    since: float | None = None
    probability: float | None = None
    median: float | None = None
    earliest: float | None = None
    latest: float | None = None
    rests_on: str = ""


@dataclass(frozen=True, slots=True)
class Forecast:
    """times: rows of time_to_threshold.csv; None where there is no forecast. horizon: None if unknown."""

    times: pd.DataFrame | None = None
    horizon: float | None = None
    threshold: float = DEFAULT_THRESHOLD


def find_forecast(folders: Sequence[Path]) -> Forecast:
    """The forecast that lies in `forecast/` of any of these folders, if it is whole."""
    tables, summaries = [], []
    for folder in folders:
        times, summary = folder / "forecast" / "time_to_threshold.csv", folder / "forecast" / "summary.json"
        if times.is_file() and summary.is_file():
            tables.append(read_csv(times))
            summaries.append(json.loads(summary.read_text()))
    if not tables:
        return Forecast()
    horizons = {float(summary["horizon"]) for summary in summaries}
    rows = pd.concat(tables, ignore_index=True).drop_duplicates(["run", "exploit_type"])
    return Forecast(rows, horizons.pop() if len(horizons) == 1 else None, float(summaries[0]["threshold"]))


def outlooks(run: RunFindings, rates: pd.DataFrame | None, forecast: Forecast) -> list[Outlook]:
    """Every exploit type of a run, by name. `rates`: rows of rates.csv for any runs."""
    cells = run.counts.cells.assign(exploit_type=run.counts.cells["exploit_type"].astype(str))
    zero = cells[cells["prefill_level"] == 0].sort_values("checkpoint")
    found = []
    for kind, own in cells.groupby("exploit_type", sort=True):
        mine = zero[zero["exploit_type"] == kind]
        found.append(_outlook(run, str(kind), int(own["k"].sum()), mine, rates, forecast))
    return found


def _outlook(
    run: RunFindings, kind: str, anywhere: int, zero: pd.DataFrame, rates: pd.DataFrame | None, forecast: Forecast
) -> Outlook:
    last = float(run.pooled["checkpoint"].max())
    now = zero[zero["checkpoint"] == last]
    k, n = (int(now["k"].sum()), int(now["n"].sum()))
    since = _since(zero, forecast.threshold)
    rate = _estimated(run, kind, last, rates) or _counted(k, n)
    row = _row_of(run, kind, forecast.times)
    facts: dict[str, Any] = {}
    if row is not None:
        facts = {
            "probability": float(row["p_by_horizon"]),
            "median": _known(row["step_median"]),
            "earliest": _known(row["step_lower90"]),
            "latest": _known(row["step_upper90"]),
            "rests_on": str(row.get("rests_on", "")),
        }
    state = _state(since, row, rate, forecast.threshold)
    return Outlook(run.label, kind, last, k, n, anywhere, rate, state, since=since, **facts)


def _since(zero: pd.DataFrame, threshold: float) -> float | None:
    """The first checkpoint whose count alone (exact 95% interval) puts the rate above the threshold."""
    if zero.empty:
        return None
    lower, _ = clopper_pearson(zero["k"].to_numpy(), zero["n"].to_numpy())
    above = zero["checkpoint"].to_numpy(dtype=np.float64)[lower > threshold]
    return float(above[0]) if len(above) else None


def _state(since: float | None, row: pd.Series[Any] | None, rate: Rate | None, threshold: float) -> State:
    if since is not None:
        return State.EMERGED
    if row is None:
        above = rate is not None and rate.value is not None and not rate.counted and rate.value > threshold
        return State.PROBABLY if above else State.UNKNOWN
    if row["status"] == "emerged":
        return State.PROBABLY
    if row.get("rests_on") == "prior":
        return State.UNKNOWN
    chance = float(row["p_by_horizon"])
    return State.FORESEEN if chance >= 0.5 else State.POSSIBLE if chance >= _POSSIBLE else State.UNLIKELY


def _row_of(run: RunFindings, kind: str, times: pd.DataFrame | None) -> pd.Series[Any] | None:
    if times is None:
        return None
    mine = times[times["run"].isin([run.label, run.run_dir.resolve().name]) & (times["exploit_type"] == kind)]
    return None if mine.empty else mine.iloc[0]


def _estimated(run: RunFindings, kind: str, step: float, rates: pd.DataFrame | None) -> Rate | None:
    """The headline row of a type at a checkpoint."""
    if rates is None:
        return None
    mine = rates[
        (rates["run"] == run.run_dir.resolve().name)
        & (rates["method"] == HEADLINE)
        & (rates["exploit_type"].astype(str) == kind)
        & (rates["checkpoint"].astype(str).replace("final", "inf").astype(np.float64) == step)
    ]
    if mine.empty:
        return None
    row = mine.iloc[0]
    low = 0.0 if pd.isna(row["lower95"]) else 10.0 ** float(row["lower95"])
    high = 1.0 if pd.isna(row["upper95"]) else min(1.0, 10.0 ** float(row["upper95"]))
    estimate = str(row.get("status", "estimate")) == "estimate" and not pd.isna(row["log10_rate"])
    reason = "" if estimate or pd.isna(row.get("reason")) else str(row["reason"])
    return Rate(10.0 ** float(row["log10_rate"]) if estimate else None, low, high, reason)


def _counted(k: int, n: int) -> Rate | None:
    if n == 0:
        return None
    lower, upper = clopper_pearson(np.array([k]), np.array([n]))
    return Rate(k / n, float(lower[0]), float(upper[0]), "", counted=True)


def _known(value: Any) -> float | None:
    return None if pd.isna(value) else float(value)
