"""The trajectory stage on disk: tables, summary and figures for all exploits and for the intentional ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from foreshock.analysis.figures import SavedFigure, write_csv
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
from foreshock.analysis.trajectory.attempts import expected_by_attempts
from foreshock.analysis.trajectory.compute import (
    Trajectory,
    TrajectoryOptions,
    compute_trajectory,
    descent_rates,
    intentional,
)
from foreshock.errors import InputError
from foreshock.jobs.records.jsonl import atomic_write_bytes, write_json

ALL_EXPLOITS = "all_exploits"
INTENTIONAL_ONLY = "intentional_only"
SUBSETS: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    ALL_EXPLOITS: lambda tasks: tasks,
    INTENTIONAL_ONLY: intentional,
}


@dataclass(frozen=True, slots=True)
class TrajectorySubset:
    """One folder of results. `trajectory` is None when the run has no task of this kind."""

    directory: Path
    trajectory: Trajectory | None
    figures: tuple[SavedFigure, ...]


@dataclass(frozen=True, slots=True)
class TrajectoryRun:
    """Results by subset (`all_exploits`, `intentional_only`), and how the evals were read."""

    subsets: dict[str, TrajectorySubset]
    counts: Counts

    @property
    def summary(self) -> dict[str, Any]:
        """What was computed, as plain values."""
        return {
            name: None if subset.trajectory is None else subset.trajectory.summary
            for name, subset in self.subsets.items()
        }


def run_trajectory(
    run_dir: Path, output_dir: Path, options: TrajectoryOptions, figures: bool = True, title_run: str | None = None
) -> TrajectoryRun:
    """Read evals, compute, write `output_dir`/{all_exploits,intentional_only}/. `title_run` names the run in captions.

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
    for name, keep in SUBSETS.items():
        tasks = keep(counts.tasks)
        directory = output_dir / name
        result = _write_tables(tasks, directory, options, notes)
        saved: tuple[SavedFigure, ...] = ()
        if result is not None and figures:
            same = len(tasks) == len(counts.tasks) and ALL_EXPLOITS in subsets
            folder = directory / "figures"
            saved = _copied(subsets[ALL_EXPLOITS].figures, folder) if same else _draw(tasks, result, folder, run)
        subsets[name] = TrajectorySubset(directory, result, saved)
    return TrajectoryRun(subsets, counts)


def _copied(figures: Sequence[SavedFigure], folder: Path) -> tuple[SavedFigure, ...]:
    """Where every task is intentional, the figures are the same; drawing is what costs."""
    copies = []
    for figure in figures:
        paths = {path.suffix: folder / path.name for path in (figure.png, figure.pdf, figure.csv)}
        for path in (figure.png, figure.pdf, figure.csv):
            atomic_write_bytes(paths[path.suffix], path.read_bytes())
        copies.append(replace(figure, png=paths[".png"], pdf=paths[".pdf"], csv=paths[".csv"]))
    return tuple(copies)


def _write_tables(
    tasks: pd.DataFrame, directory: Path, options: TrajectoryOptions, notes: list[str]
) -> Trajectory | None:
    if tasks.empty:
        note = "no task of an intentional exploit type in this run"
        write_json(directory / "trajectory_summary.json", {"n_tasks": 0, "notes": [note, *notes]})
        return None
    result = compute_trajectory(tasks, options)
    write_csv(result.frame, directory / "trajectory_analysis.csv")
    write_csv(descent_rates(result.frame), directory / "descent_rates.csv")
    write_csv(expected_by_attempts(tasks, options.threshold), directory / "min_prefill_by_attempts.csv")
    write_csv(pooled_rates(cells_from_tasks(tasks)), directory / "pass_rates.csv")
    write_json(directory / "trajectory_summary.json", result.summary | {"notes": notes})
    return result


def _draw(tasks: pd.DataFrame, result: Trajectory, folder: Path, run: str) -> tuple[SavedFigure, ...]:
    if result.frame["min_prefill"].isna().all():
        return ()
    rates = descent_rates(result.frame)
    by_attempts = expected_by_attempts(tasks, result.summary["threshold"])
    saved = [
        pass_rates_figure(cells_from_tasks(tasks), folder, run),
        median_trajectory_figure(result.frame, result.summary, folder),
        accessibility_figure(result.frame, result.summary, folder),
        time_to_threshold_figure(result.frame, result.summary, folder),
    ]
    if not rates.empty:
        saved.append(descent_rates_figure(rates, result.summary, folder))
    if by_attempts["attempts"].max() > 1:
        saved.append(attempts_figure(by_attempts, result.summary, folder))
    return tuple(saved)
