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
from foreshock.analysis.estimates.evidence import DonorKind, Evidence, Floats, PrefillRows, Surface
from foreshock.analysis.tables import (
    TableKind,
    load_evals,
    load_kl,
    load_logprobs,
    load_ref_logprobs,
    numbered_checkpoints,
)
from foreshock.errors import InputError

_CELL = ["checkpoint", "prefill_level", "task_id"]
_PREFIX = ["prefill_level", "task_id"]


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
    donor = _load_donor(donor_run, conditioned, notes) if donor_run is not None else None
    frames = [_run_frame(Path(run), donor, notes) for run in run_dirs]
    names = [str(frame["run"].iloc[0]) for frame in frames if len(frame)]
    if len(set(names)) != len(names):
        raise InputError(f"two run directories share the name {max(names, key=names.count)!r}; rename one")
    table = pd.concat([_plain(frame) for frame in frames], ignore_index=True) if frames else pd.DataFrame()
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
    return LoadedEvidence(_to_evidence(table, kind), tuple(dict.fromkeys(notes)))


@dataclass(frozen=True, slots=True)
class _Donor:
    """log_q: by (prefill_level, task_id, attempt_idx); correction: the same with log(pi / a), or empty."""

    log_q: pd.DataFrame
    correction: pd.DataFrame
    has_rates: bool


def _plain(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.astype(dict.fromkeys(("run", "exploit_type", "task_id"), "str"))


def _rates_of(frame: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Smoothed exploit rate of each key; smoothing is by exploit type and level."""
    counts = frame.groupby([*keys, "exploit_type"], observed=True)["exploit_success"].agg(["sum", "size"]).reset_index()
    grouping = ["exploit_type"] + (["prefill_level"] if "prefill_level" in keys else [])
    group = counts.groupby(grouping, observed=True).ngroup().to_numpy()
    k, n = counts["sum"].to_numpy(np.int64), counts["size"].to_numpy(np.int64)
    return counts.assign(rate=smoothed_rates(k, n, group.astype(np.int64)))


def _load_donor(path: Path, conditioned: bool, notes: list[str]) -> _Donor:
    log_q = _scores(_optional(path, TableKind.LOGPROB))
    # The donor is one model: its label in the file name carries no meaning here.
    log_q = log_q.drop(columns="checkpoint").drop_duplicates(["prefill_level", "task_id", "attempt_idx"])
    empty = pd.DataFrame(columns=["prefill_level", "task_id", "attempt_idx", "correction"])
    if not conditioned:
        return _Donor(log_q, empty, has_rates=False)
    evals = load_evals(path)
    evals = evals.assign(exploit_success=evals["exploit_success"].astype(np.int64))
    at_zero, above = evals[evals["prefill_level"] == 0], evals[evals["prefill_level"] > 0]
    if at_zero.empty or above.empty:
        notes.append(f"{path} has no level-0 or no prefilled rollouts of the donor: pi and a are unknown")
        return _Donor(log_q, empty, has_rates=False)
    pi = _rates_of(at_zero, ["task_id"])[["task_id", "rate"]].rename(columns={"rate": "pi"})
    a = _rates_of(above, ["prefill_level", "task_id", "attempt_idx"])
    joined = a.astype({"task_id": "str"}).merge(pi.astype({"task_id": "str"}), on="task_id", how="inner")
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


def _scores(frame: pd.DataFrame | None) -> pd.DataFrame:
    """checkpoint, prefill_level, task_id, attempt_idx, prefill_sha256, log_p of a logprob table."""
    columns = ["checkpoint", "prefill_level", "task_id", "attempt_idx", "prefill_sha256", "log_p"]
    if frame is None:
        return pd.DataFrame({name: [] for name in columns})
    frame = frame[frame["prefill_level"] > 0].rename(columns={"prefill_logprob_sum": "log_p"})
    return frame[columns].astype({"task_id": "str", "prefill_sha256": "object"})


def _attach(rows: pd.DataFrame, scores: pd.DataFrame, keys: list[str], value: str) -> Floats:
    """`value` of each row's own prefix: [len(rows)], NaN where it was not scored."""
    if scores.empty:
        return np.full(len(rows), np.nan)
    full = [*keys, "attempt_idx"]
    own = scores.drop_duplicates(full).set_index(full)[value]
    found = own.reindex(pd.MultiIndex.from_frame(rows[full])).to_numpy(dtype=np.float64)
    if scores["attempt_idx"].nunique() > 1 or not np.isnan(found).any():
        # Attempts were scored one by one: a missing score is missing, even if its task has another attempt's.
        return np.asarray(found)
    only = scores.drop_duplicates(keys).set_index(keys)[value]
    task_score = only.reindex(pd.MultiIndex.from_frame(rows[keys])).to_numpy(dtype=np.float64)
    texts = rows.groupby(keys, observed=True, sort=False)["prefix"].transform("nunique").to_numpy()
    return np.asarray(np.where(np.isnan(found) & (texts <= 1), task_score, found))


def _run_frame(path: Path, donor: _Donor | None, notes: list[str]) -> pd.DataFrame:
    """One row per attempt: its cell, task, attempt_idx, success, log_w and log_p."""
    everything = load_evals(path)
    evals = numbered_checkpoints(everything)
    if len(evals) < len(everything):
        notes.append(f"{path.name}: checkpoint `final` has no training step and is left out")
    rows = pd.DataFrame(
        {name: evals[name].to_numpy() for name in ("checkpoint", "prefill_level", "attempt_idx", "exploit_success")}
    ).assign(**{name: evals[name].astype("str").to_numpy() for name in ("run", "exploit_type", "task_id")})
    rows = rows.rename(columns={"exploit_success": "success"}).astype({"success": np.int64})
    rows["prefix"] = _prefix_identity(evals)
    kl = _kl_scores(_optional(path, TableKind.KL))
    scores = _scores(_optional(path, TableKind.LOGPROB))
    log_p = _attach(rows, scores, _CELL, "log_p")
    kl_log_p, kl_log_q, kl_log_w = (_attach(rows, kl, _CELL, name) for name in ("log_p", "log_q", "log_w"))
    log_p = np.where(np.isnan(log_p), kl_log_p, log_p)
    log_q = np.full(len(rows), np.nan)
    if donor is not None:
        log_q = _attach(rows, donor.log_q.rename(columns={"log_p": "log_q"}), _PREFIX, "log_q")
    reference = _scores(_optional(path, TableKind.REF_LOGPROB)).rename(columns={"log_p": "log_q"})
    if len(reference):
        reference = reference.drop(columns="checkpoint").drop_duplicates([*_PREFIX, "attempt_idx"])
        log_q = np.where(np.isnan(log_q), _attach(rows, reference, _PREFIX, "log_q"), log_q)
    log_q = np.where(np.isnan(log_q), kl_log_q, log_q)
    log_w = np.where(np.isnan(log_p - log_q), kl_log_w, log_p - log_q)
    if donor is not None and donor.has_rates:
        log_w = log_w + _attach(rows, donor.correction, _PREFIX, "correction")
    _note_unmatched(path, rows, kl, scores, log_w, notes)
    return rows.assign(log_w=log_w, log_p=log_p)


def _prefix_identity(evals: pd.DataFrame) -> np.ndarray[Any, Any]:
    """What tells one prefix text from another, where the rows say; empty text where they do not."""
    parts = [evals[name].astype("str").to_numpy() for name in ("prefill_sha256", "prefill_attempt_idx")]
    return np.asarray([f"{a}/{b}" for a, b in zip(*parts, strict=True)], dtype=object)


def _kl_scores(frame: pd.DataFrame | None) -> pd.DataFrame:
    columns = ["checkpoint", "prefill_level", "task_id", "attempt_idx", "log_p", "log_q", "log_w"]
    if frame is None:
        return pd.DataFrame({name: [] for name in columns})
    frame = frame[frame["prefill_level"] > 0]
    frame = frame.rename(columns={"eval_logprob_sum": "log_p", "ref_logprob_sum": "log_q"})
    return frame.assign(log_w=-frame["kl_divergence"].to_numpy())[columns].astype({"task_id": "str"})


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
    cells = set(zip(rows["checkpoint"], rows["prefill_level"], strict=True))
    for name, table in (("KL", kl), ("logprob", scores)):
        orphans = set(zip(table["checkpoint"], table["prefill_level"], strict=True)) - cells
        if orphans:
            listed = ", ".join(f"checkpoint-{c:g} prefill {level:g}" for c, level in sorted(orphans)[:3])
            notes.append(f"{path.name}: {name} rows without eval rows are left out ({len(orphans)} cells: {listed})")


def _to_evidence(table: pd.DataFrame, kind: DonorKind) -> Evidence:
    pairs = sorted(set(zip(table["run"], table["exploit_type"], strict=True)))
    surfaces = tuple(Surface(run, name) for run, name in pairs)
    index = pd.MultiIndex.from_tuples(pairs)
    surface = index.get_indexer(pd.MultiIndex.from_frame(table[["run", "exploit_type"]])).astype(np.int64)
    steps, checkpoint = np.unique(table["checkpoint"].to_numpy(dtype=np.float64), return_inverse=True)
    levels, level = np.unique(table["prefill_level"].to_numpy(dtype=np.int64), return_inverse=True)
    shape = (len(surfaces), len(steps), len(levels))
    cell = np.ravel_multi_index((surface, checkpoint, level), shape)
    size = int(np.prod(shape))
    success = table["success"].to_numpy(dtype=np.int64)
    n = np.bincount(cell, minlength=size).reshape(shape)
    k = np.bincount(cell, weights=success, minlength=size).astype(np.int64).reshape(shape)
    task = table["task_id"].factorize(sort=True)[0].astype(np.int64)
    attempt = table["attempt_idx"].to_numpy(dtype=np.int64)
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
    return Evidence(surfaces, steps, levels, n, k, rows.take(levels[level] > 0), kind)
