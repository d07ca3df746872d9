"""Run directories to Evidence: every prefilled attempt joined to the weight of its own prefix.

The one hard decision: a weight belongs to (checkpoint, level, task, attempt) and is never borrowed from another
attempt's prefix. Only where a run scored one attempt index throughout, and nothing says that a task's attempts had
different prefixes, does the one score serve them all. Taking the first match instead has produced
"probabilities" of 10^9.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from foreshock.analysis.estimates.donor import smoothed_rates
from foreshock.analysis.estimates.evidence import DonorKind, Evidence, Floats, Ints, PrefillRows, Surface
from foreshock.analysis.tables import (
    TableKind,
    load_evals,
    load_kl,
    load_logprobs,
    load_ref_logprobs,
    numbered_checkpoints,
    read_sampled,
)
from foreshock.analysis.tables.load import run_name
from foreshock.errors import InputError

_CELL = ["checkpoint", "prefill_level", "task"]
_PREFIX = ["prefill_level", "task"]


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
    tasks, types = _Names(), _Names()
    donor = _load_donor(donor_run, conditioned, tasks, notes) if donor_run is not None else None
    frames = [_run_frame(Path(run), donor, tasks, types, notes) for run in run_dirs]
    names = [run_name(Path(run)) for run in run_dirs]
    if len(set(names)) != len(names):
        raise InputError(f"two run directories share the name {max(names, key=names.count)!r}; rename one")
    parts = [frame.assign(run=i) for i, frame in enumerate(frames)]
    table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
    if table.empty:
        raise InputError(
            "no evaluated attempt at a numbered checkpoint in the run directories given", path=Path(run_dirs[0])
        )
    if not conditioned:
        kind = DonorKind.UNCONDITIONED
    elif donor is not None and donor.has_rates:
        kind = DonorKind.CONDITIONED
    else:
        kind = DonorKind.CONDITIONED_UNCORRECTED
        notes.append(
            "the prefill source kept only exploit traces and no donor rollouts were given: weights lack the factor "
            "pi/a, so importance-sampling rows are heuristic; pass --donor-run, or --donor-unconditioned"
        )
    return LoadedEvidence(_to_evidence(table, names, types, kind), tuple(dict.fromkeys(notes)))


class _Names:
    """Integer codes for names, shared by all tables, so that joins compare integers instead of millions of strings."""

    def __init__(self) -> None:
        self.index: dict[str, int] = {}

    def codes(self, column: pd.Series[Any]) -> Ints:
        """Code of each entry; only distinct names are touched as strings."""
        found = column.astype("category").cat
        lookup = [self.index.setdefault(str(name), len(self.index)) for name in found.categories]
        return np.asarray(lookup, dtype=np.int64)[found.codes.to_numpy()]


@dataclass(frozen=True, slots=True)
class _Donor:
    """log_q: by (prefill_level, task, attempt_idx); correction: the same with log(pi / a), or empty."""

    log_q: pd.DataFrame
    correction: pd.DataFrame
    has_rates: bool


def _rates_of(frame: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Smoothed exploit rate of each key; smoothing is by exploit type and level."""
    counts = frame.groupby([*keys, "exploit_type"], observed=True)["exploit_success"].agg(["sum", "size"]).reset_index()
    grouping = ["exploit_type"] + (["prefill_level"] if "prefill_level" in keys else [])
    group = counts.groupby(grouping, observed=True).ngroup().to_numpy()
    k, n = counts["sum"].to_numpy(np.int64), counts["size"].to_numpy(np.int64)
    return counts.assign(rate=smoothed_rates(k, n, group.astype(np.int64)))


def _load_donor(path: Path, conditioned: bool, tasks: _Names, notes: list[str]) -> _Donor:
    log_q = _scores(_optional(path, TableKind.LOGPROB), tasks)
    # The donor is one model: its label in the file name carries no meaning here.
    log_q = log_q.drop(columns="checkpoint").drop_duplicates(["prefill_level", "task", "attempt_idx"])
    empty = pd.DataFrame(columns=["prefill_level", "task", "attempt_idx", "correction"])
    if not conditioned:
        return _Donor(log_q, empty, has_rates=False)
    evals = load_evals(path, repeats_are_rollouts=True)
    evals = evals.assign(exploit_success=evals["exploit_success"].astype(np.int64), task=tasks.codes(evals["task_id"]))
    at_zero, above = evals[evals["prefill_level"] == 0], evals[evals["prefill_level"] > 0]
    if at_zero.empty or above.empty:
        notes.append(f"{path} has no level-0 or no prefilled rollouts of the donor: pi and a are unknown")
        return _Donor(log_q, empty, has_rates=False)
    pi = _rates_of(at_zero, ["task"])[["task", "rate"]].rename(columns={"rate": "pi"})
    a = _rates_of(above, ["prefill_level", "task", "attempt_idx"])
    joined = a.merge(pi, on="task", how="inner")
    correction = np.log(joined["pi"].to_numpy()) - np.log(joined["rate"].to_numpy())
    joined = joined.assign(correction=correction)[list(empty.columns)]
    return _Donor(log_q, joined, has_rates=True)


def _optional(path: Path, kind: TableKind) -> pd.DataFrame | None:
    """The table, or None when the run has no such folder."""
    if not (Path(path) / kind.value).is_dir():
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


def _packed(rows: pd.DataFrame, scores: pd.DataFrame, keys: list[str]) -> tuple[Ints, Ints]:
    """One integer per row of either table, equal where all keys are equal."""
    left, right = np.zeros(len(rows), dtype=np.int64), np.zeros(len(scores), dtype=np.int64)
    for key in keys:
        values = np.unique(scores[key].to_numpy())
        place = np.searchsorted(values, rows[key].to_numpy())
        known = values[np.minimum(place, len(values) - 1)] == rows[key].to_numpy()
        width = len(values) + 1
        left = left * width + np.where(known, place, len(values))
        right = right * width + np.searchsorted(values, scores[key].to_numpy())
    return left, right


def _looked_up(rows: pd.DataFrame, scores: pd.DataFrame, keys: list[str], value: str) -> Floats:
    """`value` of the first score with the row's keys; NaN where there is none."""
    left, right = _packed(rows, scores, keys)
    distinct, first = np.unique(right, return_index=True)
    place = np.minimum(np.searchsorted(distinct, left), len(distinct) - 1)
    values = scores[value].to_numpy(dtype=np.float64)[first]
    return np.asarray(np.where(distinct[place] == left, values[place], np.nan))


def _attach(rows: pd.DataFrame, scores: pd.DataFrame, keys: list[str], value: str) -> Floats:
    """`value` of each row's own prefix: [len(rows)], NaN where it was not scored."""
    if scores.empty:
        return np.full(len(rows), np.nan)
    found = _looked_up(rows, scores, [*keys, "attempt_idx"], value)
    if scores["attempt_idx"].nunique() > 1 or not np.isnan(found).any():
        # Attempts were scored one by one: a missing score is missing, even if its task has another attempt's.
        return found
    texts = rows.groupby(keys, observed=True, sort=False)["prefix"].transform("nunique").to_numpy()
    return np.asarray(np.where(np.isnan(found) & (texts <= 1), _looked_up(rows, scores, keys, value), found))


def _run_frame(path: Path, donor: _Donor | None, tasks: _Names, types: _Names, notes: list[str]) -> pd.DataFrame:
    """One row per attempt: its cell, type, task, attempt_idx, success, log_w and log_p."""
    everything = read_sampled(path).frame
    evals = numbered_checkpoints(everything)
    if len(evals) < len(everything):
        notes.append(f"{path.name}: checkpoint `final` has no training step and is left out")
    rows = pd.DataFrame({name: evals[name].to_numpy() for name in ("checkpoint", "prefill_level", "attempt_idx")})
    rows = rows.assign(
        task=tasks.codes(evals["task_id"]),
        type=types.codes(evals["exploit_type"]),
        success=evals["exploit_success"].to_numpy().astype(np.int64),
        prefix=_prefix_identity(evals),
    )
    kl = _kl_scores(_optional(path, TableKind.KL), tasks)
    scores = _scores(_optional(path, TableKind.LOGPROB), tasks)
    log_p = _attach(rows, scores, _CELL, "log_p")
    kl_log_p, kl_log_q, kl_log_w = (_attach(rows, kl, _CELL, name) for name in ("log_p", "log_q", "log_w"))
    log_p = np.where(np.isnan(log_p), kl_log_p, log_p)
    log_q = np.full(len(rows), np.nan)
    if donor is not None:
        log_q = _attach(rows, donor.log_q.rename(columns={"log_p": "log_q"}), _PREFIX, "log_q")
    reference = _scores(_optional(path, TableKind.REF_LOGPROB), tasks).rename(columns={"log_p": "log_q"})
    if len(reference):
        log_q = np.where(np.isnan(log_q), _attach(rows, reference, _PREFIX, "log_q"), log_q)
    log_q = np.where(np.isnan(log_q), kl_log_q, log_q)
    log_w = np.where(np.isnan(log_p - log_q), kl_log_w, log_p - log_q)
    if donor is not None and donor.has_rates:
        log_w = log_w + _attach(rows, donor.correction, _PREFIX, "correction")
    _note_unmatched(path, rows, kl, scores, log_w, notes)
    return rows.assign(log_w=log_w, log_p=log_p)


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


def _note_unmatched(
    path: Path, rows: pd.DataFrame, kl: pd.DataFrame, scores: pd.DataFrame, log_w: Floats, notes: list[str]
) -> None:
    prefilled = rows["prefill_level"].to_numpy() > 0
    missing = int((prefilled & np.isnan(log_w)).sum())
    if missing:
        notes.append(
            f"{path.name}: {missing} of {int(prefilled.sum())} prefilled attempts have no scored prefix; they count "
            "as attempts but carry no importance weight"
        )
    cells = _cells(rows)
    for name, table in (("KL", kl), ("logprob", scores)):
        orphans = {cell for cell in _cells(table) - cells if np.isfinite(cell[0])}
        if orphans:
            listed = ", ".join(f"checkpoint-{c:g} prefill {level:g}" for c, level in sorted(orphans)[:3])
            notes.append(f"{path.name}: {name} rows without eval rows are left out ({len(orphans)} cells: {listed})")


def _cells(table: pd.DataFrame) -> set[tuple[float, float]]:
    distinct = table[["checkpoint", "prefill_level"]].drop_duplicates()
    return set(zip(distinct["checkpoint"], distinct["prefill_level"], strict=True))


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
    success = table["success"].to_numpy(dtype=np.int64)
    n = np.bincount(cell, minlength=size).reshape(shape)
    k = np.bincount(cell, weights=success, minlength=size).astype(np.int64).reshape(shape)
    task, attempt = table["task"].to_numpy(dtype=np.int64), table["attempt_idx"].to_numpy(dtype=np.int64)
    rows = PrefillRows(
        surface,
        checkpoint.astype(np.int64),
        level.astype(np.int64),
        task,
        task * (int(attempt.max()) + 1) + attempt,
        success,
        table["log_w"].to_numpy(dtype=np.float64),
        table["log_p"].to_numpy(dtype=np.float64),
    )
    surfaces = tuple(Surface(run, name) for run, name, _ in present)
    return Evidence(surfaces, steps, levels, n, k, rows.take(levels[level] > 0), kind)
