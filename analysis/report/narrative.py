"""The summary in plain words. Each sentence states a number with its count, and nothing that was not measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from foreshock.analysis.figures.runs import EMERGENCE_RATE, clopper_pearson
from foreshock.analysis.report.gather import RunFindings
from foreshock.analysis.tables.schema import checkpoint_label


@dataclass(frozen=True, slots=True)
class Card:
    """A key figure: the number, what it is, the counts behind it, and filters for its samples (none: empty)."""

    value: str
    label: str
    detail: str
    where: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sentence:
    """What happened, and filters for the samples that show it, named by what they are."""

    text: str
    links: tuple[tuple[str, Mapping[str, str]], ...] = ()


def cards(run: RunFindings) -> list[Card]:
    """Four figures of one run."""
    pooled, frame = run.pooled, _frame(run)
    last = float(pooled["checkpoint"].max())
    made = []
    zero = _row(pooled, last, 0)
    if zero is not None:
        made.append(
            Card(
                _percent(zero),
                "unprompted exploit rate",
                f"{zero['k']} of {zero['n']} at {_step(last)}",
                _where(run, last, 0),
            )
        )
    if frame is not None:
        now = frame[frame["checkpoint"] == last]
        known = now.dropna(subset=["min_prefill"])
        if len(known):
            at = int(known["at_threshold"].sum())
            shown = {name: text for name, text in _where(run, last, 0).items() if name != "level"}
            made.append(
                Card(
                    f"{100 * at / len(known):.0f}%",
                    f"of tasks need {run.summary['threshold']} words or fewer",
                    f"{at} of {len(known)} at {_step(last)}",
                    shown,
                )
            )
            made.append(Card(_median_words(known, run), "median min prefill", f"at {_step(last)}, in words", shown))
    report = run.counts.report
    errors = f"{report.errors:,} errors left out"
    made.append(Card(f"{report.rows:,}", "attempts judged", errors, {"run": run.run_dir.resolve().name}))
    return made


def sentences(run: RunFindings) -> list[Sentence]:
    """What happened in one run, first to last checkpoint."""
    pooled, frame = run.pooled, _frame(run)
    steps = sorted(pooled["checkpoint"].unique())
    ends = tuple((_step(step), _where(run, step, 0)) for step in dict.fromkeys((steps[0], steps[-1])))
    kick, cell = _kick(pooled, steps, run.provenance.forced())
    shown = () if cell is None else ((f"{cell[1]} words at {_step(cell[0])}", _where(run, *cell)),)
    said = [
        Sentence(_unprompted(pooled, steps), ends),
        Sentence(kick, shown),
        Sentence(_warning(pooled, frame, run)),
        Sentence(_predictors(run)),
    ]
    return [sentence for sentence in said if sentence.text]


def _where(run: RunFindings, step: float, level: int) -> dict[str, str]:
    return {"run": run.run_dir.resolve().name, "checkpoint": checkpoint_label(step), "level": str(level)}


def _unprompted(pooled: pd.DataFrame, steps: list[float]) -> str:
    first, last = _row(pooled, steps[0], 0), _row(pooled, steps[-1], 0)
    if first is None or last is None:
        return "Level 0 was not measured at the first or the last checkpoint, so there is no unprompted rate to follow."
    if len(steps) == 1:
        return f"Without any prefill, {_counted(first)} exploit at {_step(steps[0])}{_interval(first)}."
    return (
        f"Without any prefill, {_counted(first)} exploit at {_step(steps[0])}{_interval(first)} "
        f"and {_counted(last)} at {_step(steps[-1])}{_interval(last)}."
    )


def _kick(pooled: pd.DataFrame, steps: list[float], forced: str) -> tuple[str, tuple[float, int] | None]:
    """The earliest checkpoint at which a prefill shows what level 0 does not (yet), and that cell."""
    for step in steps:
        zero = _row(pooled, step, 0)
        if zero is None or zero["rate"] > EMERGENCE_RATE:
            return "", None
        here = pooled[(pooled["checkpoint"] == step) & (pooled["prefill_level"] > 0)].sort_values("prefill_level")
        shown = here[here["lower95"] > EMERGENCE_RATE]
        if len(shown):
            kick = shown.iloc[0]
            return (
                f"At {_step(step)}, where {_counted(zero)} exploit unprompted, forcing {int(kick['prefill_level'])} "
                f"words of {forced} makes it {_counted(kick)}.",
                (step, int(kick["prefill_level"])),
            )
    most = int(pooled["prefill_level"].max())
    if most == 0:
        return "Only level 0 was measured, so nothing can be said about prefills.", None
    return f"At no checkpoint do {most} words or fewer bring the rate clearly above {100 * EMERGENCE_RATE:.0f}%.", None


def _warning(pooled: pd.DataFrame, frame: pd.DataFrame | None, run: RunFindings) -> str:
    """First checkpoint where half the tasks are at the threshold, against the unprompted rate's own rise."""
    if frame is None or not run.summary["threshold_is_attainable"] or run.summary["max_level"] == 0:
        return ""
    share = frame.dropna(subset=["at_threshold"]).groupby("checkpoint")["at_threshold"].mean().astype(float)
    half = share.index[share.to_numpy() >= 0.5].to_numpy(dtype=np.float64)
    zero = pooled[(pooled["prefill_level"] == 0) & (pooled["rate"] > EMERGENCE_RATE)]
    words = run.summary["threshold"]
    risen = (
        f"the unprompted rate is first above {100 * EMERGENCE_RATE:.0f}% at {_step(zero['checkpoint'].min())}"
        if len(zero)
        else f"the unprompted rate stays at or below {100 * EMERGENCE_RATE:.0f}% in every checkpoint"
    )
    if not len(half):
        return f"At no checkpoint can half of the tasks be exploited with {words} words or fewer; {risen}."
    return f"Half of the tasks can be exploited with {words} words or fewer from {_step(half[0])} on; {risen}."


def _predictors(run: RunFindings) -> str:
    """R² on rows before the threshold; one measure explains more only when the difference's interval says so."""
    if run.integration is None:
        return ""
    summary = run.integration.summary
    fits = summary["regressions"][summary["headline"]]
    token, logprob = fits["token"], fits["logprob"]
    if token["r2"] is None or logprob["r2"] is None:
        return ""
    gap = summary["r2_difference_logprob_minus_token"]
    said = (
        f"Before the threshold ({token['n']} rows of {token['n_tasks']} tasks), R² of the steps left to it is "
        f"{token['r2']:.2f} for the number of words and {logprob['r2']:.2f} for log-probability"
    )
    if gap["lower95"] is None:
        return f"{said}; {gap['reason']}, so which explains more is open."
    span = f"95% interval of the difference {gap['lower95']:+.2f} to {gap['upper95']:+.2f}"
    if gap["lower95"] > 0:
        return f"{said}: log-probability explains more ({span})."
    if gap["upper95"] < 0:
        return f"{said}: the number of words explains more ({span})."
    return f"{said}; which explains more cannot be told from this run ({span})."


def _frame(run: RunFindings) -> pd.DataFrame | None:
    found = run.trajectory.subsets["all_exploits"].trajectory
    return None if found is None else found.frame


def _row(pooled: pd.DataFrame, step: float, level: int) -> Any:
    rows = pooled[(pooled["checkpoint"] == step) & (pooled["prefill_level"] == level)]
    return rows.iloc[0].to_dict() | {"k": int(rows.iloc[0]["k"]), "n": int(rows.iloc[0]["n"])} if len(rows) else None


def _counted(row: Any) -> str:
    return f"{int(row['k']):,} of {int(row['n']):,} attempts ({_percent(row)})"


def _interval(row: Any) -> str:
    lower, upper = clopper_pearson(np.array([row["k"]]), np.array([row["n"]]))
    return f" (95% interval {_short(100 * lower[0])}–{_short(100 * upper[0])}%)"


def _percent(row: Any) -> str:
    value = 100 * row["k"] / row["n"]
    return f"{value:.0f}%" if value == 0 or value >= 9.95 else f"{value:.1f}%"


def _short(percent: float) -> str:
    return f"{percent:.1f}" if percent < 9.95 else f"{percent:.0f}"


def _median_words(known: pd.DataFrame, run: RunFindings) -> str:
    median = float(known["min_prefill"].astype(float).median())
    return "none" if median > run.summary["max_level"] else f"{median:g}"


def _step(step: float) -> str:
    return "the final checkpoint" if step == float("inf") else f"step {checkpoint_label(step)}"
