"""Tasks that never reach the threshold count: curves by hand, concordance by hand, hazards that are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foreshock.analysis.integration.hazard import hazard_models
from foreshock.analysis.integration.survival import concordance, kaplan_meier, waits

Row = tuple[str, float, bool | None, float, float | None, float]


def joined(rows: list[Row]) -> pd.DataFrame:
    """Rows of (task, checkpoint, at the threshold, words, log-probability, accessibility)."""
    names = ["task_id", "checkpoint", "at_threshold", "min_prefill", "min_prefill_logprob_sum", "accessibility"]
    frame = pd.DataFrame(rows, columns=names).assign(exploit_type="x")
    return frame.astype(
        {"at_threshold": "boolean", "min_prefill": "Int64", "min_prefill_logprob_sum": float, "checkpoint": float}
    )


def story(task: str, words: list[float], reaches: bool, access: float = 0.5) -> list[Row]:
    """A task that waits with these words at steps 0, 10, ...; then reaches the threshold, or waits on."""
    rows: list[Row] = [(task, 10.0 * i, False, w, -2 * w, access) for i, w in enumerate(words)]
    return [*rows, (task, 10.0 * len(words), reaches, 5 if reaches else 60, -10.0, access)]


def test_who_is_watched_and_until_when() -> None:
    rows: list[Row] = [*story("soon", [20], True), *story("never", [50, 50], False)]
    rows += [("there", 0, True, 5, -9.0, 1.0), ("there", 10, True, 5, -9.0, 1.0), ("once", 0, False, 30, -9.0, 0.1)]
    rows += [("gap", 0, False, 30, None, 0.1), ("gap", 10, None, 30, None, 0.1), ("gap", 20, True, 3, -5.0, 1.0)]
    rows += [("soon", np.inf, True, 5, -9.0, 1.0)]
    found = waits(joined(rows))
    tasks = found.tasks.set_index("task_id")
    assert tasks["time"].to_dict() == {"soon": 10, "never": 20, "gap": 20}
    assert tasks["reached"].to_dict() == {"soon": True, "never": False, "gap": True}
    assert list(found.left_out.values()) == [1, 1]
    gap = found.intervals[found.intervals["task_id"] == "gap"]
    assert gap[["step", "next_step", "reached_next"]].to_numpy().tolist() == [[0, 20, True]]


def test_kaplan_meier_by_hand_and_censored_tasks_keep_the_curve_up() -> None:
    rows = [row for i in range(4) for row in story(f"low{i}", [50, 50], i == 0, access=0.1)]
    rows += [row for i in range(3) for row in story(f"high{i}", [20], True, access=0.9)]
    curves, facts = kaplan_meier(waits(joined(rows)).tasks)
    low = curves[curves["group"].str.endswith("or less")]
    assert low["waiting"].tolist() == [1.0, 0.75]
    assert low["n_reached"].unique().tolist() == [1]
    assert curves[curves["group"].str.contains("above")]["waiting"].tolist() == [1.0, 0.0]
    assert facts["logrank_p"] < 0.05


def test_concordance_by_hand() -> None:
    rows = [*story("a", [20], True), *story("b", [30, 25], True), *story("c", [40, 12], False)]
    found = concordance(waits(joined(rows)).intervals)
    # At step 0: a before b, a before c, b before c, all in the order of words; at step 10: b before c, against it.
    assert found["n_pairs"] == 4
    assert found["words"]["value"] == pytest.approx(3 / 4)
    assert found["difference"]["value"] == pytest.approx(0.0)
    assert found["words"]["lower95"] is None
    assert "3 tasks are too few" in found["reason"]


def simulated(seed: int, tasks: int, per_word: float, per_nat: float) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    rows: list[Row] = []
    for task in range(tasks):
        for step in range(8):
            words = int(rng.integers(11, 60))
            logprob = -1.5 * words + rng.normal(0, 25)
            rows.append((f"t{task}", step, False, words, logprob, 1 - words / 60))
            hazard = np.exp(-1.2 - per_word * (words - 30) + per_nat * (logprob + 45) + 0.1 * step)
            if rng.random() < 1 - np.exp(-hazard):
                rows.append((f"t{task}", step + 1, True, 5, -9.0, 1.0))
                break
    return joined(rows)


def test_known_hazards_lie_within_their_intervals() -> None:
    pytest.importorskip("statsmodels", reason="the extra survival is not installed")
    hits = []
    for seed in range(60):
        model = hazard_models(waits(simulated(seed, 60, 0.04, 0.02)).intervals)["both"]
        assert model["reason"] is None
        for name, true in (("words", np.exp(0.4)), ("logprob", np.exp(0.2))):
            hits.append(model[name]["lower95"] <= true <= model[name]["upper95"])
    assert 0.88 <= np.mean(hits) <= 1.0


def test_concordance_intervals_cover_one_half_where_nothing_predicts() -> None:
    found = [concordance(waits(simulated(seed, 40, 0.0, 0.0)).intervals) for seed in range(100)]
    for name, value in (("words", 0.5), ("logprob", 0.5), ("difference", 0.0)):
        covered = [one[name]["lower95"] <= value <= one[name]["upper95"] for one in found]
        assert np.mean(covered) >= 0.87


def test_what_cannot_be_fitted_says_why() -> None:
    few = hazard_models(waits(joined([*story("a", [20], True), *story("b", [30, 25], False)])).intervals)
    assert few["words"]["words"] is None
    assert "at least 5" in few["words"]["reason"]
    nothing = waits(joined([("a", 0, True, 5, -9.0, 1.0), ("a", 10, True, 5, -9.0, 1.0)]))
    assert concordance(nothing.intervals)["words"]["value"] is None
    assert kaplan_meier(nothing.tasks)[0].empty
    pytest.importorskip("statsmodels", reason="the extra survival is not installed")
    apart = [row for i in range(20) for row in story(f"t{i:02d}", [12 + (60 if i < 10 else 0)], i >= 10)]
    assert "separates" in hazard_models(waits(joined(apart)).intervals)["words"]["reason"]


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 1000), scale=st.sampled_from([1e-9, 1e-4, 1e4, 1e9]))
def test_a_hazard_has_a_finite_number_or_a_reason(seed: int, scale: float) -> None:
    pytest.importorskip("statsmodels", reason="the extra survival is not installed")
    intervals = waits(simulated(seed, 12, 0.3, 0.0)).intervals
    for model in hazard_models(intervals.assign(logprob=scale * intervals["logprob"])).values():
        found = [model[name] for name in ("words", "logprob") if name in model]
        if model["reason"] is None:
            assert np.isfinite([value for one in found for value in one.values()]).all()
        else:
            assert set(found) == {None}


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), tasks=st.integers(3, 30))
def test_concordance_does_not_care_about_row_order_or_scale(seed: int, tasks: int) -> None:
    intervals = waits(simulated(seed, tasks, 0.05, 0.0)).intervals
    shuffled = intervals.sample(frac=1, random_state=seed).assign(logprob=3 * intervals["logprob"])
    first: dict[str, Any] = concordance(intervals)
    second: dict[str, Any] = concordance(shuffled)
    assert first["n_pairs"] == second["n_pairs"]
    for name in ("words", "logprob", "difference"):
        assert first[name]["value"] == pytest.approx(second[name]["value"])
