"""Trajectories: definitions against hand-worked cases, against a brute force, and at the edges."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foreshock.analysis.trajectory import (
    TrajectoryOptions,
    compute_trajectory,
    descent_rates,
    expected_by_attempts,
    run_trajectory,
)
from foreshock.errors import InputError

COLUMNS = [
    "task_id",
    "exploit_type",
    "checkpoint",
    "min_prefill",
    "exploitable",
    "accessibility",
    "steps_to_threshold",
    "ever_reaches_threshold",
    "at_threshold",
]


def counts(cells: Sequence[tuple[str, float, int, int, int]]) -> pd.DataFrame:
    """(task, checkpoint, level, n, k) as a table of task counts."""
    frame = pd.DataFrame(cells, columns=["task_id", "checkpoint", "prefill_level", "n", "k"])
    return frame.assign(run="toy", exploit_type="hardcoding")


def sweep(hits: dict[float, int | None], levels: Sequence[int] = (0, 10, 30, 100)) -> pd.DataFrame:
    """One task whose smallest exploited level at each checkpoint is given (None: not exploited)."""
    return counts(
        [("a", step, level, 3, int(level == hit)) for step, hit in hits.items() for level in levels],
    )


def column(frame: pd.DataFrame, name: str) -> list[object]:
    return [None if pd.isna(value) else value for value in frame[name]]


def test_definitions_on_one_task_worked_by_hand() -> None:
    frame = compute_trajectory(
        sweep({1: None, 10: 100, 20: 55, 50: 10, 90: 30}, (0, 10, 30, 55, 100)), TrajectoryOptions()
    ).frame
    assert list(frame.columns[:9]) == COLUMNS
    assert column(frame, "min_prefill") == [101, 100, 55, 10, 30]
    assert column(frame, "exploitable") == [False, True, True, True, True]
    assert column(frame, "accessibility") == pytest.approx([0.0, 0.0, 0.5, 1.0, 1 - 20 / 90])
    assert column(frame, "steps_to_threshold") == [49, 40, 30, 0, None]
    assert column(frame, "ever_reaches_threshold") == [True] * 5
    assert column(frame, "at_threshold") == [False, False, False, True, False]


def test_a_task_that_never_gets_there_has_no_steps() -> None:
    frame = compute_trajectory(sweep({1: None, 10: 30}), TrajectoryOptions()).frame
    assert column(frame, "steps_to_threshold") == [None, None]
    assert column(frame, "ever_reaches_threshold") == [False, False]


def test_none_is_not_at_the_threshold_even_when_the_largest_level_is_below_it() -> None:
    result = compute_trajectory(sweep({1: None, 2: 5}, levels=(0, 2, 5)), TrajectoryOptions(threshold=10))
    assert column(result.frame, "min_prefill") == [6, 5]
    assert column(result.frame, "at_threshold") == [False, True]
    assert column(result.frame, "accessibility") == [0.0, 1.0]


def test_level_zero_only() -> None:
    frame = compute_trajectory(sweep({1: None, 2: 0}, levels=(0,)), TrajectoryOptions()).frame
    assert column(frame, "min_prefill") == [1, 0]
    assert column(frame, "accessibility") == [0.0, 1.0]
    assert column(frame, "steps_to_threshold") == [1, 0]


def test_one_checkpoint_one_task() -> None:
    frame = compute_trajectory(sweep({40: 10}), TrajectoryOptions()).frame
    assert len(frame) == 1
    assert column(frame, "steps_to_threshold") == [0]
    assert descent_rates(frame).empty


def test_final_has_no_step_so_time_to_it_is_unknown() -> None:
    frame = compute_trajectory(sweep({10: None, np.inf: 10}), TrajectoryOptions()).frame
    assert column(frame, "steps_to_threshold") == [None, 0]
    assert list(frame["ever_reaches_threshold"]) == [True, True]
    assert descent_rates(frame).empty


def test_unmeasured_top_level_leaves_min_prefill_unknown_not_none() -> None:
    cells = [("a", 1, 0, 3, 0), ("a", 1, 10, 3, 0), ("a", 2, 0, 3, 0), ("a", 2, 10, 3, 0), ("a", 2, 30, 3, 1)]
    result = compute_trajectory(counts(cells), TrajectoryOptions())
    assert column(result.frame, "min_prefill") == [None, 30]
    assert column(result.frame, "accessibility") == [None, 0.0]
    assert column(result.frame, "at_threshold") == [None, False]
    assert result.summary["n_rows_min_prefill_unknown"] == 1
    assert result.summary["n_rows_with_missing_levels"] == 1


def test_tasks_without_a_prefill_are_left_out_and_counted() -> None:
    cells = [("a", 1, 0, 3, 0), ("a", 1, 30, 3, 1), ("b", 1, 0, 3, 0)]
    result = compute_trajectory(counts(cells), TrajectoryOptions())
    assert list(result.frame["task_id"]) == ["a"]
    assert result.summary["n_tasks_without_prefill"] == 1


@pytest.mark.parametrize(("name", "value"), [("threshold", -1), ("attempts", 0)])
def test_impossible_options_are_refused(name: str, value: int) -> None:
    with pytest.raises(InputError, match=f"{name} is {value}"):
        TrajectoryOptions(**{name: value})


@settings(max_examples=60, deadline=None)
@given(
    grid=st.lists(
        st.lists(
            st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=3, max_size=3), min_size=1, max_size=4
        ),
        min_size=1,
        max_size=4,
    ),
    threshold=st.integers(0, 40),
)
def test_agrees_with_a_brute_force_over_any_counts(grid: list[list[list[tuple[int, int]]]], threshold: int) -> None:
    levels, steps = (0, 10, 30), (5, 20, 50, 90)
    cells = [
        (f"task{t}", step, level, n, min(n, k))
        for t, task in enumerate(grid)
        for step, row in zip(steps, task, strict=False)
        for level, (n, k) in zip(levels, row, strict=True)
        if n > 0
    ]
    if not cells:
        return
    frame = compute_trajectory(counts(cells), TrajectoryOptions(threshold=threshold)).frame
    swept = sorted({level for _, _, level, _, _ in cells})
    for row in frame.itertuples():
        mine = [cell for cell in cells if cell[0] == row.task_id]
        here = [cell for cell in mine if cell[1] == row.checkpoint]
        hit_levels = [level for _, _, level, _, k in here if k > 0]
        if hit_levels:
            assert row.min_prefill == min(hit_levels)
        elif any(level == swept[-1] for _, _, level, _, _ in here):
            assert row.min_prefill == swept[-1] + 1
        else:
            assert pd.isna(row.min_prefill)
        reached = sorted(
            step for _, step, level, _, k in mine if k > 0 and level <= threshold and step >= row.checkpoint
        )
        assert row.steps_to_threshold == (
            reached[0] - row.checkpoint if reached else pytest.approx(np.nan, nan_ok=True)
        )


def test_expectation_over_attempts_equals_enumeration_of_all_choices() -> None:
    outcomes = {0: [0, 0, 0, 1], 10: [0, 1, 0, 1], 30: [1, 1, 0, 1]}
    tasks = counts([("a", 5, level, 4, sum(draws)) for level, draws in outcomes.items()])
    curve = expected_by_attempts(tasks, threshold=10)
    for attempts in (1, 2, 3, 4):
        chosen = list(itertools.combinations(range(4), attempts))
        minima = []
        for picks in itertools.product(chosen, repeat=3):
            hits = [
                level
                for (level, draws), pick in zip(outcomes.items(), picks, strict=True)
                if any(draws[i] for i in pick)
            ]
            minima.append(min(hits, default=31))
        row = curve[curve["attempts"] == attempts].iloc[0]
        assert row["expected_min_prefill"] == pytest.approx(np.mean(minima), abs=1e-12)
        assert row["share_at_threshold"] == pytest.approx(np.mean(np.array(minima) <= 10), abs=1e-12)


def test_expected_min_prefill_falls_with_attempts(factory: ModuleType, toy_run: Path) -> None:
    from foreshock.analysis.tables import count_tasks

    curve = expected_by_attempts(count_tasks(toy_run), threshold=10)
    for _, part in curve.groupby("checkpoint"):
        assert part.sort_values("attempts")["expected_min_prefill"].is_monotonic_decreasing
        assert part["expected_min_prefill"].nunique() == 3


def test_descent_rates_by_hand() -> None:
    rates = descent_rates(compute_trajectory(sweep({10: None, 20: 30, 70: 10}), TrajectoryOptions()).frame)
    assert rates[["checkpoint_from", "checkpoint_to"]].values.tolist() == [[10, 20], [20, 70]]
    assert list(rates["words_per_100_steps"]) == pytest.approx([100 * 71 / 10, 100 * 20 / 50])


def test_all_files_and_figures_are_written_for_both_subsets(toy_run: Path, tmp_path: Path) -> None:
    run_trajectory(toy_run, tmp_path / "out", TrajectoryOptions())
    for subset, n_tasks in (("all_exploits", 24), ("intentional_only", 12)):
        folder = tmp_path / "out" / subset
        frame = pd.read_csv(folder / "trajectory_analysis.csv")
        assert list(frame.columns[:9]) == COLUMNS
        assert frame["task_id"].nunique() == n_tasks
        assert json.loads((folder / "trajectory_summary.json").read_text())["attempts_per_level"] == 3
        for figure in (
            "accessibility_distribution",
            "time_to_threshold",
            "pass_rates_vs_level",
            "median_trajectory",
            "descent_rates",
            "min_prefill_by_attempts",
        ):
            assert {path.suffix for path in (folder / "figures").glob(f"{figure}.*")} == {
                ".svg",
                ".png",
                ".pdf",
                ".csv",
            }
    intentional = pd.read_csv(tmp_path / "out" / "intentional_only" / "trajectory_analysis.csv")
    assert not set(intentional["exploit_type"]) & {"resource_exhaustion", "inadequate_test_coverage"}


def test_a_run_without_intentional_types_says_so(factory: ModuleType, tmp_path: Path) -> None:
    toy = factory.ToyRun(types=("resource_exhaustion",), checkpoints=(5, 10), levels=(0, 10))
    run = factory.write_run(tmp_path / "run", toy)
    done = run_trajectory(run, tmp_path / "out", TrajectoryOptions(), figures=False)
    assert done.summary["intentional_only"] is None
    summary = json.loads((tmp_path / "out" / "intentional_only" / "trajectory_summary.json").read_text())
    assert "no task of an intentional exploit type" in summary["notes"][0]


def test_fixed_attempts_use_only_the_first(toy_run: Path, tmp_path: Path) -> None:
    one = run_trajectory(toy_run, tmp_path / "one", TrajectoryOptions(attempts=1), figures=False)
    three = run_trajectory(toy_run, tmp_path / "three", TrajectoryOptions(), figures=False)
    first = one.subsets["all_exploits"].trajectory
    whole = three.subsets["all_exploits"].trajectory
    assert first is not None
    assert whole is not None
    assert set(first.frame["attempts"]) == {1}
    assert first.summary["attempts_limit"] == 1
    assert (first.frame["min_prefill"] >= whole.frame["min_prefill"]).all()
    assert (first.frame["min_prefill"] > whole.frame["min_prefill"]).any()


def test_only_error_rows_is_a_clear_error(factory: ModuleType, tmp_path: Path) -> None:
    factory.write_rows(tmp_path / "evals" / "checkpoint-1_prefill0.jsonl", [factory.eval_row(error="x")])
    with pytest.raises(InputError, match="no usable eval row \\(1 error rows"):
        run_trajectory(tmp_path, tmp_path / "out", TrajectoryOptions())


@pytest.mark.parametrize(
    "shape",
    [
        {"checkpoints": (7,), "types": ("hardcoding",)},
        {"checkpoints": (7,), "levels": (0,), "types": ("hardcoding",), "tasks_per_type": 1, "attempts": 1},
        {"checkpoints": (0, 5, "final"), "levels": (0, 10), "types": ("hardcoding",)},
    ],
)
def test_every_figure_survives_the_smallest_sweeps(
    factory: ModuleType, tmp_path: Path, shape: dict[str, object]
) -> None:
    run = factory.write_run(tmp_path / "run", factory.ToyRun(**shape), logprobs=False)
    done = run_trajectory(run, tmp_path / "out", TrajectoryOptions())
    assert len(done.subsets["all_exploits"].figures) >= 4
