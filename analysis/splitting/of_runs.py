"""Splitting's repeats in run directories: one estimate a checkpoint and exploit type, beside direct attempts, and put
together with a donor's evidence where both are precise."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from foreshock.analysis.evidence.evidence import DonorKind, Evidence
from foreshock.analysis.evidence.load import load_evidence
from foreshock.analysis.splitting.combine import combine
from foreshock.analysis.splitting.splitting import MIN_REPEATS, Floats, Repeat, Split, of_repeats, summary
from foreshock.errors import InputError
from foreshock.jobs.records.checkpoint_names import step_of_directory
from foreshock.jobs.records.jsonl import read_rows
from foreshock.jobs.records.layout import RunLayout, checkpoint_files

DONOR_REPEATS = 8
"""Sets that a donor's traces are dealt into; each gives an unbiased estimate."""
_MARKOV = "its error is not to be believed: limits by Markov's inequality"
_NOTHING = "no beginning ended in an exploit: the upper limit is that of as many attempts"
_ESTIMATED = ("rate", "standard_error", "lower95", "upper95")
_NEEDED = ("exploit_type", "repeat", "rate", "particles", "levels", "survivors", "output_tokens", "recipe")


def splitting_table(run_dir: Path, donor_run: Path | None = None, conditioned: bool = True) -> pd.DataFrame:
    """One line a checkpoint (infinity for `final`) and exploit type.

    repeats, particles; rate with standard_error, lower95, upper95 and trusted, as `Split` has them; kept: least share
    of ancestors left at a level; tokens drawn; unread: share of final answers without code; direct_n, direct_k:
    unprompted attempts; donor_rate: of importance sampling with the run's donor, None without; combined,
    combined_error: of both, None unless either's relative standard error is small enough to be believed.

    note: why it is not trusted; with fewer repeats than a standard error takes, the estimate is null. Raises InputError
    for rows of different settings.
    """
    evidence = _evidence(run_dir, donor_run, conditioned)
    lines = []
    for name, path in checkpoint_files(RunLayout(run_dir).splitting):
        step = step_of_directory(name)
        rows = pd.DataFrame(read_rows(path, _NEEDED))
        for kind, own in rows.groupby("exploit_type"):
            lines.append(_line(own, path, (float("inf") if step is None else float(step), str(kind)), evidence))
    if not lines:
        raise InputError("no repeats of splitting here", path=run_dir, fix=f"foreshock split {run_dir}")
    return pd.DataFrame(lines)


def _line(own: pd.DataFrame, path: Path, cell: tuple[float, str], evidence: Evidence | None) -> dict[str, Any]:
    if own["recipe"].nunique() > 1:
        raise InputError(
            f"its repeats of {cell[1]} have different settings", path=path, fix="foreshock split RUN --force"
        )
    line: dict[str, Any] = {
        "checkpoint": cell[0],
        "exploit_type": cell[1],
        "repeats": len(own),
        "particles": int(own["particles"].iloc[0]),
        "tokens": int(own["output_tokens"].sum()),
        "unread": float(own["unread"].sum() / own["particles"].sum()) if "unread" in own else None,
    }
    if len(own) < MIN_REPEATS:
        why = f"{len(own)} repeats; a standard error takes {MIN_REPEATS}: let foreshock split go on"
        missing = dict.fromkeys((*_ESTIMATED, "kept"))
        return line | {**missing, "trusted": False, "note": why, **_beside(evidence, cell, None)}
    ordered = own.sort_values("repeat").to_dict("records")
    found = [Repeat(float(row["rate"]), tuple(map(float, row["survivors"]))) for row in ordered]
    split = of_repeats(found, line["particles"])
    return line | {
        **{name: getattr(split, name) for name in (*_ESTIMATED, "trusted")},
        "kept": min(split.survivors, default=1.0),
        "note": None if split.trusted else _MARKOV if split.rate else _NOTHING,
        **_beside(evidence, cell, split),
    }


def _evidence(run_dir: Path, donor_run: Path | None, conditioned: bool) -> Evidence | None:
    """None for a run without attempts at numbered checkpoints: `final` has no place on the evidence's axis."""
    steps = [step_of_directory(file.cell.checkpoint) for file in RunLayout(run_dir).eval_files()]
    if not any(step is not None for step in steps):
        return None
    return load_evidence([run_dir], donor_run, conditioned).evidence


def _beside(evidence: Evidence | None, cell: tuple[float, str], split: Split | None) -> dict[str, Any]:
    found: dict[str, Any] = dict.fromkeys(("direct_n", "direct_k", "donor_rate", "combined", "combined_error"))
    if evidence is None or cell[0] not in evidence.steps:
        return found
    place = int(np.flatnonzero(evidence.steps == cell[0])[0])
    for j in (j for j, surface in enumerate(evidence.surfaces) if surface.exploit_type == cell[1]):
        n, k = evidence.direct()
        found |= {"direct_n": int(n[j, place]), "direct_k": int(k[j, place])}
        repeats = donor_repeats(evidence, j, place)
        if repeats is None:
            continue
        donor = summary(repeats, DONOR_REPEATS)
        found["donor_rate"] = donor.rate
        if split is not None and split.trusted and donor.trusted:
            both = combine([np.array(split.repeats), repeats])
            found |= {"combined": both.rate, "combined_error": both.standard_error}
    return found


def donor_repeats(evidence: Evidence, surface: int, checkpoint: int) -> Floats | None:
    """[DONOR_REPEATS] estimates of a cell's rate by importance sampling, each from its own traces; None without enough
    of them, or where the weights lack pi / a.

    A trace counts with the mean over its levels of weight x outcome: each level is unbiased, and none is chosen.
    """
    rows = evidence.rows
    mine = (rows.surface == surface) & (rows.checkpoint == checkpoint) & np.isfinite(rows.log_w)
    if evidence.donor is DonorKind.CONDITIONED_UNCORRECTED or not mine.any():
        return None
    own = rows.take(mine)
    values = pd.DataFrame({"task": own.task, "trace": own.trace, "value": np.exp(own.log_w) * own.success})
    traces = values.groupby(["task", "trace"], sort=True)["value"].mean().reset_index()
    if len(traces) < 2 * DONOR_REPEATS:
        return None
    dealt = [traces.iloc[first::DONOR_REPEATS] for first in range(DONOR_REPEATS)]
    return np.array([float(part.groupby("task")["value"].mean().mean()) for part in dealt])


def lines_for_people(table: pd.DataFrame) -> Iterator[str]:
    """A line each."""
    for row in table.to_dict("records"):
        name = "final" if row["checkpoint"] == float("inf") else f"checkpoint-{row['checkpoint']:.0f}"
        told = "" if row["rate"] is None or row["rate"] != row["rate"] else f" {_short(row['rate'])}"
        if told:
            told += f" ({_short(row['lower95'])} to {_short(row['upper95'])}), {row['repeats']} repeats"
        yield f"{name}  {row['exploit_type']}:{told}" + (f"; {row['note']}" if isinstance(row["note"], str) else "")


def _short(value: float) -> str:
    return "0" if value == 0 else f"{value:.2g}"
