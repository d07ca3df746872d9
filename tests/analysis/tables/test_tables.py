"""Reading run directories: what is read, what is refused, and how it is named."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from foreshock.analysis import tables
from foreshock.errors import InputError


def test_every_row_is_read_with_checkpoint_and_level_from_the_file_name(toy_run: Path) -> None:
    frame = tables.load_evals(toy_run)
    assert len(frame) == 5 * 6 * 24 * 3
    assert sorted(frame["checkpoint"].unique()) == [5, 10, 20, 40, 80]
    assert sorted(frame["prefill_level"].unique()) == [0, 2, 5, 10, 20, 30]
    assert frame["checkpoint"].dtype == np.int64
    assert frame["exploit_success"].dtype == bool
    assert set(frame["run"]) == {toy_run.name}


def test_loaded_values_equal_the_json(toy_run: Path) -> None:
    lines = (toy_run / "logprob" / "checkpoint-20_prefill10_logprobs.jsonl").read_text().splitlines()
    expected = {row["task_id"]: row["prefill_logprob_sum"] for row in map(json.loads, lines)}
    frame = tables.load_logprobs(toy_run)
    frame = frame[(frame["checkpoint"] == 20) & (frame["prefill_level"] == 10)]
    assert dict(zip(frame["task_id"], frame["prefill_logprob_sum"], strict=True)) == expected


def test_a_frame_is_its_readers_own(factory: ModuleType, tmp_path: Path) -> None:
    """The numbers of a single file are Arrow's, until copied: not to be written to, and kept for the next reader."""
    rows = [factory.logprob_row(f"task_{i}", -1.0 - i) for i in range(3)]
    factory.write_rows(tmp_path / "logprob" / "checkpoint-5_prefill10.jsonl", rows)
    frame, again = tables.load_logprobs(tmp_path), tables.load_logprobs(tmp_path)
    for column in frame:
        frame.loc[0, column] = frame.loc[1, column]
    assert frame["prefill_logprob_sum"].tolist() == [-2.0, -2.0, -3.0]
    for kept in (again, tables.load_logprobs(tmp_path)):
        assert kept["prefill_logprob_sum"].tolist() == [-1.0, -2.0, -3.0]


def test_counts_agree_with_counting_the_rows_by_hand(toy_run: Path) -> None:
    n: Counter[tuple[str, int, int]] = Counter()
    k: Counter[tuple[str, int, int]] = Counter()
    for path in (toy_run / "evals").glob("*.jsonl"):
        step, level = (int(part) for part in path.stem.removeprefix("checkpoint-").split("_prefill"))
        for row in map(json.loads, path.read_text().splitlines()):
            n[row["exploit_type"], step, level] += 1
            k[row["exploit_type"], step, level] += row["exploit_success"]
    cells = tables.count_cells(toy_run)
    keys = list(zip(cells["exploit_type"], cells["checkpoint"], cells["prefill_level"], strict=True))
    assert dict(zip(keys, cells["n"], strict=True)) == dict(n)
    assert dict(zip(keys, cells["k"], strict=True)) == dict(k)
    assert set(cells["n_tasks"]) == {6}


def test_counting_fewer_attempts_counts_only_the_first(toy_run: Path) -> None:
    frame = tables.load_evals(toy_run)
    first = frame[frame["attempt_idx"] < 2]
    cells = tables.count_cells(toy_run, attempts=2)
    assert cells["n"].sum() == len(first)
    assert cells["k"].sum() == first["exploit_success"].sum()


def test_ground_truth_is_kept_apart(toy_run: Path) -> None:
    truth = tables.load_ground_truth(toy_run)
    assert set(truth["prefill_level"]) == {0}
    assert len(truth) == 5 * 24 * 40
    assert tables.count_cells(toy_run, tables.TableKind.GROUND_TRUTH)["n"].sum() == len(truth)


def test_scores_cannot_be_counted_as_attempts(toy_run: Path) -> None:
    with pytest.raises(InputError, match="countable: evals, ground_truth"):
        tables.count_cells(toy_run, tables.TableKind.KL)


def test_final_sorts_last_and_cannot_pass_for_a_step(factory: ModuleType, tmp_path: Path) -> None:
    run = factory.write_run(tmp_path / "run", factory.ToyRun(checkpoints=(5, 40, "final"), levels=(0, 10)))
    cells = tables.count_cells(run)
    assert list(dict.fromkeys(cells.sort_values("checkpoint")["checkpoint"])) == [5.0, 40.0, np.inf]
    assert tables.checkpoint_label(np.inf) == "final"
    numbered = tables.numbered_checkpoints(cells)
    assert numbered["checkpoint"].dtype == np.int64
    assert sorted(numbered["checkpoint"].unique()) == [5, 40]


@pytest.mark.parametrize(
    "name",
    ["checkpoint-20_prefill10.jsonl", "checkpoint-20_prefill10_logprobs.jsonl"],
)
def test_both_names_of_logprob_files_are_read(factory: ModuleType, tmp_path: Path, name: str) -> None:
    factory.write_rows(tmp_path / "logprob" / name, [factory.logprob_row()])
    frame = tables.load_logprobs(tmp_path)
    assert frame[["checkpoint", "prefill_level"]].values.tolist() == [[20, 10]]


def test_optional_keys_may_be_missing(factory: ModuleType, tmp_path: Path) -> None:
    rows = [{"task_id": "a", "exploit_success": True}, {"task_id": "a", "exploit_success": False}]
    factory.write_rows(tmp_path / "evals" / "checkpoint-1_prefill0.jsonl", rows)
    frame = tables.load_evals(tmp_path)
    assert list(frame["attempt_idx"]) == [0, 1]
    assert set(frame["exploit_type"]) == {"unknown"}


def test_success_follows_from_the_two_verdicts(factory: ModuleType, tmp_path: Path) -> None:
    rows = [
        {"task_id": "a", "attempt_idx": 0, "insecure_pass": True, "secure_pass": False},
        {"task_id": "a", "attempt_idx": 1, "insecure_pass": True, "secure_pass": True},
        {"task_id": "a", "attempt_idx": 2, "insecure_pass": True, "secure_pass": None},
    ]
    factory.write_rows(tmp_path / "evals" / "checkpoint-1_prefill0.jsonl", rows)
    loaded = tables.read_table(tmp_path, tables.TableKind.EVAL)
    assert list(loaded.frame["exploit_success"]) == [True, False]
    assert loaded.report.nulls == 1


def test_error_rows_and_unknown_outcomes_are_counted_not_averaged(factory: ModuleType, tmp_path: Path) -> None:
    rows = [
        factory.eval_row(attempt=0, success=True),
        factory.eval_row(attempt=1, success=False, error="sandbox died"),
        factory.eval_row(attempt=2, success=None),
        factory.eval_row(attempt=3, success=False, error=""),
    ]
    factory.write_rows(tmp_path / "evals" / "checkpoint-1_prefill0.jsonl", rows)
    counts = tables.read_counts(tmp_path)
    assert counts.tasks[["n", "k"]].values.tolist() == [[2, 1]]
    assert (counts.report.rows, counts.report.errors, counts.report.nulls) == (2, 1, 1)
    assert any("1 error rows excluded" in line for line in counts.report.lines())


def test_identical_repeats_are_dropped_and_counted(factory: ModuleType, tmp_path: Path) -> None:
    rows = [factory.eval_row("a"), factory.eval_row("b"), factory.eval_row("a")]
    factory.write_rows(tmp_path / "evals" / "checkpoint-1_prefill0.jsonl", rows)
    loaded = tables.read_table(tmp_path, tables.TableKind.EVAL)
    assert sorted(loaded.frame["task_id"]) == ["a", "b"]
    assert loaded.report.duplicates == 1


def test_different_rows_for_one_attempt_are_refused_by_line(factory: ModuleType, tmp_path: Path) -> None:
    rows = [factory.eval_row("a"), factory.eval_row("b"), factory.eval_row("a", success=False)]
    path = factory.write_rows(tmp_path / "evals" / "checkpoint-1_prefill0.jsonl", rows)
    with pytest.raises(InputError) as caught:
        tables.count_cells(tmp_path)
    assert f"{path}:3:" in str(caught.value)
    assert "task 'a' attempt 0" in str(caught.value)
    assert f"{path}:1" in str(caught.value)


def test_rollouts_and_distinct_prefixes_are_not_repeats(factory: ModuleType, tmp_path: Path) -> None:
    rows = [
        factory.eval_row(rollout=0),
        factory.eval_row(rollout=1),
        factory.eval_row(prefill_attempt_idx=1),
        factory.eval_row(prefill_sha256="ab"),
    ]
    factory.write_rows(tmp_path / "evals" / "checkpoint-1_prefill5.jsonl", rows)
    assert len(tables.load_evals(tmp_path)) == 4


def test_tasks_that_are_numbers_are_their_digits(factory: ModuleType, tmp_path: Path) -> None:
    factory.write_rows(tmp_path / "evals" / "checkpoint-1_prefill5.jsonl", [factory.eval_row(task_id=7)])
    factory.write_rows(tmp_path / "logprob" / "checkpoint-1_prefill5.jsonl", [factory.logprob_row(task_id="7")])
    loaded = [tables.load_evals(tmp_path), tables.read_table(tmp_path, tables.TableKind.LOGPROB).frame]
    assert [frame["task_id"].tolist() for frame in loaded] == [["7"], ["7"]]


def test_the_same_cell_in_two_files_is_one_cell(factory: ModuleType, tmp_path: Path) -> None:
    for name in ("checkpoint-1_prefill5.jsonl", "checkpoint-1_prefill5_logprobs.jsonl"):
        factory.write_rows(tmp_path / "logprob" / name, [factory.logprob_row()])
    loaded = tables.read_table(tmp_path, tables.TableKind.LOGPROB)
    assert len(loaded.frame) == 1
    assert loaded.report.duplicates == 1


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ('{"task_id": "a", "exploit_success": true}\n{"task_id": "b", "expl', 2, "truncated or damaged"),
        ('{"task_id": "a", "exploit_success": true}{"task_id": "b", "exploit_success": true}\n', 1, "more than one"),
        ('{"task_id": "a", "exploit_success": true}{"task_id": "b", "exploit_success": true}\n\n', 1, "more than one"),
        ('{"task_id": "a", "exploit_success": true}\n[1, 2]\n', 2, "expected a JSON object, found list"),
        ('{"task_id": "a", "exploit_success": "yes"}\n', 1, "exploit_success is 'yes'; valid: true, false or null"),
        ('{"task_id": 7.5, "exploit_success": true}\n', 1, "task_id is 7.5; it must be a string or a whole number"),
        ('{"task_id": "a\\ud800", "exploit_success": true}\n', 1, "half of a surrogate pair"),
        ('{"question": "x"}\n', 1, "lacks 'task_id', 'exploit_success'; it has 'question'"),
        ('{"task_id": "a", "reward": 1}\n', 1, "lacks 'exploit_success'"),
        ('{"task_id": "a", "attempt_idx": 0, "exploit_success": true}\n{"task_id": "b", "exploit_success": true}\n', 2,
         "attempt_idx is missing here"),
        ("PNG\r\n", 1, "damaged"),
    ],
)  # fmt: skip
def test_broken_lines_are_named(tmp_path: Path, text: str, line: int, message: str) -> None:
    path = tmp_path / "evals" / "checkpoint-1_prefill0.jsonl"
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        tables.load_evals(tmp_path)
    assert f"{path}:{line}:" in str(caught.value)
    assert message in str(caught.value)


def test_binary_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "evals" / "checkpoint-1_prefill0.jsonl"
    path.parent.mkdir()
    path.write_bytes(b'{"task_id": "\xff\xfe", "exploit_success": true}\n')
    with pytest.raises(InputError, match=r"checkpoint-1_prefill0\.jsonl:1: not UTF-8"):
        tables.load_evals(tmp_path)


def test_packed_files_are_not_cells_that_were_never_measured(factory: ModuleType, tmp_path: Path) -> None:
    factory.write_rows(tmp_path / "evals" / "checkpoint-1_prefill0.jsonl", [factory.eval_row()])
    (tmp_path / "evals" / "checkpoint-2_prefill0.jsonl.gz").write_bytes(b"")
    with pytest.raises(InputError, match=r"1 row files are packed.*\n.*gunzip"):
        tables.load_evals(tmp_path)


def test_a_task_of_two_types_is_refused(factory: ModuleType, tmp_path: Path) -> None:
    for step, kind in ((1, "hardcoding"), (2, "verifier_bug"), (3, None)):
        rows = [factory.eval_row(exploit_type=kind)]
        factory.write_rows(tmp_path / "evals" / f"checkpoint-{step}_prefill0.jsonl", rows)
    with pytest.raises(InputError, match=r"task 'task_0' is of type 'hardcoding' in some rows and 'verifier_bug' in"):
        tables.count_tasks(tmp_path)


@pytest.mark.parametrize("empty", [False, True])
def test_an_empty_score_folder_is_none(factory: ModuleType, tmp_path: Path, empty: bool) -> None:
    factory.write_rows(tmp_path / "evals" / "checkpoint-1_prefill0.jsonl", [factory.eval_row()])
    if empty:
        (tmp_path / "logprob").mkdir()
    with pytest.raises(InputError, match=r"no rows in logprob/\n.*foreshock analyse"):
        tables.read_table(tmp_path, tables.TableKind.LOGPROB)


def test_lenient_values_that_lose_nothing_are_read(tmp_path: Path) -> None:
    path = tmp_path / "evals" / "checkpoint-1_prefill0.jsonl"
    path.parent.mkdir()
    path.write_bytes(
        b'\xef\xbb\xbf{"task_id": "a", "attempt_idx": 0.0, "exploit_success": 1}\r\n'
        b"\r\n"
        b'{"task_id": "a", "attempt_idx": 1, "exploit_success": 0, "error": {}}'
    )
    frame = tables.load_evals(tmp_path)
    assert list(frame["attempt_idx"]) == [0, 1]
    assert list(frame["exploit_success"]) == [True, False]


def test_an_empty_file_is_a_cell_without_rows(factory: ModuleType, tmp_path: Path) -> None:
    factory.write_rows(tmp_path / "evals" / "checkpoint-1_prefill0.jsonl", [factory.eval_row()])
    factory.write_rows(tmp_path / "evals" / "checkpoint-2_prefill0.jsonl", [])
    report = tables.read_counts(tmp_path).report
    assert [cell.checkpoint for cell in report.empty_cells] == [2.0]


def test_missing_cells_and_ignored_files_are_named(factory: ModuleType, tmp_path: Path) -> None:
    for name in ("checkpoint-1_prefill0.jsonl", "checkpoint-1_prefill5.jsonl", "checkpoint-2_prefill0.jsonl"):
        factory.write_rows(tmp_path / "evals" / name, [factory.eval_row()])
    (tmp_path / "evals" / "notes.txt").write_text("x")
    (tmp_path / "evals" / "checkpoint-1_prefill0.jsonl.samples.jsonl").write_text("not read")
    report = tables.read_counts(tmp_path).report
    assert report.missing_cells == ((2.0, 5),)
    assert report.ignored_files == ("notes.txt",)
    assert any("checkpoint 2 level 5" in line for line in report.lines())


@pytest.mark.parametrize("kind", list(tables.TableKind))
def test_a_directory_without_rows_is_a_clear_error(tmp_path: Path, kind: tables.TableKind) -> None:
    with pytest.raises(InputError, match="no such directory"):
        tables.read_table(tmp_path / "absent", kind)
    with pytest.raises(InputError, match=f"no {kind.value}/ folder"):
        tables.read_table(tmp_path, kind)
    (tmp_path / kind.value).mkdir()
    (tmp_path / kind.value / "readme.txt").write_text("x")
    with pytest.raises(InputError, match=r"found only 'readme.txt'; valid names"):
        tables.read_table(tmp_path, kind)


def test_a_folder_of_files_can_be_named_directly(toy_run: Path) -> None:
    direct = tables.load_logprobs(toy_run / "logprob")
    pd.testing.assert_frame_equal(direct, tables.load_logprobs(toy_run))


@pytest.mark.parametrize(
    "extra",
    [
        {"prefill_logprob_sum": float("nan")},
        {"prefill_logprob_sum": float("-inf")},
        {"prefill_logprob_sum": None},
        {"prefill_logprob_sum": 0.0, "prefill_num_tokens": 0},
        {"prefill_logprob_sum": 0.0, "prefill_applied": False},
    ],
)
def test_a_missing_prefix_is_missing_not_certain(factory: ModuleType, tmp_path: Path, extra: dict[str, object]) -> None:
    rows = [factory.logprob_row("a"), factory.logprob_row("b", **extra)]
    factory.write_rows(tmp_path / "logprob" / "checkpoint-1_prefill10_logprobs.jsonl", rows)
    loaded = tables.read_table(tmp_path, tables.TableKind.LOGPROB)
    assert list(loaded.frame["task_id"]) == ["a"]
    assert loaded.report.nulls == 1


def test_a_probability_above_one_is_refused(factory: ModuleType, tmp_path: Path) -> None:
    rows = [factory.logprob_row("a"), factory.logprob_row("b", 3.5)]
    path = factory.write_rows(tmp_path / "logprob" / "checkpoint-1_prefill10_logprobs.jsonl", rows)
    with pytest.raises(InputError) as caught:
        tables.load_logprobs(tmp_path)
    assert f"{path}:2: prefill_logprob_sum is 3.5; a log-probability is at most 0" in str(caught.value)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    outcomes=st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from([True, False, None, "error"])), min_size=1, max_size=30
    ),
    order=st.randoms(use_true_random=False),
)
def test_counts_do_not_depend_on_row_order(
    factory: ModuleType,
    tmp_path_factory: pytest.TempPathFactory,
    outcomes: list[tuple[str, bool | str | None]],
    order: object,
) -> None:
    rows = [
        factory.eval_row(task, index, None if outcome == "error" else outcome)
        | ({"error": "x"} if outcome == "error" else {})
        for index, (task, outcome) in enumerate(outcomes)
    ]
    shuffled = list(rows)
    order.shuffle(shuffled)
    frames = []
    for version in (rows, shuffled):
        run = tmp_path_factory.mktemp("run") / "run"
        factory.write_rows(run / "evals" / "checkpoint-1_prefill0.jsonl", version)
        frames.append(tables.count_tasks(run))
    pd.testing.assert_frame_equal(frames[0], frames[1])
    assert frames[0]["n"].sum() == sum(outcome in (True, False) for _, outcome in outcomes)
