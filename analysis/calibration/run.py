"""The calibration of run directories on disk: each estimate beside what was sampled, and the map of each method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from foreshock.analysis.calibration.recalibrate import deviance, fit_map, held_out
from foreshock.analysis.estimates.found import find_rates
from foreshock.analysis.evidence.estimate import Method, as_row
from foreshock.analysis.figures import write_csv
from foreshock.analysis.figures.runs import clopper_pearson
from foreshock.analysis.tables import TableKind, read_counts
from foreshock.analysis.tables.files import has_files
from foreshock.errors import InputError
from foreshock.jobs.records.jsonl import write_json

FROM_LEVEL_0 = (Method.HEADLINE, Method.DIRECT, Method.IMPORTANCE_DEFENSIVE)
"""Methods that use the sweep's own unprompted attempts, which then cannot check them."""
_CELL = ["run", "exploit_type", "checkpoint"]
_LEAST = 5


@dataclass(frozen=True, slots=True)
class CalibrationRun:
    """`cells`: one row per method and cell that was sampled. `maps`: what holds for each method."""

    cells: pd.DataFrame
    maps: dict[str, dict[str, Any]]
    sampled: str
    directory: Path


def run_calibration(
    run_dirs: Sequence[Path], output_dir: Path, donor_run: Path | None = None, conditioned: bool = True
) -> CalibrationRun:
    """Estimate, compare, and write calibration.csv and recalibration_map.json.

    Sampled rates are those of ground_truth/ where every run has it; else of the sweep's level 0, against which only
    methods that do not use it are checked.

    Raises:
        InputError: unusable runs, or no cell with both an estimate and a sampled rate.
    """
    truth = all(has_files(run, TableKind.GROUND_TRUTH) for run in run_dirs)
    sampled = _sampled(run_dirs, TableKind.GROUND_TRUTH if truth else TableKind.EVAL)
    found = find_rates(list(run_dirs), donor_run, conditioned)
    rates = pd.DataFrame([as_row(estimate) for estimate in found.estimates])
    rates = rates[~rates["method"].isin(FROM_LEVEL_0 if not truth else (Method.DIRECT,))]
    cells = pair_cells(rates, sampled)
    if cells.empty:
        raise InputError(
            "no cell has both an estimate and sampled unprompted attempts",
            path=run_dirs[0],
            fix="set ground_truth.attempts in the sweep, or sample level 0; estimates need log-probabilities",
        )
    maps = {}
    parts = []
    for method, part in cells.groupby("method", sort=False):
        known, maps[str(method)] = calibrate(part)
        parts.append(known)
    table = pd.concat(parts, ignore_index=True)
    source = "ground_truth/" if truth else "level 0 of the sweep"
    write_csv(table, output_dir / "calibration.csv")
    write_json(output_dir / "recalibration_map.json", {"sampled": source, "methods": maps})
    return CalibrationRun(table, maps, source, output_dir)


def _sampled(run_dirs: Sequence[Path], kind: TableKind) -> pd.DataFrame:
    """run, exploit_type, checkpoint, n, k of unprompted attempts."""
    tables = []
    for run in run_dirs:
        cells = read_counts(run, kind).cells
        tables.append(cells[(cells["prefill_level"] == 0) & np.isfinite(cells["checkpoint"].to_numpy(float))])
    table = pd.concat(tables, ignore_index=True).astype({"run": str, "exploit_type": str, "checkpoint": int})
    counted: pd.DataFrame = table[[*_CELL, "n", "k"]]
    return counted


def pair_cells(rates: pd.DataFrame, sampled: pd.DataFrame) -> pd.DataFrame:
    """Estimates (rows of rates.csv) joined to sampled counts n and k of the same cell; only cells that have both.

    Columns: run, exploit_type, checkpoint, method, log10_rate, status, n, k, log10_sampled (NaN where k is 0),
    sampled_lower95, sampled_upper95 (exact, log10), inside.
    """
    known = rates.dropna(subset=["log10_rate"])[[*_CELL, "method", "log10_rate", "status"]]
    known = known.astype({"run": str, "exploit_type": str, "checkpoint": int})
    cells = known.merge(sampled[sampled["n"] > 0], on=_CELL)
    k, n = cells["k"].to_numpy(float), cells["n"].to_numpy(float)
    with np.errstate(divide="ignore"):
        low, high = (np.log10(np.asarray(side, dtype=float)) for side in clopper_pearson(k, n))
        rate = np.where(k > 0, np.log10(k / n), np.nan)
    x = cells["log10_rate"].to_numpy(float)
    return cells.assign(log10_sampled=rate, sampled_lower95=low, sampled_upper95=high, inside=(x >= low) & (x <= high))


def calibrate(cells: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The cells of one method with `log10_recalibrated` (by a map that has not seen the cell's exploit type), and what
    is known of the method: bias and RMSE in decades where exploits were sampled, share of estimates inside the sampled
    limits, the map, and deviance per attempt of raw, corrected and base rates on unseen types.

    Numbers are null, with `reason`, where cells or exploit types are too few.
    """
    rates = 10.0 ** cells["log10_rate"].to_numpy(float)
    k, n = cells["k"].to_numpy(float), cells["n"].to_numpy(float)
    gap = (cells["log10_rate"] - cells["log10_sampled"]).dropna().to_numpy(float)
    facts: dict[str, Any] = {
        "n_cells": len(cells),
        "n_with_exploits": len(gap),
        "bias_decades": float(gap.mean()) if len(gap) else None,
        "rmse_decades": float(np.sqrt((gap**2).mean())) if len(gap) else None,
        "inside_sampled_95": float(cells["inside"].mean()),
    }
    nothing = dict.fromkeys(("map", "deviance_raw", "deviance_recalibrated", "deviance_base", "helps"))
    if len(cells) < _LEAST:
        return cells.assign(log10_recalibrated=np.nan), facts | nothing | {"reason": f"fewer than {_LEAST} cells"}
    corrected, base = held_out(rates, k, n, cells["exploit_type"].to_numpy(dtype=object))
    facts |= nothing | {"map": asdict(fit_map(rates, k, n)), "reason": None}
    with np.errstate(divide="ignore"):
        cells = cells.assign(log10_recalibrated=np.log10(corrected))
    if np.isnan(corrected).any():
        return cells, facts | {"reason": "one exploit type: whether the map helps is unknown"}
    scores = [deviance(values, k, n) for values in (rates, corrected, base)]
    names = ("deviance_raw", "deviance_recalibrated", "deviance_base")
    return cells, facts | dict(zip(names, scores, strict=True)) | {"helps": scores[1] < min(scores[0], scores[2])}


def method_table(done: CalibrationRun) -> pd.DataFrame:
    """One row per method, for people."""
    rows = []
    for method, facts in done.maps.items():
        found = facts["map"]
        rows.append(
            {
                "method": method,
                "cells": facts["n_cells"],
                "bias": _text(facts["bias_decades"], "+.2f"),
                "rmse": _text(facts["rmse_decades"], ".2f"),
                "inside": _text(facts["inside_sampled_95"], ".2f"),
                "a": None if found is None else f"{found['intercept']:+.2f} ± {found['intercept_se']:.2f}",
                "b": None if found is None else f"{found['slope']:.2f} ± {found['slope_se']:.2f}",
                "map_helps": facts["reason"] if facts["helps"] is None else "yes" if facts["helps"] else "no",
            }
        )
    return pd.DataFrame(rows)


def _text(value: float | None, form: str) -> str | None:
    return None if value is None else format(value, form)
