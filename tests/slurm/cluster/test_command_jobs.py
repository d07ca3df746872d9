"""Commands as jobs on a real cluster, as an ordinary user."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytestmark = pytest.mark.cluster

TRAINING = ("--epochs", "40", "--patience", "40", "--learning-rate", "1e-4", "--held-out", "0.5", "--samples", "2")


def test_a_donor_requeued_in_the_middle_has_the_bytes_of_an_uninterrupted_one(
    bed: Any, sweep: ModuleType, inputs: Path, sweep_tools: ModuleType
) -> None:
    pytest.importorskip("peft", reason="LoRA donors: pip install 'foreshock[train]'")
    run = sweep_tools.make(bed, sweep, inputs, "donor", problems={"max_problems": 4}, prefill={"levels": [0]})
    whole, cut = run.folder / "donors" / "whole", run.folder / "donors" / "cut"
    run.foreshock("donor", str(run.config), "-o", str(whole), *TRAINING, "--cluster", "inline")
    command = ("donor", str(run.config), "-o", str(cut), *TRAINING)
    run.foreshock(*command)
    job = cut.with_name("cut.job")

    def told() -> dict[str, Any]:
        found: dict[str, Any] = json.loads(run.foreshock("status", str(job), "--json").stdout)
        return found

    progress = job / "progress" / "task-00000.json"
    bed.wait_until("it has trained", lambda: progress.is_file() and json.loads(progress.read_text())["rows_done"] > 3)
    (number,) = [job_id for job_id, _, state in bed.queue() if state == "RUNNING"]
    bed.root("scontrol", "requeue", number)
    bed.wait_idle(300)
    assert told()["state"] == "COMPLETED"
    log = run.foreshock("logs", str(job), "--paths").stdout.strip()
    text = Path(log).read_text()
    assert "attempt 1" in text
    assert "going on after step" in text
    assert not cut.with_name("cut.training").exists()
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        assert (cut / name).read_bytes() == (whole / name).read_bytes(), name
    assert (
        json.loads((cut / "recipe.json").read_text())["history"]
        == json.loads((whole / "recipe.json").read_text())["history"]
    )
    again = run.foreshock(*command)
    assert "held-out loss per token" in again.stdout
    assert bed.queue() == []


def test_splitting_of_a_slurm_run_is_a_job_whose_repeats_the_command_then_shows(undisturbed: Any) -> None:
    bed = undisturbed.bed
    options = ("--checkpoint", "1", "--exploit-type", "process_exit", "--levels", "4,8", "--particles", "4")
    command = ("split", str(undisturbed.dir), *options, "--repeats", "4", "--json")
    with bed.drained():
        submitted = json.loads(undisturbed.foreshock(*command).stdout)
        assert submitted["state"] == "PENDING"
        assert json.loads(undisturbed.foreshock(*command).stdout)["job"] == submitted["job"]
        assert "split-" in undisturbed.foreshock("cancel", str(undisturbed.dir)).stdout
        bed.wait_idle(60)
    assert json.loads(undisturbed.foreshock("resume", submitted["folder"], "--json").stdout)["job"] != submitted["job"]
    bed.wait_idle(300)
    shown = json.loads(undisturbed.foreshock(*command).stdout)
    assert (shown["kept"], shown["new"]) == (4, 0)
    assert bed.queue() == []
