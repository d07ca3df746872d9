"""A whole run: the rows of the plan, the files of the specification, and the same tables however they are made."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from whole_runs import FINAL_FOLDERS, full_config, tables

from foreshock.analysis.aggregate import aggregate
from foreshock.batch.config import RunConfig
from foreshock.batch.packing.learned import COSTS_FILE
from foreshock.batch.packing.measured import resources
from foreshock.batch.planning.make_plan import make_plan
from foreshock.batch.running.analyse import analyse, settings_of
from foreshock.batch.running.calibrate import calibrate
from foreshock.batch.running.execute import execute
from foreshock.batch.running.run import RunHooks, RunResult, create_run, require_complete, resume, run
from foreshock.batch.site import resolve_site
from foreshock.batch.status.read import read_status
from foreshock.errors import ForeshockError, InputError
from foreshock.jobs.honest import NO_SAMPLE
from foreshock.jobs.records.behaviour import behaviour_of_run
from foreshock.jobs.records.bundling import bundle_run
from foreshock.jobs.records.layout import RunLayout, checkpoint_files
from foreshock.jobs.records.planfile import PlanFile, pack_numbers
from foreshock.jobs.records.rows import EVAL_KEYS, EXPLOIT_LOGPROB_KEYS, KL_KEYS, LOGPROB_KEYS, SAMPLE_KEYS

pytestmark = pytest.mark.early

MakeConfig = Callable[..., RunConfig]


def rows_only(config: RunConfig) -> RunConfig:
    """The same run without analyses and report."""
    return config.model_copy(update={"analysis": config.analysis.model_copy(update={"enabled": False})})


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def finished_and_said(
    tmp_path_factory: pytest.TempPathFactory, sft_run: Path, traces: Path
) -> tuple[RunResult, list[str]]:
    """An uninterrupted run with everything switched on, and what it said meanwhile."""
    config = full_config(tmp_path_factory.mktemp("finished"), sft_run, traces, analysed=True)
    said: list[str] = []
    result = run(config, ["foreshock", "run"], RunHooks(say=said.append))
    require_complete(result)
    return result, said


@pytest.fixture(scope="module")
def finished(finished_and_said: tuple[RunResult, list[str]]) -> RunLayout:
    return finished_and_said[0].layout


def test_rows_are_the_product_of_the_plan_minus_the_skipped(finished: RunLayout) -> None:
    problems, with_trace, attempts = 10, 9, 2
    for file in finished.eval_files():
        expected = (problems if file.cell.level == 0 else with_trace) * attempts
        assert len(rows_of(file.path)) == expected
    assert len(finished.eval_files()) == 3 * 3
    assert [len(rows_of(file.path)) for file in finished.logprob_files()] == [with_trace * attempts] * 6
    assert [len(rows_of(file.path)) for file in finished.ground_truth_files()] == [problems * 3]
    for _, path in checkpoint_files(finished.exploit_logprob):
        rows = rows_of(path)
        assert all(tuple(row) == EXPLOIT_LOGPROB_KEYS for row in rows)
        assert [row["reasoning_before"] for row in rows] == ["empty"] * problems + ["honest"] * problems
        unscored = [(row["task_id"], row["not_scored"]) for row in rows if row["exploit_logprob_sum"] is None]
        assert unscored == [(rows[-1]["task_id"], NO_SAMPLE)]  # the one problem without a trace
        assert {row["honest_source"] for row in rows[problems:-1]} == {f"traces.jsonl:{3 * n + 3}" for n in range(9)}
    status = json.loads(finished.status.read_text())
    assert status["status"] == "completed"
    assert status["rows"]["n_skipped"] == 6


def test_rows_have_the_keys_of_the_specification(finished: RunLayout) -> None:
    for file in finished.eval_files():
        assert all(tuple(row) == EVAL_KEYS for row in rows_of(file.path))
        samples = rows_of(finished.samples_file(file.cell.checkpoint, file.cell.level))
        assert all(tuple(row) == SAMPLE_KEYS for row in samples)
        assert [{k: row[k] for k in EVAL_KEYS} for row in samples] == rows_of(file.path)
    assert all(tuple(row) == LOGPROB_KEYS for file in finished.logprob_files() for row in rows_of(file.path))
    assert all(tuple(row) == KL_KEYS for path in finished.kl.glob("*_kl.jsonl") for row in rows_of(path))


def test_prefills_are_cut_at_words_and_kept_apart_by_attempt(finished: RunLayout) -> None:
    rows = rows_of(finished.eval_file("checkpoint-1", 10))
    assert {row["prefill_tokens"] for row in rows} == {10}
    assert {row["prefill_reasoning"] for row in rows if row["attempt_idx"] == 1} == {
        "I read the task 1 and look at the checker."
    }
    assert all(row["reasoning"].startswith(row["prefill_reasoning"]) for row in rows)
    assert all(row["prefill_reasoning"] == "" for row in rows_of(finished.eval_file("checkpoint-1", 0)))


def test_kl_is_the_difference_of_the_two_scores(finished: RunLayout) -> None:
    files = sorted(finished.kl.glob("*_kl.jsonl"))
    assert len(files) == 3 * 2
    for path in files:
        for row in rows_of(path):
            assert row["kl_divergence"] == pytest.approx(row["ref_logprob_sum"] - row["eval_logprob_sum"], abs=1e-9)
            if path.name.startswith("checkpoint-4_"):  # the donor itself
                assert abs(row["kl_divergence"]) < 1e-4


def test_the_report_is_made_where_it_is_wanted(finished: RunLayout, tmp_path: Path, make_config: MakeConfig) -> None:
    assert finished.report.is_file()
    tables_alone = run(make_config(analysis={"enabled": False}), ["foreshock"], RunHooks())
    assert tables_alone.analysis is None
    assert not tables_alone.layout.report.exists()


def test_no_temporary_file_and_no_part_is_left(finished: RunLayout) -> None:
    assert not list(finished.root.rglob("*.tmp"))
    assert not list(finished.root.rglob("*.parts"))


def test_tables_written_side_by_side_are_the_same(
    finished: RunLayout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = RunLayout(tmp_path / finished.name)
    shutil.copytree(finished.root, copy.root)
    one_by_one = aggregate(copy)
    before = tables(copy.root)
    for folder in (copy.evals, copy.logprob, copy.ref_logprob, copy.kl):
        shutil.rmtree(folder)
    monkeypatch.setattr("foreshock.analysis.aggregate.write.SIDE_BY_SIDE_ROWS", 0)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})
    named: list[str] = []
    assert aggregate(copy, named.append) == one_by_one
    assert tables(copy.root) == before
    assert len(named) == len(set(named)) > 1


def test_tables_given_up_half_way_leave_no_temporary_file(
    finished: RunLayout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = RunLayout(tmp_path / finished.name)
    shutil.copytree(finished.root, copy.root)
    monkeypatch.setattr("foreshock.analysis.aggregate.write.SIDE_BY_SIDE_ROWS", 0)

    def interrupt(_: str) -> None:
        half = copy.evals / f".checkpoint-1_prefill0.jsonl.{socket.gethostname()}-{_ended_process()}.tmp"
        half.write_text("half a li")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        aggregate(copy, interrupt)
    assert not list(copy.root.rglob("*.tmp"))
    aggregate(copy)
    assert tables(copy.root) == tables(finished.root)


def _ended_process() -> int:
    with subprocess.Popen(["true"]) as process:
        return process.pid


def test_analyses_made_side_by_side_are_the_same(
    finished_and_said: tuple[RunResult, list[str]],
    tmp_path: Path,
    sft_run: Path,
    traces: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def made(layout: RunLayout) -> dict[str, bytes]:
        files = [path for path in layout.analysis.rglob("*") if path.is_file()]
        return {str(path.relative_to(layout.analysis)): path.read_bytes() for path in files}

    one_by_one, said = finished_and_said
    assert one_by_one.analysis is not None
    assert not any(line.startswith("meanwhile") for line in said)
    copy = RunLayout(tmp_path / one_by_one.layout.name)
    shutil.copytree(one_by_one.layout.root, copy.root, ignore=shutil.ignore_patterns("analysis"))
    monkeypatch.setattr("foreshock.batch.running.analyse.SIDE_BY_SIDE_BYTES", 0)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})
    config = full_config(tmp_path, sft_run, traces, analysed=True)
    said = []
    done = analyse([copy], settings_of(config), copy.analysis, copy.report, said.append)
    assert made(copy) == made(one_by_one.layout)
    assert done.notes == one_by_one.analysis.notes
    assert "rates.csv" in made(copy)
    assert said[0].startswith("meanwhile: how the checkpoints behave, estimating unprompted rates")


def test_another_verifier_than_the_planned_one_adds_no_verdict(finished: RunLayout, tmp_path: Path) -> None:
    copy = tmp_path / finished.name
    shutil.copytree(finished.root, copy)
    layout = RunLayout(copy)
    plan = PlanFile.read(layout)
    foreign = tuple(replace(spec, verifier=spec.verifier and f"builtin:0:{spec.verifier}") for spec in plan.specs)
    replace(plan, specs=foreign).write(layout)  # other keys, so none of its shards is there
    with pytest.raises(InputError, match=r"the verifier here is builtin:\d+; the run was planned with builtin:0:"):
        resume(copy, RunHooks(), rows_only)


def test_a_finished_run_resumes_to_itself(finished: RunLayout, tmp_path: Path) -> None:
    copy = tmp_path / finished.name
    shutil.copytree(finished.root, copy)
    before = tables(copy)
    packs = sorted(path.name for path in (copy / "packs").iterdir())
    require_complete(resume(copy, RunHooks(), rows_only))
    assert tables(copy) == before
    assert sorted(path.name for path in (copy / "packs").iterdir()) == packs


@pytest.mark.parametrize(("batch_size", "bundle_from"), [(1, 2000), (5, 1), (64, 2000)])
def test_batch_size_sharding_and_bundles_change_no_row(
    finished: RunLayout, tmp_path: Path, sft_run: Path, traces: Path, batch_size: int, bundle_from: int
) -> None:
    config = full_config(
        tmp_path, sft_run, traces, batch_size=batch_size, shard_tasks=3 * batch_size, bundle_from=bundle_from
    )
    layout = run(config, ["foreshock", "run"], RunHooks()).layout
    assert tables(layout.root) == tables(finished.root)
    assert layout.bundles.is_dir() == (bundle_from == 1) != any(layout.shards.rglob("*.manifest.json"))
    assert bool(list(layout.evals.glob("*.zip"))) == (bundle_from == 1) != any(layout.evals.glob("*.jsonl"))


def test_a_run_whose_shards_are_bundled_says_the_same_of_itself(finished: RunLayout, tmp_path: Path) -> None:
    copy = RunLayout(tmp_path / finished.name)
    shutil.copytree(finished.root, copy.root)
    packs, before, plan = pack_numbers(copy), read_status(copy), PlanFile.read(copy)
    costs = (copy.root / COSTS_FILE).read_bytes()
    bundle_run(copy, plan.specs)
    assert not list(copy.shards.rglob("*.manifest.json"))
    assert read_status(copy) == before
    for folder in FINAL_FOLDERS:
        shutil.rmtree(copy.root / folder)
    assert behaviour_of_run(copy, plan) == behaviour_of_run(finished, plan)
    require_complete(resume(copy.root, RunHooks(), rows_only))
    assert tables(copy.root) == tables(finished.root)
    assert pack_numbers(copy) == packs
    assert (copy.root / COSTS_FILE).read_bytes() == costs


@pytest.mark.parametrize("damage", ["shard", "manifest", "evals", "part_left"])
def test_whatever_is_damaged_is_made_again(finished: RunLayout, tmp_path: Path, damage: str) -> None:
    copy = RunLayout(tmp_path / finished.name)
    shutil.copytree(finished.root, copy.root)
    victims = sorted(copy.shards.rglob("*.manifest.json"))
    match damage:
        case "shard":
            victim = next(p for p in sorted(copy.shards.rglob("*.jsonl")))
            victim.write_bytes(victim.read_bytes()[:-30])
        case "manifest":
            victims[0].unlink()
            victims[-1].write_text("{")
        case "evals":
            shutil.rmtree(copy.evals)
        case "part_left":
            folder = victims[0].with_name(victims[0].name.replace(".manifest.json", ".parts"))
            folder.mkdir()
            (folder / "00000-h-1.jsonl").write_text("half a li")
    require_complete(resume(copy.root, RunHooks(), rows_only))
    assert tables(copy.root) == tables(finished.root)
    assert not list(copy.root.rglob("*.parts"))


def test_changed_weights_are_refused_on_resume(
    finished: RunLayout, tmp_path: Path, sft_run: Path, traces: Path
) -> None:
    moved = tmp_path / "sft"
    shutil.copytree(sft_run, moved)
    config = full_config(tmp_path, moved, traces)
    layout = create_run(config, make_plan(config), ["foreshock"])
    weights = moved / "checkpoints" / "checkpoint-2" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(InputError, match="the model has changed since the run was planned"):
        resume(layout.root, RunHooks())
    shutil.rmtree(weights.parent)
    with pytest.raises(InputError, match="the checkpoint of this run is gone"):
        resume(layout.root, RunHooks())


def test_a_calibration_measures_what_plans_then_say(make_config: MakeConfig) -> None:
    config = make_config(sampling={"attempts": 5}, problems={"max_problems": 4})
    runs = config.results_dir / "prefill_sensitivity"
    before = resources(resolve_site(config), specs=make_plan(config).file.specs, runs=runs)
    folder = calibrate(config, ["foreshock"], RunHooks(), print)
    layout = RunLayout(folder)
    assert PlanFile.read(layout).n_attempts == 1
    assert {file.cell.checkpoint for file in layout.eval_files()} == {"checkpoint-1"}
    assert not runs.exists(), "a calibration is no run among others"
    after = resources(resolve_site(config), specs=make_plan(config).file.specs, runs=runs)
    assert (before.source, after.source) == ("assumed", f"learned from {folder.name} (transformers on cpu)")
    assert after.cost != before.cost


def test_level_zero_alone_one_checkpoint_one_task(make_config: MakeConfig) -> None:
    config = make_config(
        checkpoints={"steps": [2]},
        problems={"max_problems": 1},
        prefill={"levels": [0], "source": None},
        sampling={"attempts": 1},
    )
    result = run(config, ["foreshock"], RunHooks())
    require_complete(result)
    assert result.aggregate is not None
    assert (result.aggregate.n_eval, result.aggregate.n_logprob) == (1, 0)


def test_a_source_of_other_problems_is_refused(make_config: MakeConfig, tmp_path: Path) -> None:
    other = tmp_path / "other.jsonl"
    other.write_text('{"task_id": "elsewhere", "reasoning": "a b", "exploit_success": true}\n')
    with pytest.raises(InputError, match="none of its 1 tasks is among the run's 10 problems"):
        make_plan(make_config(prefill={"source": str(other)}))


def test_a_checkpoint_that_breaks_does_not_stop_the_others(
    make_config: MakeConfig, sft_run: Path, tmp_path: Path
) -> None:
    moved = tmp_path / "sft"
    shutil.copytree(sft_run, moved)
    config = make_config(checkpoints={"dir": str(moved / "checkpoints")}, execution={"heal": 0})
    plan = make_plan(config)
    layout = create_run(config, plan, ["foreshock"])
    (moved / "checkpoints" / "checkpoint-2" / "model.safetensors").write_bytes(b"cut short")
    outcome = execute(layout, plan.file, resolve_site(config))
    assert {spec.checkpoint.name for spec in outcome.missing} == {"checkpoint-2"}
    with pytest.raises(ForeshockError, match=r"checkpoint-2[\s\S]*foreshock resume"):
        require_complete(RunResult(layout, outcome))
    report = aggregate(layout)
    assert {item["checkpoint"] for item in report.missing} == {"checkpoint-2"}
    assert {file.cell.checkpoint for file in layout.eval_files()} == {"checkpoint-1", "checkpoint-4"}
