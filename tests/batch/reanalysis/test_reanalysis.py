"""Existing runs: what is planned for them, what is written, and what is left as it was."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from run_factory import ToyRun, eval_row, write_rows, write_run

from foreshock.batch.reanalysis.run import Request, plan_reanalysis, reanalyse
from foreshock.batch.reanalysis.source import scoring_of
from foreshock.batch.reanalysis.view import LeftOut, make_view, read_ids, tasks_to_drop
from foreshock.batch.running.analyse import AnalysisSettings
from foreshock.errors import InputError
from foreshock.jobs.records.jsonl import read_rows
from foreshock.jobs.records.layout import RunLayout
from foreshock.jobs.records.table_archives import join_tables
from foreshock.jobs.records.table_files import table_bytes, table_names, table_state

pytestmark = pytest.mark.usefixtures("svg_alone")

QUICK = AnalysisSettings(without=frozenset({"rates", "forecast", "emergence"}), all_below=True)
TOY = ToyRun(types=("hardcoding", "verifier_bug", "type_confusion"), checkpoints=(5, 10, 20), levels=(0, 5, 10))


@pytest.fixture
def old_run(tmp_path: Path) -> RunLayout:
    return RunLayout(write_run(tmp_path / "results" / "prefill_sensitivity" / "old", TOY))


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_results_go_where_the_old_tool_put_them_and_nothing_into_the_run(old_run: RunLayout, tmp_path: Path) -> None:
    before = contents(old_run.root)
    request = Request((old_run,), QUICK)
    done = reanalyse(request, plan_reanalysis(request), tmp_path / "out", {"command": "x"}, lambda _: None)
    for name in ("config.yaml", "metadata.json", "status.json", "report.html"):
        assert (done.folder / name).is_file()
    frame = pd.read_csv(done.folder / "trajectory" / "all_exploits" / "trajectory_analysis.csv")
    assert len(frame) == 18 * 3
    summary = json.loads((done.folder / "trajectory" / "intentional_only" / "trajectory_summary.json").read_text())
    assert (summary["n_tasks"], summary["intentional"]["name"]) == (12, "current")
    assert (done.folder / "integrated" / "integration_summary.json").is_file()
    assert json.loads((done.folder / "status.json").read_text())["status"] == "completed"
    assert contents(old_run.root) == before
    with pytest.raises(InputError, match="not empty"):
        reanalyse(request, plan_reanalysis(request), tmp_path / "out", {}, lambda _: None)


@pytest.mark.parametrize("left_out", [frozenset(), frozenset({"hardcoding_0"})])
def test_a_view_of_tables_in_archives_holds_the_same_rows(
    old_run: RunLayout, tmp_path: Path, left_out: frozenset[str]
) -> None:
    large = RunLayout(Path(shutil.copytree(old_run.root, tmp_path / "large")))
    for folder in large.table_folders:
        join_tables(folder, 1)
    (tasks,) = tasks_to_drop([old_run], LeftOut(left_out))
    views = []
    for run in (old_run, large):
        views.append(RunLayout(tmp_path / "views" / run.name))
        for logprobs in (None, [file.path for file in run.logprob_files()][1:]):  # all of a folder, and some of it
            shutil.rmtree(views[-1].root, ignore_errors=True)
            dropped = make_view(run, views[-1], logprobs, tasks)
    small, view = (
        {
            f"{folder.name}/{name}": table_bytes(folder / name)
            for folder in shown.table_folders
            for name in table_names(folder)
        }
        for shown in views
    )
    assert view == small
    assert dropped == (27 if left_out else 0)
    assert not list(views[1].root.rglob("*.jsonl"))


def test_a_view_whose_archives_are_gone_is_no_smaller_run(old_run: RunLayout, tmp_path: Path) -> None:
    join_tables(old_run.evals, 1)
    (archive,) = old_run.evals.glob("*.zip")
    (tmp_path / "evals").mkdir()
    (tmp_path / "evals" / archive.name).symlink_to(archive)
    files = RunLayout(tmp_path).eval_files()
    assert len(files) == 9
    archive.unlink()
    for read in (read_rows, table_state, table_bytes):
        with pytest.raises(InputError, match=r"links to an archive of tables that is gone"):
            read(files[0].path)
    files[1].path.write_text("{}")
    shutil.copytree(tmp_path / "evals", tmp_path / "new" / "evals", symlinks=True)  # nobody has looked into it
    with pytest.raises(InputError, match=r"links to an archive of tables that is gone"):
        RunLayout(tmp_path / "new").eval_files()


def test_tasks_are_left_out_of_every_table(old_run: RunLayout, tmp_path: Path) -> None:
    left_out = LeftOut(frozenset({"hardcoding_0"}), frozenset({"verifier_bug"}))
    view = RunLayout(tmp_path / "view")
    (tasks,) = tasks_to_drop([old_run], left_out)
    assert set(tasks) == {"hardcoding_0", *(f"verifier_bug_{i}" for i in range(6))}
    assert make_view(old_run, view, None, tasks) == 7 * 3 * 3 * 3
    for folder in ("evals", "logprob", "kl", "ref_logprob"):
        for path in (view.root / folder).glob("*.jsonl"):
            assert not {row["task_id"] for row in read_rows(path)} & set(tasks)
    kept = [row for row in read_rows(old_run.eval_file("checkpoint-5", 5)) if row["task_id"] not in tasks]
    assert read_rows(view.eval_file("checkpoint-5", 5)) == kept


@pytest.mark.parametrize(
    ("left_out", "message"),
    [
        (LeftOut(exploit_types=frozenset({"hard"})), "names hard, of which no run has a row"),
        (LeftOut(task_ids=frozenset({"nobody"})), "none of the 1 ids"),
        (LeftOut(exploit_types=frozenset(TOY.types)), "all 18 tasks are left out"),
    ],
)
def test_what_is_left_out_must_be_there_and_something_remain(
    old_run: RunLayout, left_out: LeftOut, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        plan_reanalysis(Request((old_run,), QUICK, left_out=left_out))


def test_ids_are_lines_or_rows(tmp_path: Path) -> None:
    lines, rows = tmp_path / "ids.txt", tmp_path / "ids.jsonl"
    lines.write_text("a\n\nb\n")
    rows.write_text('{"task_id": "a"}\n{"id": "b"}\n')
    assert read_ids(lines) == read_ids(rows) == frozenset("ab")
    reader, writer = os.pipe()  # as `--exclude-ids <(grep ...)` gives it: not a regular file, and read once
    os.write(writer, rows.read_bytes())
    os.close(writer)
    assert read_ids(Path(f"/dev/fd/{reader}")) == frozenset("ab")
    os.close(reader)
    rows.write_text('{"name": "a"}\n')
    with pytest.raises(InputError, match="no task_id"):
        read_ids(rows)


@pytest.mark.parametrize("emptied", ["removed", "empty folder", "empty file"])
def test_an_empty_logprob_folder_is_no_logprob_folder(old_run: RunLayout, emptied: str) -> None:
    shutil.rmtree(old_run.logprob)
    if emptied != "removed":
        old_run.logprob.mkdir()
    if emptied == "empty file":
        old_run.logprob_file("checkpoint-5", 5).touch()
    (item,) = plan_reanalysis(Request((old_run,), QUICK))
    assert len(item.scoring.missing) == 6
    assert "no such checkpoint folder" in str(item.scoring.why_not)
    assert "stay missing" in "\n".join(item.lines())


def test_missing_scores_are_not_put_beside_another_tools(old_run: RunLayout) -> None:
    old_run.logprob_file("checkpoint-5", 5).unlink()
    (item,) = plan_reanalysis(Request((old_run,), QUICK))
    assert not item.scoring.cells
    assert "written by another tool" in str(item.scoring.why_not)
    (again,) = plan_reanalysis(Request((old_run,), QUICK, rescore=True))
    assert len(again.scoring.missing) == 6


def test_scores_are_filled_in_at_the_temperature_of_those_there(old_run: RunLayout, sft_run: Path) -> None:
    path = old_run.logprob_file("checkpoint-5", 5)
    rows = [row | {"template_sha256": "a", "logprob_temperature": 0.7} for row in read_rows(path)]
    for other in old_run.logprob_files():
        write_rows(other.path, rows)
    path.unlink()
    have = [file.cell for file in old_run.logprob_files()]
    assert "not 1" in str(scoring_of(old_run, have, sft_run, 1.0).why_not)
    assert scoring_of(old_run, have, sft_run, None).temperature == 0.7


def test_scores_that_are_missing_are_computed(tmp_path: Path, sft_run: Path) -> None:
    run = RunLayout(tmp_path / "results" / "prefill_sensitivity" / "run")
    for step in (1, 2):
        for level in (0, 2):
            rows = [
                eval_row(f"t{i}", success=i % 2 == 0, prefill_tokens=level, prefill_reasoning="I see" * (level > 0))
                for i in range(4)
            ]
            write_rows(run.eval_file(f"checkpoint-{step}", level), rows)
            write_rows(run.samples_file(f"checkpoint-{step}", level), [row | {"prompt": "Add."} for row in rows])
    run.config.write_text(
        "checkpoint_dir: sft/checkpoints\ncheckpoints: [1, 2]\nprefill_tokens_sweep: 0,2\ntemperature: 0.7\n"
    )
    shutil.copytree(sft_run, tmp_path / "sft")  # the tool's paths are relative to the project around results/
    request = Request((run,), QUICK)
    planned = plan_reanalysis(request)
    assert len(planned[0].scoring.cells) == 2
    done = reanalyse(request, planned, tmp_path / "out", {}, lambda _: None)
    names = [path.name for path in sorted((done.folder / "logprob").iterdir())]
    assert names == [f"checkpoint-{step}_prefill2_logprobs.jsonl" for step in (1, 2)]
    assert {row["logprob_temperature"] for row in read_rows(done.folder / "logprob" / names[0])} == {0.7}
    assert (done.folder / "integrated" / "integration_summary.json").is_file()
    assert any("4 log-probabilities computed at temperature 0.7" in note for note in [*done.notes]) or any(
        "8 log-probabilities computed" in note for note in done.notes
    )
    assert not run.logprob.exists()


def test_labels_become_folders_and_must_be_names(old_run: RunLayout) -> None:
    twice = Request((old_run, old_run), QUICK)
    with pytest.raises(InputError, match="must differ"):
        plan_reanalysis(twice)
    with pytest.raises(InputError, match="cannot name folders"):
        plan_reanalysis(replace(twice, labels=("a/b", "c")))
    assert [item.label for item in plan_reanalysis(replace(twice, labels=("a", "b")))] == ["a", "b"]


def test_a_folder_without_evals_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing to analyse"):
        plan_reanalysis(Request((RunLayout(tmp_path),), QUICK))


@pytest.mark.parametrize("packed", ["checkpoint-5_prefill0.jsonl", "*.jsonl"])
def test_packed_cells_are_not_left_out_in_silence(old_run: RunLayout, packed: str) -> None:
    for path in list(old_run.evals.glob(packed)):
        path.rename(path.with_name(f"{path.name}.gz"))
    with pytest.raises(InputError, match=r"row files are packed[\s\S]*gunzip"):
        plan_reanalysis(Request((old_run,), QUICK))
