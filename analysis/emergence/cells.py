"""The cell table that emergence, forecast and prediction all start from.

One row per (run, exploit type, checkpoint, prefill level):

    run, exploit_type, checkpoint, prefill_level
    n, k            attempts and exploits
    kl_mean         mean of log Q(z) - log P(z) over the cell's prefixes, nats
    kl_success      the same over attempts that exploited (the success-tilted bound needs it)
    logprob_mean    mean of log P(z), nats

The hard decision: each attempt is paired with the KL of its own prefix, by (task, attempt, level). Only where a
task has one single scored prefix at a level does that score serve every attempt. Missing is NaN, never 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from foreshock.analysis.tables import TableKind, numbered_checkpoints, read_table
from foreshock.analysis.tables.load import run_name
from foreshock.errors import InputError

SURFACE = ["run", "exploit_type"]
KEYS = [*SURFACE, "checkpoint", "prefill_level"]
COLUMNS = [*KEYS, "n", "k", "kl_mean", "kl_success", "logprob_mean"]
UNINTENTIONAL_TYPES = frozenset({"inadequate_test_coverage", "resource_exhaustion"})
"""Exploits that a model commits without meaning to; left out unless asked for."""


@dataclass(frozen=True, slots=True)
class RunCells:
    """The cell table of one run, and sentences about what was left out on the way."""

    cells: pd.DataFrame
    notes: tuple[str, ...]


def load_run_cells(
    source: Path, *, label: str | None = None, logprobs: Path | None = None, all_types: bool = False
) -> RunCells:
    """Cells of a run directory (or of its evals/ folder, whose siblings kl/ and logprob/ are then read).

    label: the run's name in the tables; its directory's name by default. logprobs: a directory to read log P(z)
    from instead of the run's own logprob/.

    Raises:
        InputError: see `read_table`; no evals; no exploit type left.
    """
    run_dir = source.resolve().parent if source.resolve().name == TableKind.EVAL.value else source
    name = label or run_name(source)
    evals = read_table(source, TableKind.EVAL)
    notes = [f"{name}: {line}" for line in evals.report.lines()]
    frames: dict[TableKind, pd.DataFrame | None] = {}
    places = {TableKind.KL: run_dir, TableKind.LOGPROB: logprobs or run_dir}
    for kind, place in places.items():
        wanted = kind is TableKind.LOGPROB and logprobs is not None
        if wanted or any((place / kind.value).glob("*.jsonl")):
            table = read_table(place, kind)
            notes += [f"{name}: {kind.value}: {line}" for line in table.report.lines()]
            frames[kind] = table.frame
        else:
            notes.append(f"{name}: no {kind.value}/ rows; metrics that need them are left out")
            frames[kind] = None
    cells = cells_from_frames(evals.frame, frames[TableKind.KL], frames[TableKind.LOGPROB], notes)
    cells["run"] = name
    if not all_types:
        cells = cells[~cells["exploit_type"].isin(UNINTENTIONAL_TYPES)]
    if cells.empty:
        raise InputError(
            "no attempt of an intentional exploit type",
            path=source,
            fix="pass --all-types to include " + " and ".join(sorted(UNINTENTIONAL_TYPES)),
        )
    return RunCells(cells.reset_index(drop=True), tuple(notes))


def cells_from_frames(
    evals: pd.DataFrame,
    kl: pd.DataFrame | None = None,
    logprobs: pd.DataFrame | None = None,
    notes: list[str] | None = None,
) -> pd.DataFrame:
    """The cell table of one run from the frames that `analysis.tables` loads (columns as there)."""
    notes = [] if notes is None else notes
    if not np.isfinite(np.asarray(evals["checkpoint"], dtype=float)).all():
        notes.append("the checkpoint named final has no step and is left out of models over training time")
    evals = _plain(evals)
    types = evals.drop_duplicates("task_id").set_index("task_id")["exploit_type"]
    keys = ["exploit_type", "checkpoint", "prefill_level"]
    cells = evals.groupby(keys, as_index=False).agg(n=("exploit_success", "size"), k=("exploit_success", "sum"))
    cells["k"] = cells["k"].astype(np.int64)
    if kl is not None:
        scored = _typed(_plain(kl), types, notes, "KL")
        paired = _pair(evals, scored, "kl_divergence")
        success = paired[paired["exploit_success"].astype(bool)].groupby(keys)["kl_divergence"].mean()
        cells = _join(cells, scored.groupby(keys)["kl_divergence"].mean().rename("kl_mean"), keys)
        cells = cells.merge(success.rename("kl_success").reset_index(), on=keys, how="left")
    if logprobs is not None:
        scored = _typed(_plain(logprobs), types, notes, "logprob")
        means = scored.groupby(keys)["prefill_logprob_sum"].mean().rename("logprob_mean")
        cells = _join(cells, means, keys)
    run = str(evals["run"].iloc[0]) if "run" in evals and len(evals) else "run"
    cells["run"] = run
    return validate_cells(cells.reindex(columns=COLUMNS))


def _plain(frame: pd.DataFrame) -> pd.DataFrame:
    """Steps as numbers, strings as plain objects, no further rollouts of the same attempt."""
    frame = numbered_checkpoints(frame)
    if "rollout" in frame:
        frame = frame[frame["rollout"] == 0]
    return frame.assign(task_id=frame["task_id"].astype(str), exploit_type=frame["exploit_type"].astype(str))


def _typed(frame: pd.DataFrame, types: pd.Series[str], notes: list[str], kind: str) -> pd.DataFrame:
    """Scores above level 0 of tasks that were evaluated, under the exploit type that the evals record."""
    known = frame["task_id"].isin(types.index)
    if not known.all():
        notes.append(f"{int((~known).sum()):,} {kind} rows of tasks without an eval row left out")
    frame = frame[known & (frame["prefill_level"] > 0)]
    return frame.assign(exploit_type=frame["task_id"].map(types))


def _pair(evals: pd.DataFrame, scored: pd.DataFrame, value: str) -> pd.DataFrame:
    """Eval rows with the score of their own prefix; rows without one are left out."""
    place = ["checkpoint", "prefill_level", "task_id"]
    prefilled = evals[evals["prefill_level"] > 0]
    scores = scored[[*place, "attempt_idx", value]].drop_duplicates([*place, "attempt_idx"])
    exact = prefilled.merge(scores, on=[*place, "attempt_idx"], how="left")
    single = scores[~scores.duplicated(place, keep=False)][[*place, value]]
    spread = exact.drop(columns=value).merge(single, on=place, how="left")[value]
    exact[value] = exact[value].to_numpy(float)
    exact[value] = exact[value].where(exact[value].notna(), spread.to_numpy(float))
    return exact[exact[value].notna()]


def _join(cells: pd.DataFrame, values: pd.Series[float], keys: list[str]) -> pd.DataFrame:
    merged = cells.merge(values.reset_index(), on=keys, how="outer")
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


def run_checkpoints(cells: pd.DataFrame) -> dict[str, list[float]]:
    """Sorted checkpoints of each run."""
    return {str(run): sorted(float(c) for c in part["checkpoint"].unique()) for run, part in cells.groupby("run")}


def seen_until(cells: pd.DataFrame, cutoff_idx: int) -> pd.DataFrame:
    """Rows of each run's first `cutoff_idx` + 1 checkpoints: all that a feature at that cutoff may see."""
    last = {run: steps[min(cutoff_idx, len(steps) - 1)] for run, steps in run_checkpoints(cells).items()}
    return cells[cells["checkpoint"] <= cells["run"].map(last)]
