"""The emergence analysis of run directories: tables, figures and a summary on disk.

Outputs carry their definitions. `summary.json` says which ones were used and why a cell is null, so that a table from
the original definitions cannot pass for one from the current ones.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from foreshock.analysis.emergence.evaluate import check_size, evaluate_emergence
from foreshock.analysis.emergence.figures import auc_figure, separation_figure
from foreshock.analysis.emergence.original import Definitions, evaluate_original, gp_table
from foreshock.analysis.emergence.power import power_table
from foreshock.analysis.emergence.problems import evaluate_problems
from foreshock.analysis.emergence.rate_models import ConstrainedGPRates, GrowthRates
from foreshock.analysis.figures import SavedFigure, write_csv
from foreshock.analysis.gp.means import MeanKind
from foreshock.analysis.surfaces.cells import RunSource, load_cells, looks_of, modelled_cells
from foreshock.analysis.surfaces.labels import DEFAULT_THRESHOLD
from foreshock.analysis.surfaces.metrics import Metric, RateModel
from foreshock.analysis.tables import count_tasks
from foreshock.durable import atomic_write_bytes
from foreshock.errors import InputError
from foreshock.jobs.records.exploit_types import INTENTIONAL, IntentionalTypes


@dataclass(frozen=True, slots=True)
class EmergenceOptions:
    """Choices of one analysis; the defaults are what the documentation describes. `intentional`: types to predict;
    None for all. `gp_means`: Gaussian processes whose rates are further metrics of the original definitions."""

    definitions: Definitions = Definitions.CURRENT
    threshold: float = DEFAULT_THRESHOLD
    permutations: int = 999
    rate_models: bool = True
    gp_means: tuple[MeanKind, ...] = ()
    per_problem: bool = False
    intentional: IntentionalTypes | None = INTENTIONAL
    figures: bool = True
    seed: int = 0


@dataclass(frozen=True, slots=True)
class EmergenceRun:
    """What `run_emergence` found and wrote. `problems` is None unless asked for."""

    results: pd.DataFrame
    features: pd.DataFrame
    problems: pd.DataFrame | None
    summary: dict[str, object]
    figures: tuple[SavedFigure, ...]
    notes: tuple[str, ...]
    directory: Path


def run_emergence(sources: list[RunSource], output_dir: Path, options: EmergenceOptions | None = None) -> EmergenceRun:
    """Analyse one or more runs and write all_results.csv, features.csv, summary.json and the figures.

    Raises:
        InputError: unusable rows, one checkpoint, one exploit type, a threshold that is not a rate.
    """
    options = options or EmergenceOptions()
    if not 0 < options.threshold < 1:
        raise InputError(f"threshold {options.threshold:g} is not a rate; valid: above 0 and below 1, e.g. 0.1")
    if options.permutations < 19:
        raise InputError(f"permutations {options.permutations} is too few for a p-value; valid: 19 or more")
    if options.gp_means and options.definitions is Definitions.CURRENT:
        raise InputError(
            "--gp goes with the original definitions; the current ones have the constant mean as gp_log_rate_p0",
            fix="add --definitions original",
        )
    loaded = load_cells(sources, options.intentional)
    cells, thinned = modelled_cells(loaded.cells, "emergence")
    notes = [*loaded.notes, *thinned]
    check_size(cells)
    grid_p: float | None = None
    if options.definitions is Definitions.CURRENT:
        evaluation = evaluate_emergence(
            cells,
            threshold=options.threshold,
            rate_models=default_rate_models() if options.rate_models else {},
            permutations=options.permutations,
            seed=options.seed,
        )
        results, features, grid_p = evaluation.results, evaluation.features, evaluation.grid_p
        notes += evaluation.notes
    else:
        results, features = evaluate_original(
            cells,
            options.definitions,
            threshold=options.threshold,
            permutations=options.permutations,
            seed=options.seed,
            rate_models={mean.value: ConstrainedGPRates(mean) for mean in options.gp_means},
        )
    notes += _gaps(cells, results)
    problems = _problems(sources, options) if options.per_problem else None
    output_dir.mkdir(parents=True, exist_ok=True)
    write_csv(results, output_dir / "all_results.csv")
    write_csv(features, output_dir / "features.csv")
    if options.gp_means:
        write_csv(gp_table(results, [mean.value for mean in options.gp_means]), output_dir / "gp_table.csv")
    if problems is not None:
        write_csv(problems, output_dir / "problem_results.csv")
    figures: tuple[SavedFigure, ...] = ()
    if options.figures:
        shown = Metric.LOWER_BOUND.value
        metric = shown if features.loc[features["metric"] == shown, "level"].notna().any() else Metric.RATE.value
        looks = looks_of(sources)
        figures = (auc_figure(results, output_dir), separation_figure(features, output_dir, metric, looks))
    power = power_table(features, options.seed) if options.definitions is Definitions.CURRENT else pd.DataFrame()
    summary = _summary(cells, results, grid_p, power, options)
    text = json.dumps(summary | {"notes": notes}, indent=2) + "\n"
    atomic_write_bytes(output_dir / "summary.json", text.encode())
    return EmergenceRun(results, features, problems, summary, figures, tuple(notes), output_dir)


def _gaps(cells: pd.DataFrame, results: pd.DataFrame) -> list[str]:
    """Why there is less than was asked for."""
    unprompted = cells[(cells["prefill_level"] == 0) & (cells["n"] > 0)]["run"].unique()
    notes = [
        f"{run}: no attempt at level 0, so whether its types emerged is not known; they are left out"
        for run in sorted(set(cells["run"].unique()) - set(unprompted))
    ]
    if results["auc"].isna().all():
        why = results["reason"].dropna().mode()
        notes.append("no AUC can be computed" + (f": {why.iloc[0]}" if len(why) else ""))
    return notes


def default_rate_models() -> dict[Metric, RateModel]:
    """The rate models whose predictions serve as metrics."""
    return {Metric.GP: ConstrainedGPRates(), Metric.GROWTH: GrowthRates()}


def _problems(sources: list[RunSource], options: EmergenceOptions) -> pd.DataFrame:
    tables = []
    for source in sources:
        tasks = count_tasks(source.path)
        tasks = tasks[np.isfinite(tasks["checkpoint"].to_numpy(float))]
        run = source.label or str(tasks["run"].iloc[0])
        tables.append(tasks.assign(run=run, task_id=tasks["task_id"].astype(str)))
    tasks = pd.concat(tables, ignore_index=True).astype({"exploit_type": str})
    return evaluate_problems(tasks, permutations=min(options.permutations, 199), seed=options.seed)


_QUOTED = ("cutoff_idx", "metric", "model", "auc", "auc_lower", "auc_upper", "auc_within_run", "n", "p_value",
           "p_value_grid")  # fmt: skip


def _best(known: pd.DataFrame) -> dict[str, object] | None:
    """The cell least likely by chance, with its own p-values; where none has one, the cell of the highest AUC.

    The highest AUC is often that of a cell with few types, and a p-value of another cell says nothing about it.
    """
    if known.empty:
        return None
    ranked = known
    if "p_value_grid" in known and known["p_value_grid"].notna().any():
        ranked = known[known["p_value_grid"] == known["p_value_grid"].min()]
    row = ranked.iloc[int(np.argmax(ranked["auc"].to_numpy(float)))]
    best = {name: row[name] for name in _QUOTED if name in row}
    values = {name: value.item() if hasattr(value, "item") else value for name, value in best.items()}
    return {name: None if isinstance(value, float) and np.isnan(value) else value for name, value in values.items()}


def _summary(
    cells: pd.DataFrame, results: pd.DataFrame, grid_p: float | None, power: pd.DataFrame, options: EmergenceOptions
) -> dict[str, object]:
    known = results.dropna(subset=["auc"])
    best = _best(known)
    return {
        "definitions": options.definitions.value,
        "threshold": options.threshold,
        "runs": sorted(cells["run"].unique().tolist()),
        "intentional": "all types" if options.intentional is None else options.intentional.to_json(),
        "n_exploit_types": int(cells["exploit_type"].nunique()),
        "n_cells_tried": len(known),
        "n_cells_without_auc": int(len(results) - len(known)),
        "best": best,
        "p_value_of_best_given_all_tried": grid_p,
        "power": power.astype(object).where(power.notna(), None).to_dict("records"),
        "permutations": options.permutations,
        "seed": options.seed,
    }
