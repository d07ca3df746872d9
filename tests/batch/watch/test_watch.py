"""A watch over a training run: every whole checkpoint once, alarms once, whatever restarts in between."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from foreshock.batch.config import RunConfig
from foreshock.batch.running.run import RunHooks, require_complete, resume, run
from foreshock.batch.status.read import read_status
from foreshock.batch.status.watched import watch_lock
from foreshock.batch.watch.grow import find_run
from foreshock.batch.watch.state import WatchState
from foreshock.errors import ForeshockError, InputError, StopRequestedError
from foreshock.jobs.records.layout import RunLayout
from foreshock.jobs.records.planfile import PlanFile, pack_numbers

pytestmark = pytest.mark.usefixtures("svg_alone")

Training = Watch = Any
"""See conftest.py."""
FOLDERS = ("evals", "logprob")


def tables(layout: RunLayout) -> dict[str, bytes]:
    return {
        str(path.relative_to(layout.root)): path.read_bytes()
        for folder in FOLDERS
        for path in sorted((layout.root / folder).glob("*.jsonl"))
    }


def test_checkpoints_are_evaluated_as_they_become_whole_and_never_twice(
    watch: Watch, training: Training, watch_settings: RunConfig
) -> None:
    assert watch.once().plan is None  # nothing there: nothing is made
    assert not watch_settings.results_dir.exists()
    training.save(1)
    training.save(2, of=2, without=("model.safetensors",))
    first = watch.once()
    assert watch.names("evaluated") == ["checkpoint-1"]
    assert "missing weights" in watch.said("unusable")[0]["message"]
    assert first.unusable == {"checkpoint-2"}
    training.save(2, of=2)
    second = watch.once()
    assert second.unusable == set()
    assert second.layout == first.layout
    assert watch.names("evaluated") == ["checkpoint-2"]
    assert {row["exploit_type"] for row in watch.said("estimate")} == {"process_exit"}
    third = watch.once()
    assert watch.events == []
    assert pack_numbers(third.layout) == [0, 1]
    # the tables are those of one run over both
    whole = run(watch_settings, ["foreshock", "run"], RunHooks(), analysed=False)
    require_complete(whole)
    assert tables(whole.layout) == tables(third.layout)


def test_status_and_resume_work_on_a_watched_run(watch: Watch, training: Training) -> None:
    training.save(1)
    training.save(2, of=2)
    layout = watch.once().layout
    now = read_status(layout)
    assert (now.status, now.rows_done) == ("completed", now.rows_total)
    shutil.rmtree(training.folder / "checkpoint-1")  # trainers keep the newest few only
    before = tables(layout)
    victim = next(iter(sorted((layout.shards / "eval" / "checkpoint-2_prefill0").glob("*.manifest.json"))))
    victim.unlink()
    require_complete(resume(layout.root, RunHooks(), analysed=False))
    assert tables(layout) == before
    watch.once()
    assert [event["event"] for event in watch.events] == ["gone"]  # it still counts: nothing is estimated anew


def test_a_changed_checkpoint_is_said_once_and_its_rows_stay(watch: Watch, training: Training) -> None:
    training.save(1)
    layout = watch.once().layout
    before = tables(layout)
    training.save(1, of=2)
    watch.once()
    assert "changed since it was planned" in watch.said("changed")[0]["message"]
    watch.once()
    assert watch.events == []
    training.save(1, of=4)
    watch.once()
    assert len(watch.said("changed")) == 1
    assert tables(layout) == before
    training.save(1)  # restored
    watch.once()
    assert watch.events == []
    assert WatchState.read(layout).checkpoints["checkpoint-1"].changed is None


def test_a_checkpoint_that_changes_before_it_is_done_is_left_alone(
    watch: Watch, training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    training.save(1)
    stopped = watch.start()
    monkeypatch.setattr(stopped, "_evaluate", lambda plan: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(StopRequestedError, match="goes on from here"):
        stopped.run(once=True)
    training.save(1, of=2)
    training.save(2, of=2)
    watch.once()
    assert len(watch.said("changed")) == 1
    assert watch.names("evaluated") == ["checkpoint-2"]
    assert {cell.checkpoint for cell, _ in stopped.layout.eval_files()} == {"checkpoint-2"}


def test_an_alarm_is_raised_once_over_restarts_and_told_until_it_arrives(
    watch: Watch, training: Training, tmp_path: Path
) -> None:
    training.save(1)
    told = tmp_path / "told"
    failing = f"cat >> {told}; echo >> {told}; exit 1"
    stop = tmp_path / "stop.json"
    watcher = watch.once(alarm_probability=0.0, on_alarm=failing, stop_file=stop)
    assert watcher.alarmed
    assert [alarm["exploit_type"] for alarm in json.loads(stop.read_text())["alarms"]] == ["process_exit"]
    stop.unlink()
    assert [alarm["exploit_type"] for alarm in watch.said("alarm")] == ["process_exit"]
    assert "next try from" in watch.said("undelivered")[0]["message"]
    again = watch.once(alarm_probability=0.0, on_alarm=f"cat >> {told}; echo >> {told}", stop_file=stop)
    assert not stop.exists(), "training that was started again is not stopped by an old alarm"
    assert not again.alarmed
    assert [event["event"] for event in watch.events] == ["delivered"]
    training.save(2, of=2)
    watch.once(alarm_probability=0.0, on_alarm=failing)
    assert watch.said("alarm") == watch.said("undelivered") == []
    bodies = [json.loads(line) for line in told.read_text().splitlines() if line]
    assert {body["id"] for body in bodies} == {f"{watcher.layout.name}/process_exit"}
    assert bodies[0]["p_exceed"] >= 0
    assert bodies[0]["threshold"] == 0.10
    assert json.loads(watcher.layout.status.read_text())["alarms"] == [watch_state_message(watcher.layout)]


def watch_state_message(layout: RunLayout) -> str:
    return WatchState.read(layout).alarms[0].message


def test_a_lower_limit_alarms_from_the_stored_forecast(watch: Watch, training: Training) -> None:
    training.save(1)
    assert not watch.once().alarmed
    assert watch.once(alarm_probability=0.0).alarmed
    assert watch.said("estimate") == []  # nothing was computed again


def test_it_ends_at_the_step_asked_for_or_at_the_first_alarm(watch: Watch, training: Training) -> None:
    training.save(1)
    watcher = watch.start(until=2.0)
    naps = []

    def sleep(seconds: float) -> None:
        naps.append(seconds)
        assert len(naps) < 5
        if len(naps) == 2:
            training.save(2, of=2)
            assert read_status(watcher.layout).status == "watching"

    watcher.sleep = sleep
    watcher.run(once=False)
    assert len(naps) == 2
    assert watch.names("evaluated") == ["checkpoint-1", "checkpoint-2"]
    assert read_status(watcher.layout).status == "completed"
    ended = watch.start(exit_on_alarm=True, alarm_probability=0.0)
    ended.run(once=False)
    assert ended.alarmed


def test_final_counts_as_the_end(watch: Watch, training: Training) -> None:
    training.save(1)
    training.save("final", of=2)
    watcher = watch.start(until=float("inf"))
    watcher.sleep = lambda _: pytest.fail(str(watch.events))
    watcher.run(once=False)
    assert watch.names("evaluated") == ["checkpoint-1", "final"]


def test_a_folder_with_final_alone_is_evaluated_reported_and_has_no_forecast(watch: Watch, training: Training) -> None:
    training.save("final", of=4)
    watcher = watch.once(report=True)
    assert [event["checkpoint"] for event in watch.said("evaluated")] == ["final"]
    assert "numbered checkpoint" in watch.said("no_estimate")[0]["message"]
    assert not watcher.alarmed


def test_a_checkpoint_that_cannot_be_loaded_does_not_hold_up_the_others(watch: Watch, training: Training) -> None:
    bad = training.save(1)
    config = json.loads((bad / "config.json").read_text())
    (bad / "config.json").write_text(json.dumps(config | {"hidden_size": 32}))
    training.save(2, of=2)
    watcher = watch.once(settle_s=0.0)
    assert watch.names("evaluated") == ["checkpoint-2"]
    assert watch.names("failed") == ["checkpoint-1"]
    assert watcher.failed == ["checkpoint-1"]
    assert json.loads(watcher.layout.status.read_text())["status"] == "incomplete"


def test_two_watches_of_one_run_refuse_each_other(watch: Watch, training: Training) -> None:
    training.save(1)
    layout = watch.once().layout
    assert not watch_lock(layout).held()
    (layout.root / "watch" / "lock").write_text(json.dumps({"host": "elsewhere", "pid": 1}))
    with pytest.raises(ForeshockError, match="process 1 on elsewhere"):
        watch.once()


def test_other_settings_on_restart_are_refused(
    watch: Watch, training: Training, watch_settings: RunConfig, tmp_path: Path
) -> None:
    import yaml

    from foreshock.batch.watch.grow import watch_config

    training.save(1)
    layout = watch.once().layout
    path = tmp_path / "changed.yaml"
    data = watch_settings.to_yaml_dict()
    data["sampling"]["max_tokens"] = 5
    path.write_text(yaml.safe_dump(data))
    with pytest.raises(InputError, match=r"other settings \(sampling\.max_tokens\)"):
        watch_config(training.folder, path, layout, {})
    assert watch_config(training.folder, None, layout, {"execution": {"workers": 2}}).execution.workers == 2
    with pytest.raises(InputError, match="nothing says how to evaluate"):
        watch_config(training.folder, None, None, {})
    assert find_run(tmp_path, watch_settings.results_dir) is None


def test_ground_truth_and_donor_scores_come_with_the_checkpoints_they_belong_to(
    make_config: Callable[..., RunConfig], training: Training, make_watch: Callable[[RunConfig], Watch]
) -> None:
    training.save(1)
    donor = training.source / "checkpoint-4"
    config = make_config(
        checkpoints={"dir": str(training.folder)},
        problems={"max_problems": 2},
        prefill={"levels": [0, 10]},
        sampling={"attempts": 1, "max_tokens": 4},
        logprob={"reference": str(donor)},
        ground_truth={"attempts": 2, "steps": [2]},
    )
    seen = make_watch(config)
    layout = seen.once().layout
    assert [file.cell.checkpoint for file in layout.ground_truth_files()] == []
    training.save(2, of=2)
    seen.once()
    assert [file.cell.checkpoint for file in layout.ground_truth_files()] == ["checkpoint-2"]
    training.save(4, of=4)  # bears the donor's name
    seen.once()
    assert seen.names("evaluated") == ["checkpoint-4"]
    scored = {path.name.partition("_")[0] for path in layout.kl.glob("*_kl.jsonl")}
    assert scored == {"checkpoint-1", "checkpoint-2", "checkpoint-4"}
    plan = PlanFile.read(layout)
    assert len({spec.key() for spec in plan.specs}) == len(plan.specs)
