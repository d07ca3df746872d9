"""The trainer's callback: one look at a time after saves, and training that ends at an alarm."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from foreshock.callback import LOG_FILE, STOP_FILE, WatchCallback

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


@pytest.fixture
def looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In place of `python -m foreshock`, a script that notes its arguments; it ends when `go` is there."""
    script = tmp_path / "look"
    script.write_text(f'#!/bin/sh\necho "$@"\nwhile [ ! -e {tmp_path}/go ]; do sleep 0.02; done\n')
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    return tmp_path / "go"


def _waited(callback: WatchCallback) -> None:
    assert isinstance(callback._look, subprocess.Popen)
    assert callback._look.wait(10) == 0


def test_one_look_at_a_time_and_the_alarm_ends_training(tmp_path: Path, looks: Path) -> None:
    config, output = tmp_path / "watch.yaml", tmp_path / "output"
    config.write_text("{}")
    output.mkdir()
    args, state = SimpleNamespace(output_dir=str(output)), SimpleNamespace(is_world_process_zero=True)
    control = SimpleNamespace(should_training_stop=False)
    callback = WatchCallback(config, options=["--threshold", "0.2"])
    callback.on_save(args, state, control)
    callback.on_save(args, state, control)
    time.sleep(0.1)
    assert (output / LOG_FILE).read_text().splitlines() == [
        f"-m foreshock watch {output} --config {config} --once --stop-file {output / STOP_FILE} --threshold 0.2"
    ]
    assert not control.should_training_stop
    (output / STOP_FILE).write_text(json.dumps({"alarms": []}))
    looks.touch()
    _waited(callback)
    callback.on_log(args, state, control)
    assert control.should_training_stop
    callback.on_train_end(args, state, control)
    _waited(callback)
    assert len((output / LOG_FILE).read_text().splitlines()) == 2


def test_the_last_look_comes_after_the_one_at_work_and_failures_and_stops_are_said(
    tmp_path: Path, looks: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = tmp_path / "watch.yaml"
    config.write_text("{}")
    args, state = SimpleNamespace(output_dir=str(tmp_path)), SimpleNamespace(is_world_process_zero=True)
    control, callback = SimpleNamespace(should_training_stop=False), WatchCallback(config)
    callback.on_save(args, state, control)
    first = callback._look
    callback.on_train_end(args, state, control)
    time.sleep(0.2)
    assert first is not None
    assert len((tmp_path / LOG_FILE).read_text().splitlines()) == 1, "the last one waits for the one at work"
    looks.touch()
    assert first.wait(10) == 0
    _waited(callback)
    assert len((tmp_path / LOG_FILE).read_text().splitlines()) == 2
    (tmp_path / "look").write_text("#!/bin/sh\nexit 2\n")
    (tmp_path / STOP_FILE).touch()
    for _ in range(3):
        callback.on_save(args, state, control)
        assert callback._look is not None
        callback._look.wait(10)
    said = [record.message for record in caplog.records]
    assert [line.split(";")[0].split(" in /")[0] for line in said] == [
        "training ends at the alarm",
        "a look of foreshock watch ended with exit code 2",
    ]


def test_other_processes_start_no_look_and_a_missing_configuration_is_said(tmp_path: Path) -> None:
    (tmp_path / "watch.yaml").write_text("{}")
    callback = WatchCallback(tmp_path / "watch.yaml", stop=False)
    (tmp_path / STOP_FILE).touch()
    control = SimpleNamespace(should_training_stop=False)
    callback.on_save(SimpleNamespace(output_dir=str(tmp_path)), SimpleNamespace(is_world_process_zero=False), control)
    assert callback._look is None
    assert not control.should_training_stop
    with pytest.raises(FileNotFoundError, match=r"nowhere\.yaml"):
        WatchCallback(tmp_path / "nowhere.yaml")
