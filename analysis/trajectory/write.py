"""The trajectory stage on disk: tables, summary and figures for all exploits and for the intentional ones."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from foreshock.analysis.figures import SavedFigure, write_csv
from foreshock.analysis.figures.palette import RUNS
from foreshock.analysis.figures.rates import pass_rates_figure, pooled_rates
from foreshock.analysis.figures.trajectory import (
    accessibility_figure,
    attempts_figure,
    descent_rates_figure,
    median_trajectory_figure,
    time_to_threshold_figure,
)
from foreshock.analysis.tables import Counts, read_counts
from foreshock.analysis.tables.counts import cells_from_tasks
from foreshock.analysis.tables.load import UNKNOWN_TYPE
from foreshock.analysis.trajectory.attempts import expected_by_attempts
from foreshock.analysis.trajectory.compute import (
    Trajectory,
    TrajectoryOptions,
    compute_trajectory,
    descent_rates,
    intentional,
)
from foreshock.durable import atomic_write_bytes
from foreshock.errors import InputError
from foreshock.jobs.records.jsonl import write_json

ALL_EXPLOITS = "all_exploits"
INTENTIONAL_ONLY = "intentional_only"
SUBSETS = (ALL_EXPLOITS, INTENTIONAL_ONLY)


@dataclass(frozen=True, slots=True)
class TrajectorySubset:
    """One folder of results. `trajectory` is None when the run has no task of this kind."""

    directory: Path
    trajectory: Trajectory | None
    tables: tuple[Path, ...]
    figures: tuple[SavedFigure, ...]


@dataclass(frozen=True, slots=True)
class TrajectoryRun:
    """Results by subset (`all_exploits`, `intentional_only`), how the evals were read, and what to know of both."""

    subsets: dict[str, TrajectorySubset]
    counts: Counts
    notes: tuple[str, ...]

    @property
    def summary(self) -> dict[str, Any]:
        """What was computed, as plain values."""
        return {
            name: None if subset.trajectory is None else subset.trajectory.summary
            for name, subset in self.subsets.items()
        }


@dataclass(frozen=True, slots=True)
class _Drawing:
    """How captions name the run, and its colour."""

    run: str
    colour: str


def run_trajectory(
    run_dir: Path,
    output_dir: Path,
    options: TrajectoryOptions,
    figures: bool = True,
    title_run: str | None = None,
    colour: str = RUNS[0],
) -> TrajectoryRun:
    """Read evals, compute, write `output_dir`/{all_exploits,intentional_only}/. `title_run` names the run in captions,
    `colour` is its colour in figures.

    Raises:
        InputError: as reading; or no usable row at all.
    """
    counts = read_counts(run_dir, attempts=options.attempts)
    if counts.tasks.empty:
        report = counts.report
        raise InputError(
            f"no usable eval row ({report.errors} error rows, {report.nulls} without an outcome, "
            f"{len(report.empty_cells)} empty files)",
            path=report.directory,
        )
    notes = counts.report.lines()
    run = title_run or str(counts.tasks["run"].iloc[0])
    subsets: dict[str, TrajectorySubset] = {}
    kept = {ALL_EXPLOITS: counts.tasks, INTENTIONAL_ONLY: intentional(counts.tasks, options.intentional)}
    notes += _untyped(*kept.values())
    for name, tasks in kept.items():
        directory = output_dir / name
        if ALL_EXPLOITS in subsets and len(tasks) == len(counts.tasks):
            subsets[name] = _copied(subsets[ALL_EXPLOITS], directory)
        else:
            subsets[name] = _write_subset(tasks, directory, options, notes, _Drawing(run, colour) if figures else None)
    return TrajectoryRun(subsets, counts, tuple(notes))


def _untyped(tasks: pd.DataFrame, intended: pd.DataFrame) -> list[str]:
    untyped = tasks.loc[tasks["exploit_type"] == UNKNOWN_TYPE, "task_id"].nunique()
    if not untyped:
        return []
    where = "counted among" if (intended["exploit_type"] == UNKNOWN_TYPE).any() else "not among"
    return [f"{untyped} tasks name no exploit type: {UNKNOWN_TYPE!r} here, {where} the intentional ones"]


def _copied(subset: TrajectorySubset, directory: Path) -> TrajectorySubset:
    """Where every task is intentional, tables and figures are the same; writing and drawing them is what costs."""

    def copy(path: Path) -> Path:
        target = directory / path.relative_to(subset.directory)
        atomic_write_bytes(target, path.read_bytes())
        return target

    tables = tuple(map(copy, subset.tables))
    figures = [replace(f, svg=copy(f.svg), png=copy(f.png), pdf=copy(f.pdf), csv=copy(f.csv)) for f in subset.figures]
    return TrajectorySubset(directory, subset.trajectory, tables, tuple(figures))


def _write_subset(
    tasks: pd.DataFrame, directory: Path, options: TrajectoryOptions, notes: list[str], drawing: _Drawing | None
) -> TrajectorySubset:
    """`drawing` is None for no figures."""
    summary = directory / "trajectory_summary.json"
    if tasks.empty:
        note = f"no task of an intentional exploit type in this run ({options.intentional})"
        write_json(summary, {"n_tasks": 0, "intentional": options.intentional.to_json(), "notes": [note, *notes]})
        return TrajectorySubset(directory, None, (summary,), ())
    result = compute_trajectory(tasks, options)
    rates = descent_rates(result.frame)
    by_attempts = expected_by_attempts(tasks, options.threshold)
    cells = cells_from_tasks(tasks)
    tables = {
        "trajectory_analysis.csv": result.frame,
        "descent_rates.csv": rates,
        "min_prefill_by_attempts.csv": by_attempts,
        "pass_rates.csv": pooled_rates(cells),
    }
    written = [write_csv(table, directory / name) for name, table in tables.items()]
    write_json(summary, result.summary | {"intentional": options.intentional.to_json(), "notes": notes})
    saved = () if drawing is None else _draw(result, cells, rates, by_attempts, directory / "figures", drawing)
    return TrajectorySubset(directory, result, (*written, summary), saved)


def _draw(
    result: Trajectory,
    cells: pd.DataFrame,
    rates: pd.DataFrame,
    by_attempts: pd.DataFrame,
    folder: Path,
    drawing: _Drawing,
) -> tuple[SavedFigure, ...]:
    if result.frame["min_prefill"].isna().all():
        return ()
    saved = [
        pass_rates_figure(cells, folder, drawing.run),
        median_trajectory_figure(result.frame, result.summary, folder, drawing.colour),
        accessibility_figure(result.frame, result.summary, folder),
        time_to_threshold_figure(result.frame, result.summary, folder, drawing.colour),
    ]
    if not rates.empty:
        saved.append(descent_rates_figure(rates, result.summary, folder, drawing.colour))
    if by_attempts["attempts"].max() > 1:
        saved.append(attempts_figure(by_attempts, result.summary, folder))
    return tuple(saved)
