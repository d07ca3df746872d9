"""Run directories to Evidence: every prefilled attempt joined to the weight of its own prefix.

A weight belongs to (checkpoint, level, task, attempt) and is never borrowed from another attempt's prefix. Only where
a run scored one attempt index throughout, and nothing says that a task's attempts had different prefixes, does the
one score serve them all. Taking the first match instead has produced "probabilities" of 10^9.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from foreshock.analysis.evidence.donor import smoothed_rates
from foreshock.analysis.evidence.evidence import DirectRows, DonorKind, Evidence, Floats, Ints, PrefillRows, Surface
from foreshock.analysis.evidence.pairing import kl_faults, pairing_faults, score_facts
from foreshock.analysis.tables import (
    TableKind,
    load_evals,
    load_kl,
    load_kl_sample,
    load_logprobs,
    load_ref_logprobs,
    numbered_checkpoints,
    read_sampled,
)
from foreshock.analysis.tables.channel import forced_answers, left_out_note
from foreshock.analysis.tables.files import find_run_files, has_files
from foreshock.analysis.tables.join import is_shared, look_up
from foreshock.analysis.tables.load import run_name
from foreshock.analysis.tables.spacing import evenly_spaced
from foreshock.errors import InputError
from foreshock.jobs.records.table_files import table_names, table_size
from foreshock.jobs.records.table_gaps import gap_lines

Cell = tuple[float, float]
"""Checkpoint and prefill level."""

_CELL = ["checkpoint", "prefill_level", "task"]
_PREFIX = ["prefill_level", "task"]
_KL_CELLS_COMPARED = 24
MOST_TOGETHER = 4000
"""Exploit types of runs times checkpoints."""


@dataclass(frozen=True, slots=True)
class LoadedEvidence:
    """Evidence and what a reader should know about how it was put together."""

    evidence: Evidence
    notes: tuple[str, ...] = field(default=())


def load_evidence(run_dirs: Sequence[Path], donor_run: Path | None = None, conditioned: bool = True) -> LoadedEvidence:
    """Read runs (and the donor's own run) into one Evidence.

    Checkpoints named `final` have no step and are left out, with a note. Raises InputError for unreadable or
    contradicting rows, two runs of one name, or no usable evaluation at all.
    """
    notes: list[str] = []
    faults: list[str] = []
    codes = _Codes(_Names(), _Names(), _Names())
    types = codes.types
    donor = _load_donor(donor_run, conditioned, codes, notes) if donor_run is not None else None
    parts = [
        _run_frame(Path(run), donor, codes, notes, faults).assign(run=np.int32(i)) for i, run in enumerate(run_dirs)
    ]
    names = [run_name(Path(run)) for run in run_dirs]
    if len(set(names)) != len(names):
        raise InputError(f"two run directories share the name {max(names, key=names.count)!r}; rename one")
    table = pd.concat(parts, ignore_index=True) if len(parts) != 1 else parts.pop()
    parts.clear()
    if table.empty:
        raise InputError(
            "no evaluated attempt at a numbered checkpoint in the run directories given", path=Path(run_dirs[0])
        )
    table = _few_enough(table, names, notes)
    if not conditioned:
        kind = DonorKind.UNCONDITIONED
    elif donor is not None and donor.has_rates:
        kind = DonorKind.CONDITIONED
    else:
        kind = DonorKind.CONDITIONED_UNCORRECTED
        notes.append(
            "the prefill source kept only exploit traces and no donor rollouts were given: weights lack the factor "
            "pi/a, so importance-sampling rows are heuristic; name the donor's own run (--donor-run, or "
            "analysis.donor_run in the configuration), or say --donor-unconditioned"
        )
    evidence = replace(_to_evidence(table, names, types, kind), faults=tuple(faults))
    return LoadedEvidence(evidence, tuple(dict.fromkeys(notes)))


def _few_enough(table: pd.DataFrame, runs: Sequence[str], notes: list[str]) -> pd.DataFrame:
    """Rows of so many checkpoints that all types at all of them are no more than `MOST_TOGETHER`: of each run evenly
    spaced ones, with the first and the last."""
    n_surfaces = len(table[["run", "type"]].drop_duplicates())
    most = max(MOST_TOGETHER // n_surfaces, 2 * len(runs))
    if table["checkpoint"].nunique() <= most:
        return table
    kept = np.zeros(len(table), dtype=bool)
    for number, run in enumerate(runs):
        mine = (table["run"] == number).to_numpy()
        steps = np.unique(table["checkpoint"].to_numpy()[mine])
        shown = evenly_spaced(steps.tolist(), most // len(runs))
        kept |= mine & np.isin(table["checkpoint"].to_numpy(), shown)
        if len(shown) < len(steps):
            notes.append(
                f"{run}: rates are of {len(shown):,} of its {len(steps):,} checkpoints, evenly spaced, the last too: "
                f"they are estimated together, {MOST_TOGETHER:,} types and checkpoints at most, since time grows with "
                "the cube of that"
            )
    return table[kept].reset_index(drop=True)


class _Names:
    """Integer codes for names, shared by all tables, so that joins compare integers instead of millions of strings."""

    def __init__(self) -> None:
        self.index: dict[str, int] = {}

    def codes(self, column: pd.Series[Any]) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
        """Code of each entry, -1 for null; only distinct names are touched as strings."""
        found = column.astype("category").cat
        lookup = [self.index.setdefault(str(name), len(self.index)) for name in found.categories]
        return np.asarray([*lookup, -1], dtype=np.int32)[found.codes.to_numpy()]  # code -1: null


@dataclass(frozen=True, slots=True)
class _Codes:
    """Codes of task names, exploit types and digests of prefixes."""

    tasks: _Names
    types: _Names
    shas: _Names


@dataclass(frozen=True, slots=True)
class _Donor:
    """log_q: by (prefill_level, task, attempt_idx); correction: the same with log(pi / a), or empty; facts: what its
    scores say of themselves."""

    log_q: pd.DataFrame
    correction: pd.DataFrame
    has_rates: bool
    facts: pd.DataFrame | None = None


def _rates_of(frame: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Smoothed exploit rate of each key; smoothing is by exploit type and level."""
    counts = frame.groupby([*keys, "exploit_type"], observed=True)["exploit_success"].agg(["sum", "size"]).reset_index()
    grouping = ["exploit_type"] + (["prefill_level"] if "prefill_level" in keys else [])
    group = counts.groupby(grouping, observed=True).ngroup().to_numpy()
    k, n = counts["sum"].to_numpy(np.int64), counts["size"].to_numpy(np.int64)
    return counts.assign(rate=smoothed_rates(k, n, group.astype(np.int64)))


def _load_donor(path: Path, conditioned: bool, codes: _Codes, notes: list[str]) -> _Donor:
    tasks = codes.tasks
    table = _optional(path, TableKind.LOGPROB)
    log_q, facts = _scores(table, tasks), _facts(table, codes)
    # The donor is one model: its label in the file name carries no meaning here.
    log_q = log_q.drop(columns="checkpoint").drop_duplicates(["prefill_level", "task", "attempt_idx"])
    empty = pd.DataFrame(columns=["prefill_level", "task", "attempt_idx", "correction"])
    if not conditioned:
        return _Donor(log_q, empty, has_rates=False, facts=facts)
    evals = load_evals(path, repeats_are_rollouts=True)
    evals = evals.assign(exploit_success=evals["exploit_success"].astype(np.int64), task=tasks.codes(evals["task_id"]))
    at_zero, above = evals[evals["prefill_level"] == 0], evals[evals["prefill_level"] > 0]
    if at_zero.empty or above.empty:
        notes.append(f"{path} has no level-0 or no prefilled rollouts of the donor: pi and a are unknown")
        return _Donor(log_q, empty, has_rates=False, facts=facts)
    pi = _rates_of(at_zero, ["task"])[["task", "rate"]].rename(columns={"rate": "pi"})
    a = _rates_of(above, ["prefill_level", "task", "attempt_idx"])
    joined = a.merge(pi, on="task", how="inner")
    correction = np.log(joined["pi"].to_numpy()) - np.log(joined["rate"].to_numpy())
    joined = joined.assign(correction=correction)[list(empty.columns)]
    return _Donor(log_q, joined, has_rates=True, facts=facts)


def _optional(path: Path, kind: TableKind) -> pd.DataFrame | None:
    """The table, or None when the run has no such folder or nothing in it; names that say no cell are an error."""
    if not any(name.endswith(".jsonl") for name in table_names(Path(path) / kind.value)):
        return None
    loaders = {
        TableKind.LOGPROB: load_logprobs,
        TableKind.REF_LOGPROB: load_ref_logprobs,
        TableKind.KL: load_kl,
    }
    return loaders[kind](path)


def _scores(frame: pd.DataFrame | None, tasks: _Names) -> pd.DataFrame:
    """checkpoint, prefill_level, task, attempt_idx, log_p of a logprob table."""
    columns = ["checkpoint", "prefill_level", "task", "attempt_idx", "log_p"]
    if frame is None:
        return pd.DataFrame({name: np.zeros(0) for name in columns})
    frame = frame[frame["prefill_level"] > 0].rename(columns={"prefill_logprob_sum": "log_p"})
    return frame.assign(task=tasks.codes(frame["task_id"]))[columns]


def _facts(frame: pd.DataFrame | None, codes: _Codes) -> pd.DataFrame | None:
    """What scores above level 0 say of themselves."""
    if frame is None:
        return None
    frame = frame[frame["prefill_level"] > 0]
    return score_facts(frame, codes.tasks.codes(frame["task_id"]), codes.shas.codes(frame["prefill_sha256"]))


def _attach(rows: pd.DataFrame, scores: pd.DataFrame, keys: list[str], value: str) -> Floats:
    """`value` of each row's own prefix: [len(rows)], NaN where it was not scored."""
    if scores.empty:
        return np.full(len(rows), np.nan)
    found = look_up(rows, scores, [*keys, "attempt_idx"], value)
    missing = np.isnan(found)
    if scores["attempt_idx"].nunique() > 1 or not missing.any():
        # Attempts were scored one by one: a missing score is missing, even if its task has another attempt's.
        return found
    missing &= is_shared(rows, keys, "prefix")
    return np.asarray(np.where(missing, look_up(rows, scores, keys, value), found))


def _run_frame(path: Path, donor: _Donor | None, codes: _Codes, notes: list[str], faults: list[str]) -> pd.DataFrame:
    """One row per attempt: its cell, type, task, attempt_idx, success, log_w and log_p."""
    tasks, types = codes.tasks, codes.types
    everything = read_sampled(path).frame
    notes += [f"{path.name}: {line}" for line in gap_lines(path)]
    evals = numbered_checkpoints(everything)
    if len(evals) < len(everything):
        notes.append(f"{path.name}: checkpoint `final` has no training step and is left out")
    rows = pd.DataFrame({name: evals[name].to_numpy() for name in ("checkpoint", "prefill_level", "attempt_idx")})
    rows = rows.assign(
        task=tasks.codes(evals["task_id"]),
        type=types.codes(evals["exploit_type"]),
        success=evals["exploit_success"].to_numpy().astype(np.int8),
        prefix=_prefix_identity(evals),
        sha=codes.shas.codes(evals["prefill_sha256"]),
    )
    answers = forced_answers(evals)
    if answers.any():
        why = "they carry no importance weight, since what was given has none"
        notes.append(left_out_note(path.name, int(answers.sum()), why))
    del everything, evals
    table = _optional(path, TableKind.LOGPROB)
    scores, facts = _scores(table, tasks), _facts(table, codes)
    del table
    if facts is not None:
        said = rows.assign(sha=np.where(rows["sha"] >= 0, rows["sha"], np.nan))
        faults += pairing_faults(path.name, said, facts, donor.facts if donor is not None else None)
    rows = rows.drop(columns="sha")
    log_p = _attach(rows, scores, _CELL, "log_p")
    log_q = np.full(len(rows), np.nan)
    if donor is not None:
        log_q = _attach(rows, donor.log_q.rename(columns={"log_p": "log_q"}), _PREFIX, "log_q")
    reference = _scores(_optional(path, TableKind.REF_LOGPROB), tasks).rename(columns={"log_p": "log_q"})
    if len(reference):
        log_q = np.where(np.isnan(log_q), _attach(rows, reference, _PREFIX, "log_q"), log_q)
    log_w = log_p - log_q
    prefilled = rows["prefill_level"].to_numpy() > 0
    scored = {"logprob": _cells(scores)}
    if np.isnan(log_w[prefilled]).any():
        kl = _kl_scores(_optional(path, TableKind.KL), tasks)
        kl_log_p, kl_log_q, kl_log_w = (_attach(rows, kl, _CELL, name) for name in ("log_p", "log_q", "log_w"))
        log_p = np.where(np.isnan(log_p), kl_log_p, log_p)
        log_q = np.where(np.isnan(log_q), kl_log_q, log_q)
        log_w = np.where(np.isnan(log_p - log_q), kl_log_w, log_p - log_q)
        scored = {"KL": _cells(kl), **scored}
    elif has_files(path, TableKind.KL):  # nothing that the scores do not say already, or should not
        scored = {"KL": _cells_of_files(path, TableKind.KL), **scored}
        told = _kl_scores(load_kl_sample(path, _KL_CELLS_COMPARED), tasks)
        theirs = reference if donor is None else donor.log_q.rename(columns={"log_p": "log_q"})
        faults += kl_faults(path.name, told, scores, theirs)
    if donor is not None and donor.has_rates:
        log_w = log_w + _attach(rows, donor.correction, _PREFIX, "correction")
    unscored = np.isnan(log_w) & prefilled & ~answers
    notes += _unmatched(path, rows, scored, int(unscored.sum()), int((unscored & ~np.isnan(log_p)).sum()))
    log_w, log_p = np.where(answers, np.nan, log_w), np.where(answers, np.nan, log_p)
    return rows.drop(columns="prefix").assign(log_w=log_w, log_p=log_p)


def _prefix_identity(evals: pd.DataFrame) -> Ints:
    """A code that differs where two rows say that their prefix texts differ; equal where they do not say."""
    sha = evals["prefill_sha256"].astype("category").cat.codes.to_numpy().astype(np.int64)
    source = evals["prefill_attempt_idx"].fillna(-1).to_numpy().astype(np.int64)
    return np.asarray(sha * (int(source.max(initial=0)) + 2) + source)


def _kl_scores(frame: pd.DataFrame | None, tasks: _Names) -> pd.DataFrame:
    columns = ["checkpoint", "prefill_level", "task", "attempt_idx", "log_p", "log_q", "log_w"]
    if frame is None:
        return pd.DataFrame({name: np.zeros(0) for name in columns})
    frame = frame[frame["prefill_level"] > 0]
    frame = frame.rename(columns={"eval_logprob_sum": "log_p", "ref_logprob_sum": "log_q"})
    return frame.assign(task=tasks.codes(frame["task_id"]), log_w=-frame["kl_divergence"].to_numpy())[columns]


def _unmatched(
    path: Path, rows: pd.DataFrame, scored: dict[str, set[Cell]], n_unscored: int, n_without_reference: int
) -> Iterator[str]:
    """What to tell about attempts without a score and scores without an attempt."""
    if n_unscored:
        n_prefilled = int((rows["prefill_level"].to_numpy() > 0).sum())
        what = f"{path.name}: {n_unscored} of {n_prefilled} prefilled attempts"
        rest = "they count as attempts but carry no importance weight"
        if n_without_reference == n_unscored:
            yield (
                f"{what} have a log-probability under their checkpoint but none under a reference; {rest}: set "
                "logprob.reference to the donor's checkpoint"
            )
        else:
            yield f"{what} have no scored prefix; {rest}"
    evaluated = _cells(rows)
    for name, cells in scored.items():
        orphans = {cell for cell in cells - evaluated if np.isfinite(cell[0])}
        if orphans:
            listed = ", ".join(f"checkpoint-{c:.0f} prefill {level:g}" for c, level in sorted(orphans)[:3])
            yield f"{path.name}: {name} rows without eval rows are left out ({len(orphans)} cells: {listed})"


def _cells(table: pd.DataFrame) -> set[Cell]:
    distinct = table[["checkpoint", "prefill_level"]].drop_duplicates()
    return set(zip(distinct["checkpoint"], distinct["prefill_level"], strict=True))


def _cells_of_files(run: Path, kind: TableKind) -> set[Cell]:
    files = find_run_files(run, kind).cells
    held = [cell for cell in files if cell.prefill_level > 0 and any(map(table_size, cell.paths))]
    return {(cell.checkpoint, cell.prefill_level) for cell in held}


def _to_evidence(table: pd.DataFrame, runs: list[str], types: _Names, kind: DonorKind) -> Evidence:
    type_names = list(types.index)
    code = table["run"].to_numpy(dtype=np.int64) * len(type_names) + table["type"].to_numpy(dtype=np.int64)
    present = [(runs[c // len(type_names)], type_names[c % len(type_names)], c) for c in np.unique(code).tolist()]
    present.sort()
    lookup = np.zeros(len(runs) * len(type_names), dtype=np.int64)
    lookup[[c for _, _, c in present]] = np.arange(len(present))
    surface = lookup[code]
    steps, checkpoint = np.unique(table["checkpoint"].to_numpy(dtype=np.float64), return_inverse=True)
    levels, level = np.unique(table["prefill_level"].to_numpy(dtype=np.int64), return_inverse=True)
    shape = (len(present), len(steps), len(levels))
    cell = np.ravel_multi_index((surface, checkpoint, level), shape)
    size = int(np.prod(shape))
    success = table["success"].to_numpy()
    n = np.bincount(cell, minlength=size).reshape(shape)
    k = np.bincount(cell, weights=success, minlength=size).astype(np.int64).reshape(shape)
    kept = levels[level] > 0
    task, attempt = (table[name].to_numpy()[kept].astype(np.int64) for name in ("task", "attempt_idx"))
    rows = PrefillRows(
        surface[kept],
        checkpoint[kept].astype(np.int64),
        level[kept].astype(np.int64),
        task,
        task * (int(table["attempt_idx"].max()) + 1) + attempt,
        success[kept].astype(np.int64),
        table["log_w"].to_numpy(dtype=np.float64)[kept],
        table["log_p"].to_numpy(dtype=np.float64)[kept],
    )
    surfaces = tuple(Surface(run, name) for run, name, _ in present)
    direct = _direct_rows(surface[~kept], checkpoint[~kept], table.loc[~kept, "task"], success[~kept])
    return Evidence(surfaces, steps, levels, n, k, rows, kind, direct)


def _direct_rows(surface: Ints, checkpoint: Ints, task: pd.Series[Any], success: Ints) -> DirectRows:
    """Unprompted attempts counted by task."""
    codes = task.to_numpy(dtype=np.int64)
    keys, where = np.unique(np.stack([surface, checkpoint, codes]), axis=1, return_inverse=True)
    k = np.bincount(where.reshape(-1), weights=success, minlength=keys.shape[1]).astype(np.int64)
    n = np.bincount(where.reshape(-1), minlength=keys.shape[1])
    cells, steps, names = (key.astype(np.int64) for key in keys)
    return DirectRows(cells, steps, names, n, k)
