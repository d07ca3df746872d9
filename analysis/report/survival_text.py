"""Steps and time to the threshold in words and table rows: regressions; concordance and hazard ratios, censored tasks
included."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from foreshock.analysis.figures.integration import WAITING_TABLE
from foreshock.analysis.page.links import SampleCell, TableCell
from foreshock.analysis.page.sections import computed_from

_NAMES = {"words": "words", "logprob": "log-probability"}
_UNITS = {"words": "per 10 words fewer", "logprob": "per 10 nats more"}


def fit_rows(label: str, name: str, summary: dict[str, Any]) -> list[dict[str, object]]:
    """One row per regression of `integration_summary.json`; `name` is the run directory's, which samples go by."""
    rows: list[dict[str, object]] = []
    for predictor, fit in summary["regressions"][summary["headline"]].items():
        rows.append(
            {
                "run": label,
                "predictor": "words" if predictor == "token" else "log-probability",
                "r2": None if fit["r2"] is None else f"{fit['r2']:.3f}",
                "p": _p_text(fit["p"]),
                "p_clustered": _p_text(fit["p_clustered"]),
                "rows_used": SampleCell({"run": name}, f"{fit['n']:,}"),
                "tasks": SampleCell({"run": name}, f"{fit['n_tasks']:,}"),
            }
        )
    return rows


def fit_frame(rows: Sequence[dict[str, object]], files: str) -> pd.DataFrame:
    """Rows of `fit_rows`, their numbers linked to the anchor of the tables that they are computed from."""
    return computed_from(pd.DataFrame(rows), files, ["r2", "p", "p_clustered"])


def waiting_frame(rows: Sequence[dict[str, object]], files: str) -> pd.DataFrame:
    """The same for rows of `waiting_rows`."""
    return computed_from(pd.DataFrame(rows), files, ["concordance", "hazard ratio alone", "beside the other"])


def _p_text(p: float | None) -> str | None:
    return None if p is None else "< 0.0001" if p < 1e-4 else f"{p:.4f}" if p < 0.1 else f"{p:.2f}"


def waiting_rows(label: str, name: str, summary: dict[str, Any]) -> list[dict[str, object]]:
    """One row per predictor of `integration_summary.json`'s time_to_threshold, then one for the difference."""
    times = summary["time_to_threshold"]
    pairs, hazards = times["concordance"], times["hazard_ratios"]
    rows: list[dict[str, object]] = []
    for key, predictor in _NAMES.items():
        one, both = hazards[key], hazards["both"]
        rows.append(
            {
                "run": label,
                "predictor": predictor,
                "tasks": SampleCell({"run": name}, f"{times['n_tasks']:,}"),
                "censored": TableCell(WAITING_TABLE, f"{times['n_censored']:,}"),
                "concordance": _limits(pairs[key], "value"),
                "hazard ratio alone": _limits(one[key], "hazard_ratio"),
                "beside the other": _limits(both[key], "hazard_ratio"),
                "unit": _UNITS[key],
            }
        )
    gap = _limits(pairs["difference"], "value")
    return [*rows, {"run": label, "predictor": "log-probability minus words", "concordance": gap}]


def waiting_notes(summary: dict[str, Any]) -> list[str]:
    """What is left out or could not be computed, and whether the two measures can be told apart."""
    times = summary["time_to_threshold"]
    notes = [f"{count} tasks not watched: {why}." for why, count in times["left_out"].items() if count]
    reasons = {model["reason"] for model in times["hazard_ratios"].values() if model["reason"]}
    notes += [f"No hazard ratio: {reason}." for reason in sorted(reasons)]
    gap = times["concordance"]["difference"]
    if gap["value"] is None or gap["lower95"] is None:
        return notes
    if gap["lower95"] <= 0 <= gap["upper95"]:
        return [*notes, "Which measure orders the tasks better cannot be told from this run (the interval holds 0)."]
    better = "Log-probability" if gap["lower95"] > 0 else "The number of words"
    return [*notes, f"{better} orders the waiting tasks better (the interval of the difference excludes 0)."]


def _limits(found: dict[str, Any] | None, key: str) -> str | None:
    if found is None or found[key] is None:
        return None
    if found["lower95"] is None:
        return f"{found[key]:.2f}"
    return f"{found[key]:.2f} ({found['lower95']:.2f} to {found['upper95']:.2f})"
