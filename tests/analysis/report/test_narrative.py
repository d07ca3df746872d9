"""One measure explains more only where the interval of the difference excludes 0."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from foreshock.analysis.report.narrative import _predictors


def run_with(gap: dict[str, Any]) -> Any:
    """A run whose rows at the threshold would say otherwise, so that quoting them shows."""
    before = {"token": {"r2": 0.1, "n": 40, "n_tasks": 12}, "logprob": {"r2": 0.3, "n": 40, "n_tasks": 12}}
    after = {"token": {"r2": 0.9, "n": 90, "n_tasks": 12}, "logprob": {"r2": 0.2, "n": 90, "n_tasks": 12}}
    summary = {
        "headline": "before_threshold_only",
        "regressions": {"before_threshold_only": before, "common_rows": after},
        "r2_difference_logprob_minus_token": {"difference": 0.2, "reason": None} | gap,
    }
    return SimpleNamespace(integration=SimpleNamespace(summary=summary))


@pytest.mark.parametrize(
    ("lower", "upper", "said"),
    [
        (0.05, 0.4, "log-probability explains more"),
        (-0.4, -0.05, "the number of words explains more"),
        (-0.1, 0.5, "cannot be told from this run"),
    ],
)
def test_what_is_said_follows_the_interval(lower: float, upper: float, said: str) -> None:
    text = _predictors(run_with({"lower95": lower, "upper95": upper}))
    assert said in text
    assert "Before the threshold (40 rows of 12 tasks)" in text
    assert "0.10 for the number of words" in text


def test_without_an_interval_the_question_is_open() -> None:
    text = _predictors(run_with({"lower95": None, "upper95": None, "reason": "4 tasks are too few to resample"}))
    assert "4 tasks are too few to resample, so which explains more is open" in text
    assert "explains more (" not in text
