"""`foreshock watch` as a user, cron, a scheduler and a power cut see it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from foreshock.batch.cli.app import app
from foreshock.batch.config import RunConfig
from foreshock.batch.running.run import RunHooks, run
from foreshock.errors import DiskFullError, InputError
from foreshock.jobs.records.layout import ResultsLayout, RunLayout
from foreshock.jobs.records.spec import Checkpoint

pytestmark = [pytest.mark.early, pytest.mark.usefixtures("svg_alone")]

Training = Any
"""See conftest.py."""


@pytest.fixture
def config_file(tmp_path: Path, watch_settings: RunConfig) -> Path:
    path = tmp_path / "watch.yaml"
    data = watch_settings.to_yaml_dict()
    del data["checkpoints"]  # the folder is given on the command line
    path.write_text(yaml.safe_dump(data))
    return path


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["watch", *(str(argument) for argument in arguments)])


def test_cron_gets_json_lines_a_report_and_exit_code_3_once(
    config_file: Path, training: Training, tmp_path: Path
) -> None:
    once = (training.folder, "--config", config_file, "--once", "--json", "--alarm-probability", 0)
    assert invoke(*once).exit_code == 0  # nothing there yet
    training.save(1)
    webhook = "http://127.0.0.1:9/SECRET"  # nobody listens on discard
    result = invoke(*once, "--webhook", webhook)
    assert result.exit_code == 3
    events = [json.loads(line) for line in result.stdout.splitlines()]
    kinds = [event["event"] for event in events]
    assert [k for k in kinds if k != "estimate"] == ["run", "planned", "evaluated", "alarm", "undelivered", "report"]
    layout = RunLayout(Path(events[0]["run_dir"]))
    assert layout.report.is_file()
    assert not [path for path in layout.root.rglob("*") if path.is_file() and b"SECRET" in path.read_bytes()]
    assert invoke(*once).exit_code == 0  # told already


def test_an_alarm_ends_with_its_exit_code_whatever_fails_after_it(
    config_file: Path, training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next call would not raise it again, and who reads exit codes would never hear of it."""

    def full(*given: object) -> None:
        raise DiskFullError("report.html", OSError(28, "No space left on device"))

    monkeypatch.setattr("foreshock.batch.watch.loop.finish", full)
    training.save(1)
    result = invoke(training.folder, "--config", config_file, "--once", "--alarm-probability", 0)
    assert result.exit_code == 3
    assert "No space left" in result.output


def test_what_is_given_wrongly_is_said_before_any_checkpoint_is_there(
    config_file: Path, training: Training, tmp_path: Path
) -> None:
    def said(*arguments: object) -> str:
        result = invoke(*arguments)
        assert isinstance(result.exception, InputError), result.output
        return str(result.exception)

    assert "no such folder to watch" in said(tmp_path / "absent")
    assert "--config CONFIG.yaml" in said(training.folder, "--results-dir", tmp_path / "none")
    assert "'soon' is not a step" in said(training.folder, "--config", config_file, "--until-step", "soon")
    assert "not a URL" in said(training.folder, "--config", config_file, "--webhook", "nowhere")
    data = yaml.safe_load(config_file.read_text())
    (tmp_path / "bad.yaml").write_text(
        yaml.safe_dump(data | {"prefill": {**data["prefill"], "source": "absent.jsonl"}})
    )
    assert "absent.jsonl" in said(training.folder, "--config", tmp_path / "bad.yaml", "--once")


def start(training: Training, config_file: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "foreshock", "watch", str(training.folder), "--config", str(config_file)]
    command += ["--json", "--poll-seconds", "0.2", "--no-report", "--until-step", "2"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ))


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)


def test_terminated_then_killed_it_goes_on_and_the_tables_are_those_of_one_run(
    config_file: Path, training: Training, watch_settings: RunConfig
) -> None:
    training.save(1)
    results = ResultsLayout(watch_settings.results_dir)
    terminated = start(training, config_file)
    assert terminated.stdout is not None
    for line in terminated.stdout:
        event = json.loads(line)["event"]
        assert event != "failed", line  # it would be tried again for ever
        if event == "estimate":
            break
    terminated.send_signal(signal.SIGTERM)
    _, said = terminated.communicate()
    assert terminated.returncode == 130
    assert "goes on from here" in said
    training.save(2, of=2)
    killed = start(training, config_file)
    wait_for(lambda: any(results.root.rglob("checkpoint-2*/*")), killed)
    killed.kill()
    killed.communicate()
    last = invoke(training.folder, "--config", config_file, "--once", "--json", "--no-report")
    assert last.exit_code == 0, last.output
    events = [json.loads(line)["event"] for line in last.stdout.splitlines()]
    assert events[0] in ("evaluated", "estimate")  # planned already
    (layout,) = results.runs()
    whole = run(watch_settings, ["foreshock", "run"], RunHooks(), analysed=False).layout
    for file in whole.eval_files():
        assert file.path.read_bytes() == (layout.evals / file.path.name).read_bytes()
    assert len(whole.eval_files()) == len(layout.eval_files()) == 4


def test_a_folder_that_can_never_give_a_checkpoint_is_an_error(config_file: Path, tmp_path: Path) -> None:
    watched = tmp_path / "verl"
    once = (watched, "--config", config_file, "--once", "--settle-seconds", 0.1)
    (watched / "weights-000100").mkdir(parents=True)
    assert invoke(*once).exit_code == 0  # a folder of anything; training may begin yet
    (watched / "ckpt-100").mkdir()
    result = invoke(*once)
    assert isinstance(result.exception, InputError)
    assert "but these look like some: ckpt-100" in str(result.exception)
    (watched / "ckpt-100").rmdir()
    shards = watched / "global_step_100" / "actor"
    shards.mkdir(parents=True)
    (shards / "model_world_size_2_rank_0.pt").write_bytes(b"x")
    result = invoke(*once)
    assert isinstance(result.exception, InputError)
    assert "verl.model_merger merge --backend fsdp" in str(result.exception)


def test_steps_of_adapters_are_watched_evaluated_and_alarmed(
    config_file: Path, sft_run: Path, make_adapter: Callable[..., Checkpoint], tmp_path: Path
) -> None:
    base = Checkpoint("base", 1, sft_run / "checkpoints" / "checkpoint-1")
    watched = tmp_path / "rl" / "checkpoints"
    for step in (25, 50):
        shutil.copytree(make_adapter(base, step).path, watched / f"step-{step}")
    settle = ("--settle-seconds", 0)
    result = invoke(watched, "--config", config_file, "--once", "--json", "--alarm-probability", 0, *settle)
    assert result.exit_code == 3, result.output
    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert [e["checkpoint"] for e in events if e["event"] == "evaluated"] == ["checkpoint-25", "checkpoint-50"]
    assert any(e["event"] == "alarm" for e in events)
