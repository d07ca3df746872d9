"""Commands as jobs: what is submitted, once; what the job does. Slurm's programs are stand-ins here."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from standin_slurm import Cluster, stand_in
from typer.testing import CliRunner

from foreshock.batch.as_jobs.work import run_command
from foreshock.batch.cli.app import app
from foreshock.batch.config import RunConfig
from foreshock.batch.executors.command_job import CommandJob
from foreshock.batch.executors.slurm_command import command_report, submit_command
from foreshock.errors import InputError
from foreshock.jobs.progress import TaskProgress
from foreshock.jobs.worker import EXIT_COMPLETE, EXIT_FAILED, EXIT_STOPPED
from foreshock.slurm.states import JobState

TRAINING = ["--epochs", "2", "--learning-rate", "0.01", "--rank", "4", "--stop-on", "loss", "--held-out", "0.3"]


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    return stand_in(tmp_path, monkeypatch)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    path = tmp_path / "site.yaml"
    path.write_text(yaml.safe_dump({"partition": "low", "account": "lab", "cpus_per_task": 1}))
    return path


def invoke(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments))


def test_a_donor_is_one_job_submitted_once_that_goes_on_where_it_was_stopped(
    make_config: Callable[..., RunConfig], tmp_path: Path, cluster: Cluster, site: Path
) -> None:
    pytest.importorskip("peft", reason="LoRA donors: pip install 'foreshock[train]'")
    config = make_config(
        prefill={"source": None, "levels": [0]},
        problems={"max_problems": 6},
        execution={"cluster": "slurm", "profile": str(site)},
    )
    path, donor = tmp_path / "sweep.yaml", tmp_path / "donors" / "early"
    path.write_text(yaml.safe_dump(config.to_yaml_dict()))
    command = ["donor", str(path), "-o", str(donor), *TRAINING]
    shown = invoke(*command, "--dry-run")
    assert "#SBATCH --account=lab" in shown.output, shown.output
    assert not cluster.submitted
    first = invoke(*command)
    assert first.exit_code == 0, first.output
    again = invoke(*command, "--json")
    assert json.loads(again.stdout)["state"] == "PENDING", "it is not submitted twice"
    (name,) = cluster.submitted
    assert name.startswith("donor-early_fs-")
    other = invoke(*command[:-1], "0.4")
    assert "settings differ" in str(other.exception)

    folder = donor.with_name("early.job")
    path.unlink()  # the job reads what was submitted
    cluster.queue.write_text("")
    assert run_command(folder, lambda: True, 0) == EXIT_STOPPED
    assert run_command(folder, lambda: False, 0) == EXIT_COMPLETE
    told = TaskProgress.read(folder / "progress" / "task-00000.json")
    assert told is not None
    assert (told.state, told.rows_done, told.rows_total) == ("completed", 2, 2)
    assert told.rows_resumed == 1
    assert command_report(folder).state is JobState.COMPLETED
    assert (donor / "recipe.json").is_file()
    assert run_command(folder, lambda: False, 0) == EXIT_COMPLETE


def test_a_job_that_ended_is_submitted_anew_and_what_went_wrong_is_told(
    tmp_path: Path, cluster: Cluster, site: Path
) -> None:
    folder = tmp_path / "split.job"
    job = CommandJob("split", {"run": str(tmp_path / "none"), "on_gpu": False}, "split-x", "repeats", str(site))
    assert submit_command(folder, job).state is JobState.PENDING
    with pytest.raises(InputError, match="other settings"):
        submit_command(folder, CommandJob("split", {"run": "y", "on_gpu": False}, "split-x", "repeats", str(site)))
    cluster.queue.write_text("")
    assert run_command(folder, lambda: False, 0) == EXIT_FAILED
    assert command_report(folder).state is JobState.FAILED
    shown = invoke("status", str(folder))
    assert "failed" in shown.output
    assert "foreshock resume" in shown.output
    assert invoke("resume", str(folder)).exit_code == 0
    assert len(cluster.submitted) == 2
    assert command_report(folder).state is JobState.PENDING
    (cluster.folder / "refuse").write_text("account=lab")
    cluster.queue.write_text("")
    refused = invoke("resume", str(folder))
    assert "Invalid account" in str(refused.exception)
    (cluster.folder / "silent").touch()
    assert "Slurm does not answer" in invoke("status", str(folder)).output
