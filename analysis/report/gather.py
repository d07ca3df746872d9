"""Everything the report needs of one run: computed here, written to the run's analysis/ folder, drawn once."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from foreshock.analysis.figures import SavedFigure, write_csv
from foreshock.analysis.figures.palette import RunLooks
from foreshock.analysis.figures.rates import pooled_rates, rate_surface_figure, type_surfaces_figure
from foreshock.analysis.integration import IntegrationOptions, IntegrationRun, run_integration
from foreshock.analysis.report.provenance import Provenance, read_provenance
from foreshock.analysis.tables import Counts, TableKind, read_counts
from foreshock.analysis.tables.files import has_files
from foreshock.analysis.trajectory import TrajectoryOptions, TrajectoryRun, run_trajectory
from foreshock.errors import InputError
from foreshock.jobs.records.exploit_types import INTENTIONAL, IntentionalTypes
from foreshock.jobs.records.layout import RunLayout

_STAMP = re.compile(r"-\d{8}-\d{6}(-\w+)?$")


@dataclass(frozen=True, slots=True)
class ReportOptions:
    """Passed on to trajectory and integration. `labels` names the runs for readers; default: their directory
    names. `logprob_origin` says where a given log-probability threshold comes from. `folder`: where tables and figures
    of the runs go, those of several runs by label; None for each run's own analysis/ folder. `state`: what the writing
    process knows of the state of runs whose status.json still says that they are running."""

    threshold: int = 10
    attempts: int | None = None
    logprob_threshold: float | None = None
    logprob_origin: str | None = None
    labels: tuple[str, ...] | None = None
    intentional: IntentionalTypes = INTENTIONAL
    title: str = "foreshock report"
    folder: Path | None = None
    state: str | None = None

    def place(self, run_dir: Path, stage: str, label: str | None) -> Path:
        """The folder of one stage of a run; `label`: of one of several runs."""
        if self.folder is None:
            return RunLayout(run_dir).analysis / stage
        return self.folder / stage if label is None else self.folder / stage / label


@dataclass(frozen=True, slots=True)
class RunFindings:
    """One run, analysed. `integration` is None with `integration_note` where there is nothing to join. `pooled` are
    rates over all exploit types per (checkpoint, level)."""

    run_dir: Path
    label: str
    provenance: Provenance
    counts: Counts
    pooled: pd.DataFrame
    trajectory: TrajectoryRun
    integration: IntegrationRun | None
    integration_note: str | None
    truth: Counts | None
    surface: tuple[SavedFigure, ...]
    cells_csv: Path
    missing: tuple[tuple[float, int], ...] = field(default=())

    @property
    def summary(self) -> dict[str, Any]:
        """The trajectory summary over all exploits."""
        found = self.trajectory.subsets["all_exploits"].trajectory
        return {} if found is None else found.summary


def run_labels(run_dirs: Sequence[Path], labels: tuple[str, ...] | None) -> list[str]:
    """A short distinct name per run: the directory's, without date and commit where that stays distinct."""
    if labels is not None:
        if len(labels) != len(run_dirs):
            raise InputError(f"{len(labels)} labels for {len(run_dirs)} runs")
        return list(labels)
    names = [path.resolve().name for path in run_dirs]
    short = [_STAMP.sub("", name) for name in names]
    return short if len(set(short)) == len(short) else names


def gather(run_dir: Path, label: str, options: ReportOptions, looks: RunLooks) -> RunFindings:
    """Analyse one run and write its analysis files; `looks` has the colours of all runs of the report.

    Raises:
        InputError: evals that cannot be read, or no usable row.
    """
    one = label if len(looks.names) > 1 else None
    trajectories, surfaces = (options.place(run_dir, stage, one) for stage in ("trajectory", "rates"))
    trajectory = run_trajectory(
        run_dir,
        trajectories,
        TrajectoryOptions(options.threshold, options.attempts, options.intentional),
        title_run=label,
        colour=looks.colour(label),
    )
    counts = trajectory.counts
    cells = counts.cells
    cells_csv = write_csv(cells, surfaces / "exploit_rates.csv")
    integration, note = _integrate(run_dir, trajectories, options.place(run_dir, "integrated", one), options)
    surface = [rate_surface_figure(cells, surfaces, label)]
    if cells["exploit_type"].nunique() > 1:
        surface.append(type_surfaces_figure(cells, surfaces, label))
    provenance = read_provenance(run_dir, options.state)
    planned = provenance.planned_cells()
    present = {(cell.checkpoint, cell.prefill_level) for cell in counts.report.cells}
    missing = set(counts.report.missing_cells) | ((planned or set()) - present)
    return RunFindings(
        run_dir=run_dir,
        label=label,
        provenance=provenance,
        counts=counts,
        pooled=pooled_rates(cells),
        trajectory=trajectory,
        integration=integration,
        integration_note=note,
        truth=read_counts(run_dir, TableKind.GROUND_TRUTH) if has_files(run_dir, TableKind.GROUND_TRUTH) else None,
        surface=tuple(surface),
        cells_csv=cells_csv,
        missing=tuple(sorted(missing)),
    )


def _integrate(
    run_dir: Path, trajectories: Path, output: Path, options: ReportOptions
) -> tuple[IntegrationRun | None, str | None]:
    if not has_files(run_dir, TableKind.LOGPROB):
        return None, "This run holds no log-probabilities, so the two measures cannot be compared."
    csv = trajectories / "all_exploits" / "trajectory_analysis.csv"
    join = IntegrationOptions(
        logprob_threshold=options.logprob_threshold,
        threshold=options.threshold,
        threshold_origin=options.logprob_origin,
    )
    try:
        return run_integration(csv, [run_dir], output, join), None
    except InputError as error:
        return None, f"The log-probabilities could not be joined: {error}"
