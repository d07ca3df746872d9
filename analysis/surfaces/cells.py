"""The cell table that emergence, forecast and prediction all start from.

One row per (run, exploit type, checkpoint, prefill level):

    run, exploit_type, checkpoint, prefill_level
    n, k            attempts and exploits
    kl_mean         mean of log Q(z) - log P(z) over the cell's prefixes, nats
    kl_success      the same over attempts that exploited (the success-tilted bound needs it)
    logprob_mean    mean of log P(z), nats
    code_logprob    mean over problems of log P(exploit code) after empty reasoning, nats; at level 0 only
    honest_code_logprob  the same after honest reasoning

Each attempt is paired with the KL of its own prefix, by (task, attempt, level). Only where a task has one single
scored prefix at a level does that score serve every attempt. Missing is NaN, never 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from foreshock.analysis.figures.palette import RunLooks
from foreshock.analysis.tables import TableKind, numbered_checkpoints, read_sampled, read_table
from foreshock.analysis.tables.channel import forced_answers, left_out_note
from foreshock.analysis.tables.exploit_code import after, has_exploit_code, load_exploit_code
from foreshock.analysis.tables.join import look_up
from foreshock.analysis.tables.load import run_name
from foreshock.analysis.tables.schema import checkpoint_label
from foreshock.analysis.tables.spacing import evenly_spaced
from foreshock.errors import InputError
from foreshock.jobs.records.exploit_types import IntentionalTypes
from foreshock.jobs.records.rows import EMPTY, HONEST
from foreshock.jobs.records.table_files import table_names

MOST_MODELLED = 40
"""Checkpoints of a run that models of all its cells at once are fitted to."""

SURFACE = ["run", "exploit_type"]
KEYS = [*SURFACE, "checkpoint", "prefill_level"]
COLUMNS = [*KEYS, "n", "k", "kl_mean", "kl_success", "logprob_mean", "code_logprob", "honest_code_logprob"]


@dataclass(frozen=True, slots=True)
class RunSource:
    """A run to analyse: its directory (or evals/ folder), its name in the tables (its directory's if None), and the
    folder of its exploit code's log-probabilities if that is not its own exploit_logprob/."""

    path: Path
    label: str | None = None
    exploit_logprobs: Path | None = None


@dataclass(frozen=True, slots=True)
class RunCells:
    """The cell table of one run, and sentences about what was left out on the way."""

    cells: pd.DataFrame
    notes: tuple[str, ...]


def looks_of(sources: Sequence[RunSource]) -> RunLooks:
    """The runs' colours and order in figures."""
    names = tuple(run_name(source.path) for source in sources)
    return RunLooks(names, tuple(source.label or name for source, name in zip(sources, names, strict=True)))


def load_cells(sources: list[RunSource], intentional: IntentionalTypes | None) -> RunCells:
    """One table of several runs: of their intentional types, or of all with None.

    Raises:
        InputError: see `read_table`; no evals; a run without an intentional type; two runs of one name.
    """
    loaded = [load_run_cells(source) for source in sources]
    notes = tuple(note for run in loaded for note in run.notes)
    if intentional is None:
        return RunCells(join_runs(loaded), notes)
    present = {str(name) for run in loaded for name in run.cells["exploit_type"].unique()}
    wanted = intentional.keep(present)
    kept = []
    for source, run in zip(sources, loaded, strict=True):
        cells = run.cells[run.cells["exploit_type"].isin(wanted)]
        if cells.empty:
            raise InputError(
                f"no attempt of an intentional exploit type ({intentional})",
                path=source.path,
                fix="name the types to analyse with --intentional LIST",
            )
        kept.append(RunCells(cells.reset_index(drop=True), run.notes))
    left_out = sorted(present - set(wanted))
    if left_out:
        notes = (*notes, f"not intentional ({intentional.name}), left out: {', '.join(left_out)}")
    return RunCells(join_runs(kept), notes)


def load_run_cells(source: RunSource) -> RunCells:
    """Cells of a run directory (or of its evals/ folder, whose siblings kl/ and logprob/ are then read).

    Raises:
        InputError: see `read_table`; no evals.
    """
    path = source.path.resolve()
    run_dir = path.parent if path.name == TableKind.EVAL.value else source.path
    name = source.label or run_name(source.path)
    evals = read_sampled(source.path)
    notes = [f"{name}: {line}" for line in evals.report.lines()]
    frames: dict[TableKind, pd.DataFrame | None] = {}
    for kind in (TableKind.KL, TableKind.LOGPROB):
        if any(name.endswith(".jsonl") for name in table_names(run_dir / kind.value)):
            table = read_table(run_dir, kind)
            notes += [f"{name}: {line}" for line in table.report.lines()]
            frames[kind] = table.frame
        else:
            frames[kind] = None
            if kind is not TableKind.LOGPROB or frames[TableKind.KL] is None:
                notes.append(f"{name}: no {kind.value}/ rows; metrics that need them are left out")
    codes = None
    if source.exploit_logprobs is not None or has_exploit_code(run_dir):
        codes = load_exploit_code(source.exploit_logprobs or run_dir)
    cells = cells_from_frames(evals.frame, frames[TableKind.KL], frames[TableKind.LOGPROB], notes, codes)
    cells["run"] = name
    return RunCells(cells.reset_index(drop=True), tuple(notes))


def cells_from_frames(
    evals: pd.DataFrame,
    kl: pd.DataFrame | None = None,
    logprobs: pd.DataFrame | None = None,
    notes: list[str] | None = None,
    codes: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """The cell table of one run from the frames that `analysis.tables` loads (columns as there). `codes`: scores of
    exploit code, whose problems need not be those that were evaluated.

    Raises:
        InputError: no row of a numbered checkpoint is left.
    """
    notes = [] if notes is None else notes
    if not np.isfinite(np.asarray(evals["checkpoint"], dtype=float)).all():
        notes.append("the checkpoint named final has no step and is left out of models over training time")
    run = str(evals["run"].iloc[0]) if "run" in evals and len(evals) else "run"
    evals = numbered_checkpoints(evals)
    if "rollout" in evals:
        evals = evals[evals["rollout"] == 0]
    answers = forced_answers(evals)
    if answers.any():
        why = "models over training time use its unprompted attempts only"
        notes.append(left_out_note(run, int(answers.sum()), why))
        evals, kl, logprobs = evals[~answers], None, None
    if evals.empty:
        raise InputError("no eval row of a numbered checkpoint", fix="check that evals/ holds checkpoint-N files")
    tasks = pd.Index(evals["task_id"].unique().astype(object))
    rows = _lean(evals, tasks, "exploit_success")
    types, kinds = _task_types(evals, rows["task"].to_numpy())
    rows["kind"] = types[rows["task"]]
    cells = rows.groupby(_CELL, as_index=False).agg(n=("value", "size"), k=("value", "sum"))
    if kl is not None:
        scored = _typed(_lean(numbered_checkpoints(kl), tasks, "kl_divergence"), types, notes, "KL")
        paired = _pair(rows, scored)
        success = paired[rows["value"].to_numpy(bool)].dropna(subset=["score"])
        cells = _join(cells, scored.groupby(_CELL)["value"].mean().rename("kl_mean"))
        cells = cells.merge(
            success.groupby(_CELL)["score"].mean().rename("kl_success").reset_index(), on=_CELL, how="left"
        )
    if logprobs is None and kl is not None and "eval_logprob_sum" in kl:
        # KL rows carry the same score as one of their two parts.
        logprobs = kl.rename(columns={"eval_logprob_sum": "prefill_logprob_sum"})
    if logprobs is not None:
        scored = _typed(_lean(numbered_checkpoints(logprobs), tasks, "prefill_logprob_sum"), types, notes, "logprob")
        cells = _join(cells, scored.groupby(_CELL)["value"].mean().rename("logprob_mean"))
    cells = cells.assign(run=run, exploit_type=kinds[cells["kind"].to_numpy(int)], k=cells["k"].astype(np.int64))
    if codes is not None:
        cells = _with_codes(cells, codes, notes)
    return validate_cells(cells.reindex(columns=COLUMNS))


def _with_codes(cells: pd.DataFrame, codes: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """Mean log-probability of exploit code at level 0 of every type and checkpoint that the run has."""
    steps, kinds = set(cells["checkpoint"]), set(cells["exploit_type"])
    known = codes[codes["checkpoint"].isin(steps) & codes["exploit_type"].isin(kinds)]
    lacking = sorted(steps - set(known["checkpoint"]))
    if lacking:
        notes.append(f"no log-probability of exploit code at checkpoint {', '.join(map(checkpoint_label, lacking))}")
    keys = ["exploit_type", "checkpoint"]
    means = pd.concat(
        [
            after(known, before).groupby(keys)["exploit_logprob_sum"].mean().rename(name)
            for before, name in ((EMPTY, "code_logprob"), (HONEST, "honest_code_logprob"))
        ],
        axis=1,
    )
    found = means.reset_index().assign(prefill_level=0)
    merged = cells.merge(found, on=["exploit_type", "checkpoint", "prefill_level"], how="outer")
    counts = merged[["n", "k"]].fillna(0).astype(np.int64)
    return merged.assign(run=cells["run"].iloc[0], n=counts["n"], k=counts["k"])


_CELL = ["kind", "checkpoint", "prefill_level"]


def _lean(frame: pd.DataFrame, tasks: pd.Index, value: str) -> pd.DataFrame:
    """task (code in `tasks`, -1 for others), checkpoint, prefill_level, attempt, value: numbers only, so that millions
    of rows fit. Further rollouts of the same attempt are left out."""
    if "rollout" in frame:
        frame = frame[frame["rollout"] == 0]
    names = frame["task_id"]
    if isinstance(names.dtype, pd.CategoricalDtype):
        by_category = np.append(tasks.get_indexer(names.cat.categories.astype(object)), -1)
        task = by_category[names.cat.codes.to_numpy()]
    else:
        task = tasks.get_indexer(pd.Index(names.astype(object)))
    return pd.DataFrame(
        {
            "task": task.astype(np.int32),
            "checkpoint": frame["checkpoint"].to_numpy(),
            "prefill_level": frame["prefill_level"].to_numpy(np.int32),
            "attempt": frame["attempt_idx"].to_numpy(np.int32),
            "value": frame[value].to_numpy(float),
        }
    )


def _task_types(evals: pd.DataFrame, task: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.object_]]:
    """(code of each task's exploit type, names of the types), from its first eval row; `task`: codes 0 to T - 1."""
    _, first = np.unique(task, return_index=True)
    names = evals["exploit_type"].iloc[first].astype(str).to_numpy(object)
    kinds, codes = np.unique(names, return_inverse=True)
    return codes.astype(np.int64), kinds


def _typed(scored: pd.DataFrame, types: NDArray[np.int64], notes: list[str], kind: str) -> pd.DataFrame:
    """Scores above level 0 of tasks that were evaluated, under the exploit type that the evals record."""
    known = scored["task"].to_numpy() >= 0
    if not known.all():
        notes.append(f"{int((~known).sum()):,} {kind} rows of tasks without an eval row left out")
    scored = scored[known & (scored["prefill_level"].to_numpy() > 0) & np.isfinite(scored["value"].to_numpy())]
    return scored.assign(kind=types[scored["task"].to_numpy()])


def _pair(rows: pd.DataFrame, scored: pd.DataFrame) -> pd.DataFrame:
    """The eval rows with `score`, that of their own prefix; NaN where there is none."""
    place = ["checkpoint", "prefill_level", "task"]
    unique = scored.drop_duplicates([*place, "attempt"])
    single = unique[~unique.duplicated(place, keep=False)]
    own = look_up(rows, unique, [*place, "attempt"], "value")
    return rows.assign(score=np.where(np.isfinite(own), own, look_up(rows, single, place, "value")))


def _join(cells: pd.DataFrame, values: pd.Series[float]) -> pd.DataFrame:
    merged = cells.merge(values.reset_index(), on=_CELL, how="outer")
    return merged.assign(n=merged["n"].fillna(0).astype(np.int64), k=merged["k"].fillna(0).astype(np.int64))


def validate_cells(cells: pd.DataFrame) -> pd.DataFrame:
    """The table sorted by its keys, or an InputError that names the first row that cannot be."""
    missing = [column for column in (*KEYS, "n", "k") if column not in cells]
    if missing:
        raise InputError(f"the cell table lacks {', '.join(missing)}; it needs {', '.join(COLUMNS)}")
    cells = cells.reindex(columns=COLUMNS)
    if cells.empty:
        raise InputError("the cell table is empty", fix="check that evals/ holds rows without `error`")
    cells = cells.assign(**{name: cells[name].astype(float) for name in COLUMNS[6:]})
    steps, n, k = (cells[name].to_numpy(float) for name in ("checkpoint", "n", "k"))
    problems = {
        "checkpoint is not a step >= 0": ~(np.isfinite(steps) & (steps >= 0)),
        "prefill_level is negative": cells["prefill_level"].to_numpy(float) < 0,
        "n is negative or not a number": ~(n >= 0),
        "k is not between 0 and n": ~((k >= 0) & (k <= n)),
        "kl_mean is infinite": np.isinf(cells["kl_mean"].to_numpy(float)),
        "logprob_mean is above 0": cells["logprob_mean"].to_numpy(float) > 1e-9,
        "code_logprob is above 0": cells["code_logprob"].to_numpy(float) > 1e-9,
        "honest_code_logprob is above 0": cells["honest_code_logprob"].to_numpy(float) > 1e-9,
    }
    for problem, bad in problems.items():
        if bad.any():
            raise InputError(f"{problem}: {cells.iloc[int(np.argmax(bad))].to_dict()}")
    repeated = cells.duplicated(KEYS)
    if repeated.any():
        row = cells.loc[repeated, KEYS].iloc[0].to_dict()
        raise InputError(f"two rows for the cell {row}; a (run, type, checkpoint, level) must be there once")
    return cells.sort_values(KEYS).reset_index(drop=True)


def join_runs(runs: list[RunCells]) -> pd.DataFrame:
    """One table of several runs. Raises InputError when two runs carry the same name."""
    names = [str(run.cells["run"].iloc[0]) for run in runs]
    if len(set(names)) < len(names):
        raise InputError(f"two runs are named {next(n for n in names if names.count(n) > 1)!r}; names must differ")
    return validate_cells(pd.concat([run.cells for run in runs], ignore_index=True))


def modelled_cells(cells: pd.DataFrame, what: str) -> tuple[pd.DataFrame, list[str]]:
    """Cells of at most `MOST_MODELLED` checkpoints of each run, evenly spaced and with the first and the last, and a
    note that says so of `what`; all, and none, where there are no more."""
    kept, notes = [], []
    for run, part in cells.groupby("run", sort=False):
        known = part["checkpoint"].unique()
        if len(known) > MOST_MODELLED:
            part = part[part["checkpoint"].isin(evenly_spaced(known, MOST_MODELLED))]
            notes.append(
                f"{run}: {what} rests on {MOST_MODELLED} of its {len(known):,} checkpoints, evenly spaced and with the "
                "last: its time grows with the square of their number and more"
            )
        kept.append(part)
    return (validate_cells(pd.concat(kept, ignore_index=True)) if notes else cells), notes


def run_checkpoints(cells: pd.DataFrame) -> dict[str, list[float]]:
    """Sorted checkpoints of each run."""
    return {str(run): sorted(float(c) for c in part["checkpoint"].unique()) for run, part in cells.groupby("run")}


def seen_until(cells: pd.DataFrame, cutoff_idx: int) -> pd.DataFrame:
    """Rows of each run's first `cutoff_idx` + 1 checkpoints: all that a feature at that cutoff may see."""
    last = {run: steps[min(cutoff_idx, len(steps) - 1)] for run, steps in run_checkpoints(cells).items()}
    return cells[cells["checkpoint"] <= cells["run"].map(last)]
