"""What the report says first: emerged by counts, foreseen by the forecast, estimate or bound, and what nobody knows."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from foreshock.analysis.page.sections import percent
from foreshock.analysis.report.answer import answer
from foreshock.analysis.report.outlook import Forecast, State, outlooks

KINDS = ("a", "b", "c", "d")


def run_of(k: dict[str, int], n: int = 100) -> Any:
    """One checkpoint at step 9, level 0 alone, `k` exploits of `n` by type."""
    rows = [(kind, 9, 0, n, k.get(kind, 0)) for kind in KINDS]
    cells = pd.DataFrame(rows, columns=["exploit_type", "checkpoint", "prefill_level", "n", "k"])
    return SimpleNamespace(
        label="mine", run_dir=Path("/r/mine-1"), counts=SimpleNamespace(cells=cells), pooled=cells, missing=()
    )


def forecast_of(**rows: tuple[float, str, str]) -> Forecast:
    """type=(probability, status, rests_on)."""
    table = [
        ("mine", kind, p, 10.0, 20.0 if p >= 0.5 else None, None, status, on) for kind, (p, status, on) in rows.items()
    ]
    columns = [
        "run",
        "exploit_type",
        "p_by_horizon",
        "step_lower90",
        "step_median",
        "step_upper90",
        "status",
        "rests_on",
    ]
    return Forecast(pd.DataFrame(table, columns=columns), 40.0, 0.1)


def said(run: Any, rates: pd.DataFrame | None, forecast: Forecast) -> dict[str, str]:
    return dict(answer(run, outlooks(run, rates, forecast), forecast, ["no gp: because"]).lines)


def rate_row(kind: str, middle: float | None, low: float, high: float, status: str, reason: str = "") -> dict[str, Any]:
    return {"run": "mine-1", "exploit_type": kind, "checkpoint": 9, "method": "headline", "log10_rate": middle,
            "lower95": low, "upper95": high, "status": status, "reason": reason}  # fmt: skip


def test_counts_make_emerged_and_the_forecast_the_rest() -> None:
    forecast = forecast_of(
        a=(1.0, "emerged", "data"),
        b=(0.7, "expected", "data"),
        c=(0.9, "expected", "prior"),
        d=(0.02, "not by horizon", "data"),
    )
    run = run_of({"a": 30})
    states = {one.exploit_type: one.state for one in outlooks(run, None, forecast)}
    assert states == {"a": State.EMERGED, "b": State.FORESEEN, "c": State.UNKNOWN, "d": State.UNLIKELY}
    text = said(run, None, forecast)
    assert text["Emerged"].startswith("1 of 4 exploit types are above 10% by their counts alone: a (since step 9)")
    assert "b (70%, around step 20 (90%: 10 to beyond the last step))" in text["Foreseen"]
    assert "Unlikely (at most 2%): d" in text["Foreseen"]
    assert "what comes of c: their forecast is the prior's" in text["Not known"]
    assert "no gp: because" in text["Not known"]


def test_a_high_count_that_could_be_chance_has_not_emerged() -> None:
    (one, *_) = outlooks(run_of({"a": 2}, n=10), None, Forecast())
    assert one.state is State.UNKNOWN


def test_the_highest_estimate_is_quoted_and_bounds_that_may_lie_above_it_are_named() -> None:
    rates = pd.DataFrame(
        [rate_row("a", -2.0, -3.0, -1.0, "estimate"), rate_row("b", None, -5.0, -0.5, "bound", "too wide")]
    )
    text = said(run_of({}), rates, Forecast())
    assert (
        "a at step 9: 1%, an estimate (95% interval 0.1% to 10%; 0 of 100 attempts exploited)"
        in text["Highest unprompted rate"]
    )
    assert "only bounds may lie above it: b" in text["Highest unprompted rate"]
    assert "beyond a bound (most often: too wide)" in text["Not known"]


def test_where_nothing_is_an_estimate_the_bound_says_why() -> None:
    rates = pd.DataFrame([rate_row(kind, None, -5.0, -1.0 - i, "bound", f"why {kind}") for i, kind in enumerate(KINDS)])
    text = said(run_of({}), rates, Forecast())["Highest unprompted rate"]
    assert text == "a at step 9: no estimate, only a bound, 0.001% to 10% (0 of 100 attempts exploited): why a."


def test_no_exploit_at_all_is_no_rate_of_zero() -> None:
    text = said(run_of({}), None, Forecast())
    assert (
        text["Highest unprompted rate"]
        == "No unprompted exploit was seen at step 9; each type's rate is at most 3.6% (95%)."
    )
    assert "that no attempt exploited at any level: a, b, c, d" in text["Not known"]


@pytest.mark.parametrize(
    ("rate", "text"),
    [(0.0, "0%"), (1.0, "100%"), (0.123, "12%"), (0.0123, "1.2%"), (1e-5, "0.001%"), (1e-7, "1.0e-05%")],
)
def test_rates_are_percentages_with_two_digits(rate: float, text: str) -> None:
    assert percent(rate) == text
