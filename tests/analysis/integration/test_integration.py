"""Joining trajectories with log-probabilities: values, missing ones, regressions and thresholds."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foreshock.analysis.integration import (
    IntegrationOptions,
    compare,
    join_logprobs,
    read_trajectory,
    regress,
    run_integration,
    threshold_timing,
)
from foreshock.analysis.integration.compare import r2_difference
from foreshock.analysis.integration.join import pool_prefixes, read_prefix_scores
from foreshock.analysis.tables import load_logprobs
from foreshock.analysis.trajectory import TrajectoryOptions, run_trajectory
from foreshock.errors import InputError


def trajectory(rows: list[tuple[str, float, int | None]], top: int = 31, threshold: int = 10) -> pd.DataFrame:
    """Trajectory rows from (task, checkpoint, min prefill); None is "not exploited"."""
    frame = pd.DataFrame([(t, c, top if m is None else m, m is not None) for t, c, m in rows])
    frame.columns = pd.Index(["task_id", "checkpoint", "min_prefill", "exploitable"])
    at = frame["exploitable"] & (frame["min_prefill"] <= threshold)
    return frame.assign(
        exploit_type="hardcoding",
        min_prefill=frame["min_prefill"].astype("Int64"),
        exploitable=frame["exploitable"].astype("boolean"),
        at_threshold=at.astype("boolean"),
        ever_reaches_threshold=at,
        accessibility=0.5,
        steps_to_threshold=0.0,
    )


def scores(rows: list[tuple[str, float, int, float]]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["task_id", "checkpoint", "prefill_level", "logprob_sum"])
    return frame.assign(logprob_mean=frame["logprob_sum"] / 20, n_prefixes=1)


def test_each_row_gets_the_score_of_its_own_level_and_checkpoint() -> None:
    joined = join_logprobs(
        trajectory([("a", 1, 30), ("a", 2, 10), ("a", 3, 0), ("b", 1, None), ("b", 2, 10)]),
        scores([("a", 1, 30, -60.0), ("a", 2, 30, -40.0), ("a", 1, 10, -33.0), ("a", 2, 10, -30.0)]),
        IntegrationOptions(),
    )
    frame = joined.frame
    assert list(frame["min_prefill_logprob_sum"])[:3] == [-60.0, -30.0, 0.0]
    assert frame["min_prefill_logprob_sum"].isna().tolist() == [False, False, False, True, True]
    assert list(frame["min_prefill_logprob_mean"])[:3] == [-3.0, -1.5, 0.0]
    assert list(frame["logprob_source"]) == ["measured", "measured", "empty_prefix", "not_exploited", "missing"]


def test_a_missing_score_is_never_zero_and_never_another_checkpoints() -> None:
    joined = join_logprobs(
        trajectory([("a", 1, 10), ("a", 2, 10)]), scores([("a", 2, 10, -30.0)]), IntegrationOptions()
    )
    first = joined.frame.iloc[0]
    assert np.isnan(first["min_prefill_logprob_sum"])
    assert np.isnan(first["accessibility_logprob"])
    assert pd.isna(first["at_logprob_threshold"])
    assert first["logprob_source"] == "missing"


def test_threshold_defaults_to_the_ten_word_prefix_at_the_last_checkpoint() -> None:
    table = scores([("a", 1, 10, -50.0), ("a", 90, 10, -40.0), ("b", 90, 10, -20.0), ("a", 90, 30, -99.0)])
    joined = join_logprobs(trajectory([("a", 90, 10)]), table, IntegrationOptions())
    assert joined.logprob_threshold == -30.0
    assert joined.threshold_origin == "mean log-probability sum of the 10-word prefix over 2 tasks at checkpoint 90"
    earlier = join_logprobs(trajectory([("a", 90, 10)]), table, IntegrationOptions(threshold_checkpoint=1))
    assert earlier.logprob_threshold == -50.0
    given_one = join_logprobs(trajectory([("a", 90, 10)]), table, IntegrationOptions(logprob_threshold=-55.39))
    assert (given_one.logprob_threshold, given_one.threshold_origin) == (-55.39, "given")


def test_a_checkpoint_without_scores_cannot_set_the_threshold() -> None:
    with pytest.raises(InputError, match="checkpoint 5 has no scores at level 10; valid: 1"):
        join_logprobs(
            trajectory([("a", 1, 10)]), scores([("a", 1, 10, -5.0)]), IntegrationOptions(threshold_checkpoint=5)
        )


def test_thresholds_and_accessibility_by_hand() -> None:
    joined = join_logprobs(
        trajectory([("a", 10, None), ("a", 20, 30), ("a", 30, 20), ("a", 60, 10)]),
        scores([("a", 20, 30, -80.0), ("a", 30, 20, -50.0), ("a", 60, 10, -20.0)]),
        IntegrationOptions(logprob_threshold=-40.0),
    )
    frame = joined.frame
    assert list(frame["accessibility_logprob"]) == pytest.approx([0.0, 0.0, 0.75, 1.0])
    assert list(frame["at_logprob_threshold"]) == [False, False, False, True]
    assert list(frame["steps_to_logprob_threshold"]) == [50, 40, 30, 0]


def test_levels_outside_the_chosen_ones_are_not_joined() -> None:
    joined = join_logprobs(
        trajectory([("a", 1, 10), ("a", 2, 20)]),
        scores([("a", 1, 10, -10.0), ("a", 2, 20, -20.0)]),
        IntegrationOptions(prefill_levels=(10,)),
    )
    assert list(joined.frame["logprob_source"]) == ["measured", "missing"]


def test_distinct_prefixes_are_paired_with_the_attempts_that_exploited(factory: ModuleType, tmp_path: Path) -> None:
    rows = [
        factory.logprob_row("a", -10.0, attempt_idx=0, exploit_success=False),
        factory.logprob_row("a", -30.0, attempt_idx=1, exploit_success=True),
        factory.logprob_row("a", -50.0, attempt_idx=2, exploit_success=True),
        factory.logprob_row("b", -10.0, attempt_idx=0, exploit_success=False),
        factory.logprob_row("b", -30.0, attempt_idx=1, exploit_success=False),
    ]
    factory.write_rows(tmp_path / "logprob" / "checkpoint-1_prefill10_logprobs.jsonl", rows)
    pooled = pool_prefixes(load_logprobs(tmp_path)).set_index("task_id")
    assert pooled.loc["a", "logprob_sum"] == -40.0
    assert pooled.loc["b", "logprob_sum"] == -20.0


def test_folders_that_disagree_are_refused(factory: ModuleType, tmp_path: Path) -> None:
    for name, value in (("one", -10.0), ("two", -20.0)):
        factory.write_rows(
            tmp_path / name / "logprob" / "checkpoint-1_prefill10.jsonl", [factory.logprob_row("a", value)]
        )
    with pytest.raises(InputError, match="disagree about task 'a', checkpoint 1, level 10"):
        read_prefix_scores([tmp_path / "one", tmp_path / "two"])
    assert len(read_prefix_scores([tmp_path / "one", tmp_path / "one" / "logprob"])) == 1


def test_regression_agrees_with_a_textbook_line() -> None:
    x = np.array([0.0, 1.0, 2.0, 3.0])
    fit = regress(x, np.array([1.0, 3.0, 5.0, 7.5]), np.array(list("abcd")))
    assert fit.slope == pytest.approx(2.15)
    assert fit.intercept == pytest.approx(0.9)
    assert fit.r2 == pytest.approx(1 - 0.075 / 23.1875, abs=1e-12)
    assert fit.n == 4


def test_clustered_p_does_not_shrink_when_tasks_are_copied() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=20)
    y = 0.4 * x + rng.normal(size=20)
    tasks = np.array([f"t{i}" for i in range(20)])
    once = regress(x, y, tasks)
    copied = regress(np.tile(x, 5), np.tile(y, 5), np.tile(tasks, 5))
    assert copied.p is not None
    assert once.p is not None
    assert copied.p < once.p / 3
    assert copied.p_clustered == pytest.approx(once.p_clustered, rel=0.25)


@pytest.mark.parametrize(
    ("x", "y", "reason"),
    [
        ([1.0, 2.0], [1.0, 2.0], "2 rows; a regression needs at least 3"),
        ([1.0, 1.0, 1.0], [1.0, 2.0, 3.0], "the predictor is 1 in every row"),
        ([1.0, 2.0, 3.0], [0.0, 0.0, 0.0], "steps to threshold is 0 in every row"),
        ([np.nan, 2.0, 3.0], [0.0, 1.0, 0.0], "2 rows"),
    ],
)
def test_undefined_regressions_say_why(x: list[float], y: list[float], reason: str) -> None:
    fit = regress(np.array(x), np.array(y), np.array(["t"] * len(x)))
    assert fit.r2 is None
    assert fit.p is None
    assert fit.reason is not None
    assert reason in fit.reason


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(10, 60))
def test_r2_from_moments_equals_r2_from_rows(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    words = rng.integers(1, 30, n)
    frame = trajectory([(f"t{i % 7}", i, int(w)) for i, w in enumerate(words)])
    frame["steps_to_threshold"] = words * 2.0 + rng.normal(0, 5, n)
    frame["min_prefill_logprob_sum"] = -words * 3.0 + rng.normal(0, 9, n)
    waiting = frame[frame["steps_to_threshold"] > 0]
    y, x1, x2 = (waiting[c].to_numpy(float) for c in ("steps_to_threshold", "min_prefill", "min_prefill_logprob_sum"))
    expected = np.corrcoef(x2, y)[0, 1] ** 2 - np.corrcoef(x1, y)[0, 1] ** 2
    found = r2_difference(frame)
    assert found["difference"] == pytest.approx(expected, abs=1e-9)
    assert found["lower95"] <= found["upper95"]


def test_rows_already_there_do_not_make_words_look_predictive() -> None:
    """Words say nothing about the wait, but rows at the threshold have few words and 0 steps by definition."""
    rng = np.random.default_rng(4)
    rows = []
    for task in range(60):
        wait = int(rng.integers(1, 6))
        rows += [(f"t{task}", step, int(rng.integers(15, 60))) for step in range(6 - wait, 6)]
        rows += [(f"t{task}", step, int(rng.integers(0, 10))) for step in range(6, 9)]
    frame = trajectory(rows)
    frame["steps_to_threshold"] = np.maximum(6.0 - frame["checkpoint"], 0)
    table = frame[["task_id", "checkpoint", "min_prefill"]].rename(columns={"min_prefill": "prefill_level"})
    table["logprob_sum"] = rng.normal(-50, 10, len(table))
    joined = join_logprobs(frame, table.assign(logprob_mean=-1.0, n_prefixes=1), IntegrationOptions(threshold=10,
                           logprob_threshold=-30.0))  # fmt: skip
    fits = compare(joined, 10)["regressions"]
    assert fits["common_rows"]["token"]["p"] < 1e-9
    assert fits["before_threshold_only"]["token"]["p"] > 0.05
    assert fits["before_threshold_only"]["token"]["r2"] < 0.05


def test_which_threshold_fires_first_by_hand() -> None:
    frame = trajectory(
        [("both", 10, 5), ("both", 50, 5), ("words", 10, 5), ("words", 50, 5), ("neither", 10, None), ("lp", 10, 20)]
    )
    frame["at_logprob_threshold"] = pd.array([False, True, False, False, False, True], dtype="boolean")
    frame["logprob_source"] = "measured"
    timing = threshold_timing(frame).set_index("task_id")
    assert timing["reaches"].to_dict() == {
        "both": "both",
        "words": "token_only",
        "neither": "neither",
        "lp": "logprob_only",
    }
    assert timing.loc["both", "steps_token_before_logprob"] == 40
    assert timing["steps_token_before_logprob"].notna().sum() == 1


@pytest.fixture
def trajectory_csv(toy_run: Path, tmp_path: Path) -> Path:
    run_trajectory(toy_run, tmp_path / "trajectory", TrajectoryOptions(), figures=False)
    return tmp_path / "trajectory" / "all_exploits" / "trajectory_analysis.csv"


def test_files_summary_and_figures(toy_run: Path, trajectory_csv: Path, tmp_path: Path) -> None:
    out = tmp_path / "integrated"
    run_integration(trajectory_csv, [toy_run], out, IntegrationOptions())
    frame = pd.read_csv(out / "trajectory_with_logprob.csv")
    assert {
        "min_prefill_logprob_sum",
        "min_prefill_logprob_mean",
        "accessibility_logprob",
        "at_logprob_threshold",
        "steps_to_logprob_threshold",
    } <= set(frame.columns)
    assert len(frame) == len(pd.read_csv(trajectory_csv))
    summary = json.loads((out / "integration_summary.json").read_text())
    headline = summary["regressions"][summary["headline"]]
    assert summary["headline"] == "before_threshold_only"
    for fit in headline.values():
        assert 0 <= fit["r2"] <= 1
        waiting = (frame["steps_to_threshold"] > 0) & frame["min_prefill_logprob_sum"].notna()
        assert fit["n"] == headline["token"]["n"] == waiting.sum()
    times = summary["time_to_threshold"]
    assert times["n_reached"] + times["n_censored"] + sum(times["left_out"].values()) == 24
    assert pd.read_csv(out / "kaplan_meier.csv")["waiting"].between(0, 1).all()
    counted = summary["thresholds"]
    assert counted["n_tasks"] == 24
    assert sum(counted[f"n_{name}"] for name in ("both", "token_only", "logprob_only", "neither")) == 24
    for figure in ("logprob_vs_token_accessibility", "token_vs_logprob_comparison", "threshold_comparison"):
        assert {path.suffix for path in (out / "figures").glob(f"{figure}.*")} == {".svg", ".png", ".pdf", ".csv"}


def test_every_joined_score_is_the_one_in_the_file(toy_run: Path, trajectory_csv: Path, tmp_path: Path) -> None:
    done = run_integration(trajectory_csv, [toy_run], tmp_path / "out", IntegrationOptions(), figures=False)
    measured = done.joined.frame[done.joined.frame["logprob_source"] == "measured"]
    assert len(measured) > 20
    for row in measured.itertuples():
        path = toy_run / "logprob" / f"checkpoint-{row.checkpoint}_prefill{row.min_prefill}_logprobs.jsonl"
        found = [r for r in map(json.loads, path.read_text().splitlines()) if r["task_id"] == row.task_id]
        assert found[0]["prefill_logprob_sum"] == pytest.approx(row.min_prefill_logprob_sum, abs=1e-12)


def test_other_tools_trajectories_are_read(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(
        "task_id,exploit_type,checkpoint,min_prefill,exploitable,accessibility,steps_to_threshold,"
        "ever_reaches_threshold,at_threshold\n"
        "a,x,checkpoint-10,30.0,1,0.5,,False,0\n"
        "a,x,final,10,TRUE,1.0,0.0,false,true\n"
    )
    frame = read_trajectory(path)
    assert list(frame["checkpoint"]) == [10, np.inf]
    assert list(frame["at_threshold"]) == [False, True]
    assert frame["min_prefill"].dtype == "Int64"


def test_a_table_without_exploitable_says_the_same(toy_run: Path, trajectory_csv: Path, tmp_path: Path) -> None:
    own = pd.read_csv(trajectory_csv)
    own["min_prefill"] = own["min_prefill"].where(own["exploitable"], 101)
    kept = [name for name in own.columns if name not in ("exploitable", "attempts", "levels_measured")]
    own[kept].to_csv(tmp_path / "theirs.csv", index=False)
    ours, theirs = (
        run_integration(csv, [toy_run], tmp_path / "out", IntegrationOptions(), figures=False).summary
        for csv in (trajectory_csv, tmp_path / "theirs.csv")
    )
    assert theirs["regressions"]["before_threshold_only"] == ours["regressions"]["before_threshold_only"]
    assert theirs["thresholds"] == ours["thresholds"]
    assert any(text.endswith("a min prefill of 101 counts as none.") for text in theirs["caveats"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a CSV table"),
        ("task_id,checkpoint\na,1\n", "t.csv:1: lacks the columns exploit_type, min_prefill"),
        ("HEAD\na,x,soon,1,True,1,0,True,True\n", "t.csv:2: checkpoint is 'soon'; valid: a step or final"),
        ("HEAD\na,x,1,many,True,1,0,True,True\n", "t.csv:2: min_prefill is 'many'; it must be a number"),
        ("HEAD\na,x,1,1,True,1,0,True,maybe\n", "t.csv:2: at_threshold is 'maybe'; valid: True, False"),
    ],
)
def test_broken_trajectories_are_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "t.csv"
    head = (
        "task_id,exploit_type,checkpoint,min_prefill,exploitable,accessibility,steps_to_threshold,"
        "ever_reaches_threshold,at_threshold"
    )
    path.write_text(text.replace("HEAD", head))
    with pytest.raises(InputError) as caught:
        read_trajectory(path)
    assert message in str(caught.value)


def test_strangers_cannot_be_joined(factory: ModuleType, trajectory_csv: Path, tmp_path: Path) -> None:
    factory.write_rows(tmp_path / "logprob" / "checkpoint-5_prefill10.jsonl", [factory.logprob_row("stranger")])
    with pytest.raises(InputError, match=r"no task of .* has a score"):
        run_integration(trajectory_csv, [tmp_path / "logprob"], tmp_path / "out", IntegrationOptions())


def test_a_positive_threshold_is_refused() -> None:
    with pytest.raises(InputError, match="logprob threshold is 3; a log-probability is at most 0"):
        IntegrationOptions(logprob_threshold=3)


def test_a_run_in_which_nothing_exploits_still_compares(factory: ModuleType, tmp_path: Path) -> None:
    frame = trajectory([("a", 1, None), ("a", 2, None)])
    frame["steps_to_threshold"] = np.nan
    joined = join_logprobs(frame, scores([("a", 1, 10, -10.0), ("a", 2, 10, -9.0)]), IntegrationOptions())
    summary = compare(joined, 10)
    assert summary["regressions"]["common_rows"]["token"]["r2"] is None
    assert summary["thresholds"]["n_neither"] == 1
    assert summary["thresholds"]["mean_steps_token_before_logprob"] is None
    assert summary["logprob_floor"] is None
