from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest

from foreshock.analysis.surfaces.cells import (
    MOST_MODELLED,
    RunSource,
    cells_from_frames,
    load_run_cells,
    modelled_cells,
    run_checkpoints,
    seen_until,
    validate_cells,
)
from foreshock.errors import InputError


def evals(rows: list[tuple[str, int, int, bool]]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["task_id", "attempt_idx", "prefill_level", "exploit_success"])
    return frame.assign(run="r", exploit_type="t", checkpoint=5)


def kl(rows: list[tuple[str, int, int, float]]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["task_id", "attempt_idx", "prefill_level", "kl_divergence"])
    return frame.assign(run="r", exploit_type="t", checkpoint=5)


def test_each_attempt_is_paired_with_its_own_prefix() -> None:
    table = cells_from_frames(
        evals([("a", 0, 10, True), ("a", 1, 10, False), ("b", 0, 10, True)]),
        kl([("a", 0, 10, 2.0), ("a", 1, 10, 50.0), ("b", 0, 10, 4.0)]),
    )
    assert table["kl_success"].item() == pytest.approx(3.0)
    assert table["kl_mean"].item() == pytest.approx(56 / 3)


def test_the_score_in_a_kl_row_stands_in_for_a_run_without_logprob_rows() -> None:
    scored = kl([("a", 0, 10, 7.0), ("b", 0, 10, 9.0)]).assign(eval_logprob_sum=[-30.0, -50.0])
    table = cells_from_frames(evals([("a", 0, 10, False), ("b", 0, 10, True)]), scored)
    assert table["logprob_mean"].item() == -40.0


def test_a_tasks_single_prefix_serves_all_its_attempts() -> None:
    table = cells_from_frames(evals([("a", 0, 10, False), ("a", 1, 10, True)]), kl([("a", 0, 10, 7.0)]))
    assert table["kl_success"].item() == 7.0


def test_an_attempt_without_its_own_prefix_is_not_given_another_ones() -> None:
    scored = kl([("a", 0, 10, 7.0), ("a", 1, 10, 9.0)])
    table = cells_from_frames(evals([("a", 0, 10, False), ("a", 1, 10, False), ("a", 2, 10, True)]), scored)
    assert np.isnan(table["kl_success"].item())


def test_scores_of_tasks_without_evals_are_left_out_and_said_so() -> None:
    notes: list[str] = []
    table = cells_from_frames(evals([("a", 0, 10, True)]), kl([("a", 0, 10, 1.0), ("z", 0, 10, 99.0)]), None, notes)
    assert table["kl_mean"].item() == 1.0
    assert notes == ["1 KL rows of tasks without an eval row left out"]


def test_row_order_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    rows = [(f"t{i % 7}", i // 7, 10, bool(rng.random() < 0.4)) for i in range(28)]
    scores = [(task, attempt, level, float(rng.normal())) for task, attempt, level, _ in rows]
    first = cells_from_frames(evals(rows), kl(scores))
    second = cells_from_frames(evals(rows[::-1]), kl([scores[i] for i in rng.permutation(len(scores))]))
    pd.testing.assert_frame_equal(first, second)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("n", -1, "n is negative"),
        ("k", 99, "k is not between 0 and n"),
        ("k", -2, "k is not between 0 and n"),
        ("checkpoint", np.nan, "checkpoint is not a step"),
        ("kl_mean", np.inf, "kl_mean is infinite"),
        ("logprob_mean", 3.0, "logprob_mean is above 0"),
        ("prefill_level", -5, "prefill_level is negative"),
    ],
)
def test_impossible_values_are_named(
    make_cells: Callable[..., pd.DataFrame], column: str, value: float, message: str
) -> None:
    cells = make_cells(types=2, steps=(1, 2))
    cells[column] = cells[column].astype(float)
    cells.loc[3, column] = value
    with pytest.raises(InputError, match=message):
        validate_cells(cells)


def test_a_repeated_cell_is_refused(make_cells: Callable[..., pd.DataFrame]) -> None:
    cells = make_cells(types=2, steps=(1, 2))
    with pytest.raises(InputError, match="two rows for the cell"):
        validate_cells(pd.concat([cells, cells.iloc[[4]]]))


def test_seen_until_counts_each_runs_own_checkpoints(make_cells: Callable[..., pd.DataFrame]) -> None:
    first = make_cells(types=2, runs=("a",), steps=(1, 2, 3))
    second = make_cells(types=2, runs=("b",), steps=(10, 20, 30))
    seen = seen_until(pd.concat([first, second]), 1)
    assert sorted(seen["checkpoint"].unique()) == [1, 2, 10, 20]


def test_a_run_directory_loads_with_every_column(toy_run: Path, factory: ModuleType) -> None:
    loaded = load_run_cells(RunSource(toy_run))
    assert (loaded.cells["n"] > 0).all()
    prefilled = loaded.cells[loaded.cells["prefill_level"] > 0]
    assert prefilled["logprob_mean"].notna().any()
    assert (load_run_cells(RunSource(toy_run / "evals")).cells["n"].to_numpy() == loaded.cells["n"].to_numpy()).all()
    assert load_run_cells(RunSource(toy_run, "mine")).cells["run"].unique().tolist() == ["mine"]


@pytest.mark.parametrize("n", [1, MOST_MODELLED, MOST_MODELLED + 1, 1000])
def test_of_very_many_checkpoints_some_are_modelled_and_a_note_says_so(n: int) -> None:
    few = pd.DataFrame({"checkpoint": [7.0, 8.0]}).assign(run="few")
    many = pd.DataFrame({"checkpoint": np.arange(n, dtype=float)}).assign(run="many")
    cells = pd.concat([few, many]).assign(exploit_type="t", prefill_level=0, n=1, k=0)
    kept, notes = modelled_cells(validate_cells(cells), "the forecast")
    steps = run_checkpoints(kept)
    assert steps["few"] == [7.0, 8.0]
    assert (len(steps["many"]), steps["many"][0], steps["many"][-1]) == (min(n, MOST_MODELLED), 0.0, n - 1.0)
    assert [f"{MOST_MODELLED} of its {n:,} checkpoints" in note for note in notes] == [True] * (n > MOST_MODELLED)
