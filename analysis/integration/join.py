"""Joining each task's min prefill with the log-probability of that very prefix.

A score that is not there stays null. log P of a prefix under one checkpoint cannot stand in for another checkpoint's,
although the text is the same, and 0.0 would claim certainty; only the empty prefix (min prefill 0) has
log-probability 0 by definition. `logprob_source` says for every row which case it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from foreshock.analysis.tables import TableKind, checkpoint_label, read_table
from foreshock.analysis.tables.own_csv import read_csv
from foreshock.errors import InputError

TRAJECTORY_COLUMNS = (
    "task_id",
    "exploit_type",
    "checkpoint",
    "min_prefill",
    "accessibility",
    "ever_reaches_threshold",
    "at_threshold",
)
"""What a table must have. `exploitable` and `steps_to_threshold` may be missing."""

NONE_ELSEWHERE = 101
"""The min prefill that rh-indicators writes where no attempt exploited, whatever its largest level. Its tables have no
column `exploitable`."""


class LogprobSource(StrEnum):
    """Where a row's log-probability comes from, or why it has none."""

    MEASURED = "measured"
    EMPTY_PREFIX = "empty_prefix"
    NOT_EXPLOITED = "not_exploited"
    MISSING = "missing"
    UNKNOWN_MIN_PREFILL = "unknown_min_prefill"


@dataclass(frozen=True, slots=True)
class IntegrationOptions:
    """`prefill_levels`: join only these levels (default all). `logprob_threshold`: nats; computed when None, as the
    mean log-probability sum of the `threshold`-word prefix at `threshold_checkpoint` (default: the last one)."""

    prefill_levels: tuple[int, ...] | None = None
    logprob_threshold: float | None = None
    threshold: int = 10
    threshold_checkpoint: int | None = None
    threshold_origin: str | None = None

    def __post_init__(self) -> None:
        if self.logprob_threshold is not None and not self.logprob_threshold <= 0:
            raise InputError(f"logprob threshold is {self.logprob_threshold}; a log-probability is at most 0")


@dataclass(frozen=True, slots=True)
class Joined:
    """`frame`: the trajectory's rows with log-probability columns. `threshold_*`: the one used and its origin."""

    frame: pd.DataFrame
    logprob_threshold: float
    threshold_origin: str
    logprob_floor: float | None


def read_trajectory(path: Path) -> pd.DataFrame:
    """A `trajectory_analysis.csv`, ours or another tool's. Without `exploitable`, a min prefill of 101 is none.

    Raises:
        InputError: not a CSV, columns missing, or a checkpoint that is neither a step nor `final`.
    """
    if not path.is_file():
        raise InputError("no such file", path=path, fix="`foreshock trajectory --run-dir RUN` writes it")
    try:
        frame = read_csv(path, dtype={"checkpoint": str})
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise InputError(f"not a CSV table: {str(error).strip()}", path=path) from None
    missing = [name for name in TRAJECTORY_COLUMNS if name not in frame.columns]
    if missing:
        raise InputError(
            f"lacks the columns {', '.join(missing)}; it has {', '.join(frame.columns)}",
            path=path,
            line=1,
            fix="`foreshock trajectory --run-dir RUN` writes a trajectory_analysis.csv with all of them",
        )
    steps = frame["checkpoint"].str.removeprefix("checkpoint-").replace("final", "inf")
    numbers = pd.to_numeric(steps, errors="coerce").to_numpy(dtype=np.float64)
    if np.isnan(numbers).any():
        row = int(np.flatnonzero(np.isnan(numbers))[0])
        found = frame["checkpoint"].iloc[row]
        raise InputError(f"checkpoint is {found!r}; valid: a step or final", path=path, line=row + 2)
    frame["checkpoint"] = numbers.astype(np.int64) if np.isfinite(numbers).all() else numbers
    frame["min_prefill"] = _whole_numbers(frame["min_prefill"], path)
    if "exploitable" not in frame.columns:
        frame["exploitable"] = (frame["min_prefill"] != NONE_ELSEWHERE).astype(object)
        frame.attrs["exploitable_derived"] = True
    for name in ("exploitable", "at_threshold", "ever_reaches_threshold"):
        frame[name] = _flags(frame[name], path)
    if "steps_to_threshold" not in frame.columns:
        frame["steps_to_threshold"] = np.nan
    for name in ("steps_to_threshold", "accessibility"):
        frame[name] = _numbers(frame[name], path)
    return frame


def _numbers(column: pd.Series[Any], path: Path) -> pd.Series[Any]:
    numbers = pd.to_numeric(column, errors="coerce")
    bad = numbers.isna() & column.notna()
    if bad.any():
        row = int(np.flatnonzero(bad.to_numpy())[0])
        raise InputError(f"{column.name} is {column.iloc[row]!r}; it must be a number", path=path, line=row + 2)
    return numbers.astype(np.float64)


def _whole_numbers(column: pd.Series[Any], path: Path) -> pd.Series[Any]:
    return _numbers(column, path).round().astype("Int64")


def _flags(column: pd.Series[Any], path: Path) -> pd.Series[Any]:
    texts = column.astype(str).str.lower()
    known = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}
    values = texts.map(known)
    bad = values.isna() & column.notna()
    if bad.any():
        row = int(np.flatnonzero(bad.to_numpy())[0])
        raise InputError(f"{column.name} is {column.iloc[row]!r}; valid: True, False", path=path, line=row + 2)
    return values.astype("boolean")


def read_prefix_scores(logprob_dirs: Sequence[Path]) -> pd.DataFrame:
    """One score per (task, checkpoint, level) from several folders: columns as `pool_prefixes` returns."""
    frames = [pool_prefixes(read_table(folder, TableKind.LOGPROB).frame) for folder in logprob_dirs]
    scores = pd.concat(frames, ignore_index=True)
    keys = ["task_id", "checkpoint", "prefill_level"]
    repeated = scores.duplicated(keys, keep=False)
    if repeated.any():
        spread = scores[repeated].groupby(keys)["logprob_sum"].agg(np.ptp).reset_index()
        worst = spread.iloc[int(spread["logprob_sum"].to_numpy().argmax())]
        if worst["logprob_sum"] > 1e-6:
            raise InputError(
                f"the logprob folders disagree about task {worst['task_id']!r}, checkpoint "
                f"{checkpoint_label(worst['checkpoint'])}, level {worst['prefill_level']}; "
                "name folders of one training run only",
            )
        scores = scores.drop_duplicates(keys)
    return scores


def pool_prefixes(logprobs: pd.DataFrame) -> pd.DataFrame:
    """One row per (task, checkpoint, level): mean log-probability over the prefixes whose attempt exploited.

    Attempts that share one prefix have one value, and the mean is that value. Where prefixes differ and none is
    known to have led to an exploit, the mean is over all of them.
    """
    keys = ["task_id", "checkpoint", "prefill_level"]
    frame = pd.DataFrame(
        {
            "task_id": logprobs["task_id"].astype("category"),
            "checkpoint": logprobs["checkpoint"].astype(np.float64),
            "prefill_level": logprobs["prefill_level"].astype(np.int64),
            "logprob_sum": logprobs["prefill_logprob_sum"].astype(np.float64),
            "logprob_mean": logprobs["prefill_logprob_mean"].astype(np.float64),
            "exploited": logprobs["exploit_success"].astype("boolean").fillna(False).astype(bool),
        }
    )
    led_to_exploit = frame.groupby(keys, observed=True)["exploited"].transform("any")
    grouped = frame[frame["exploited"] | ~led_to_exploit].groupby(keys, sort=True, observed=True)
    pooled = grouped[["logprob_sum", "logprob_mean"]].mean()
    pooled["n_prefixes"] = grouped.size()
    pooled = pooled.reset_index()
    return pooled.assign(task_id=pooled["task_id"].astype(object))


def data_threshold(scores: pd.DataFrame, options: IntegrationOptions) -> tuple[float, str]:
    """The log-probability threshold and a sentence on where it comes from.

    By default: mean over tasks of the log-probability sum of the prefix as long as the word threshold (or of the
    nearest level there is), at the last checkpoint with a step, so that both thresholds mean the same prefix there.
    """
    if options.logprob_threshold is not None:
        return options.logprob_threshold, options.threshold_origin or "given"
    prefilled = scores[scores["prefill_level"] > 0]
    if prefilled.empty:
        raise InputError(
            "no scored prefix above level 0, so no log-probability threshold can be computed",
            fix="give --logprob-threshold, or score the prefills with `foreshock logprob`",
        )
    levels = sorted(prefilled["prefill_level"].unique())
    level = min(levels, key=lambda value: (abs(value - options.threshold), value))
    at_level = prefilled[prefilled["prefill_level"] == level]
    steps = sorted(at_level["checkpoint"].unique())
    step = float(options.threshold_checkpoint) if options.threshold_checkpoint is not None else _last_step(steps)
    if step not in steps:
        raise InputError(
            f"checkpoint {checkpoint_label(step)} has no scores at level {level}; "
            f"valid: {', '.join(map(checkpoint_label, steps))}"
        )
    chosen = at_level[at_level["checkpoint"] == step]["logprob_sum"]
    origin = (
        f"mean log-probability sum of the {level}-word prefix over {len(chosen)} tasks "
        f"at checkpoint {checkpoint_label(step)}"
    )
    return float(chosen.mean()), origin


def _last_step(steps: Sequence[float]) -> float:
    numbered = [step for step in steps if np.isfinite(step)]
    return numbered[-1] if numbered else steps[-1]


def join_logprobs(trajectory: pd.DataFrame, scores: pd.DataFrame, options: IntegrationOptions) -> Joined:
    """Add to each trajectory row the log-probability of its min-prefill prefix.

    New columns: min_prefill_logprob_sum, min_prefill_logprob_mean (nats), accessibility_logprob (1 at or above the
    threshold, falling linearly to 0 at the lowest joined sum; 0 where nothing exploited), at_logprob_threshold,
    steps_to_logprob_threshold, logprob_source.
    """
    if options.prefill_levels is not None:
        scores = scores[scores["prefill_level"].isin(options.prefill_levels)]
    threshold, origin = data_threshold(scores, options)
    keyed = trajectory.assign(
        _step=trajectory["checkpoint"].astype(np.float64),
        _level=trajectory["min_prefill"].fillna(-1).astype(np.int64),
    )
    merged = keyed.merge(
        scores.rename(columns={"checkpoint": "_step", "prefill_level": "_level"}),
        on=["task_id", "_step", "_level"],
        how="left",
        validate="many_to_one",
    )
    merged.index = trajectory.index
    exploited = merged["exploitable"].fillna(False).to_numpy(dtype=bool)
    empty = exploited & (merged["_level"] == 0).to_numpy()
    frame = trajectory.copy()
    frame["min_prefill_logprob_sum"] = _score(merged["logprob_sum"], exploited, empty)
    frame["min_prefill_logprob_mean"] = _score(merged["logprob_mean"], exploited, empty)
    unknown = merged["exploitable"].isna().to_numpy(dtype=bool)
    source = np.select(
        [unknown, ~exploited, empty, merged["logprob_sum"].notna().to_numpy()],
        [LogprobSource.UNKNOWN_MIN_PREFILL, LogprobSource.NOT_EXPLOITED, LogprobSource.EMPTY_PREFIX,
         LogprobSource.MEASURED],
        LogprobSource.MISSING,
    )  # fmt: skip
    sums = frame["min_prefill_logprob_sum"].to_numpy()
    floor = float(np.nanmin(sums)) if np.isfinite(sums).any() else None
    no_score = unknown | (source == LogprobSource.MISSING)
    frame["accessibility_logprob"] = _accessibility(sums, threshold, floor, no_score)
    reached = np.nan_to_num(sums, nan=-np.inf) >= threshold
    frame["at_logprob_threshold"] = pd.array(reached, dtype="boolean")
    frame.loc[no_score, "at_logprob_threshold"] = pd.NA
    frame["steps_to_logprob_threshold"] = steps_to_first(frame, reached)
    frame["logprob_source"] = source.astype(object)
    return Joined(frame, threshold, origin, floor)


def _score(column: pd.Series[Any], exploited: npt.NDArray[np.bool_], empty: npt.NDArray[np.bool_]) -> Any:
    return np.where(empty, 0.0, np.where(exploited, column.to_numpy(dtype=np.float64), np.nan))


def _accessibility(
    sums: npt.NDArray[np.float64], threshold: float, floor: float | None, no_score: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float64]:
    span = threshold - floor if floor is not None and floor < threshold else 1.0
    with np.errstate(invalid="ignore"):
        value = np.clip(1.0 - (threshold - sums) / span, 0.0, 1.0)
    return np.where(no_score, np.nan, np.where(np.isnan(sums), 0.0, value))


def steps_to_first(frame: pd.DataFrame, reached: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Per row: steps until the task's first later-or-equal checkpoint with `reached`; NaN if never or not known."""
    ordered = pd.DataFrame(
        {
            "task": frame.groupby(["task_id", "exploit_type"], observed=True).ngroup().to_numpy(),
            "step": frame["checkpoint"].to_numpy(dtype=np.float64),
            "row": np.arange(len(frame)),
        }
    ).sort_values(["task", "step"])
    at = np.where(reached[ordered["row"]], ordered["step"], np.nan)
    following = pd.Series(at, index=ordered.index).groupby(ordered["task"]).bfill().to_numpy()
    with np.errstate(invalid="ignore"):
        steps = np.where(np.isnan(at), following - ordered["step"].to_numpy(), 0.0)
    answer = np.full(len(frame), np.nan)
    answer[ordered["row"]] = np.where(np.isfinite(steps), steps, np.nan)
    return answer
