"""Time to the threshold in words and table rows: concordance and hazard ratios, censored tasks included."""

from __future__ import annotations

from typing import Any

_NAMES = {"words": "words", "logprob": "log-probability"}
_UNITS = {"words": "per 10 words fewer", "logprob": "per 10 nats more"}


def waiting_rows(label: str, summary: dict[str, Any]) -> list[dict[str, object]]:
    """One row per predictor of `integration_summary.json`'s time_to_threshold, then one for the difference."""
    times = summary["time_to_threshold"]
    pairs, hazards = times["concordance"], times["hazard_ratios"]
    rows: list[dict[str, object]] = []
    for key, name in _NAMES.items():
        one, both = hazards[key], hazards["both"]
        rows.append(
            {
                "run": label,
                "predictor": name,
                "tasks": times["n_tasks"],
                "censored": times["n_censored"],
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
