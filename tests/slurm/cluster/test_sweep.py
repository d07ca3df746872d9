"""Real sweeps on a real cluster, as an ordinary user, from `foreshock run` to the tables."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from foreshock.jobs.records.table_files import table_bytes, table_names

pytestmark = pytest.mark.cluster

TABLES_ALONE: dict[str, Any] = {"analysis": {"enabled": False}}
"""For runs that are held against `undisturbed`, which is analysed: its last job takes 15 CPU seconds for that."""


class Sweep:
    """One run by way of the command line."""

    def __init__(self, bed: Any, folder: Path, config: Path) -> None:
        self.bed, self.folder, self.config = bed, folder, config

    def foreshock(self, *arguments: str, check: bool = True) -> Any:
        return self.bed.as_user(str(self.bed.python), "-m", "foreshock", *arguments, check=check)

    @property
    def dir(self) -> Path:
        return next((self.folder / "results" / "prefill_sensitivity").iterdir())

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.foreshock("status", str(self.dir), "--json").stdout)
        return found

    def tables(self) -> dict[str, bytes]:
        """The final tables, by name, in files of their own or in archives."""
        return {
            f"{folder}/{name}": table_bytes(self.dir / folder / name)
            for folder in ("evals", "logprob")
            for name in table_names(self.dir / folder)
        }

    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.dir / "status.json").read_text())
        return found

    def logs(self, pattern: str = "*") -> str:
        return "".join(path.read_text() for path in sorted(self.dir.glob(f"logs/slurm/{pattern}.log")))


def make(
    bed: Any, sweep: ModuleType, inputs: Path, name: str, profile: dict[str, Any] | None = None, **sections: Any
) -> Sweep:
    """A sweep in a folder of its own, not started."""
    folder = bed.folder(name)
    return Sweep(bed, folder, sweep.write_config(folder, inputs, profile or {}, **sections))


def test_a_sweep_runs_unattended_from_arrays_to_tables(undisturbed: Any) -> None:
    document = undisturbed.document()
    assert document["status"] == "completed"
    assert document["rows"]["n_eval"] == 240
    assert document["rows"]["missing"] == []
    status = undisturbed.status()
    assert status["rows_done"] == status["rows_total"]
    assert {cell["state"] for cell in status["cells"]} == {"done"}
    assert status["gpu_hours"] > 0
    assert "ended with exit code 0" in undisturbed.foreshock("logs", str(undisturbed.dir), "checkpoint-4@10").stdout
    assert "aggregating" in undisturbed.foreshock("logs", str(undisturbed.dir), "--final").stdout


def test_resume_of_a_complete_run_submits_nothing(undisturbed: Any) -> None:
    packs = sorted((undisturbed.dir / "packs").iterdir())
    undisturbed.foreshock("resume", str(undisturbed.dir))
    assert sorted((undisturbed.dir / "packs").iterdir()) == packs
    assert undisturbed.bed.queue() == []


def test_work_that_failed_is_healed_by_the_last_job_on_the_nodes_of_both_profiles(
    bed: Any, sweep: ModuleType, inputs: Path, undisturbed: Any
) -> None:
    folder = bed.state / "home" / "runs" / "heal"
    setup = [f"if [[ $SLURM_ARRAY_TASK_ID == 0 ]] && mkdir {folder}/failed-once 2>/dev/null; then exit 9; fi"]
    other = {"more_profiles": [str(folder / "other.yaml")]}
    run = make(bed, sweep, inputs, "heal", {"setup": setup, "array_throttle": 1}, execution=other, **TABLES_ALONE)
    profile = yaml.safe_load((folder / "gpu.yaml").read_text())
    (folder / "other.yaml").write_text(yaml.safe_dump(profile | {"partition": "cpu"}))
    (folder / "other.yaml").chmod(0o644)
    run.foreshock("run", str(run.config))
    bed.wait_idle(600)
    arrays = json.loads((run.dir / "slurm" / "pack-0000" / "submission.json").read_text())["arrays"]
    assert {(job["profile"], job["stage"]) for job in arrays} == {(0, "submitted"), (1, "submitted")}
    scripts = [path.read_text() for path in (run.dir / "slurm" / "pack-0000").glob("*-a*.sbatch")]
    assert sorted(p for p in ("low", "cpu") for text in scripts if f"--partition={p}" in text) == ["cpu", "low"]
    assert "work is missing; submitting it again" in run.logs()
    assert len(list((run.dir / "packs").iterdir())) == 2
    assert run.document()["status"] == "completed"
    assert run.tables() == undisturbed.tables()


def test_what_cannot_be_healed_is_reported_and_analysed_without(bed: Any, sweep: ModuleType, inputs: Path) -> None:
    setup = ["if [[ $SLURM_ARRAY_TASK_ID == 0 ]]; then echo 'driver is too old'; exit 9; fi"]
    run = make(bed, sweep, inputs, "hopeless", {"setup": setup})
    run.foreshock("run", str(run.config))
    bed.wait_idle(600)
    assert run.document()["status"] == "incomplete"
    assert "missing: " in run.logs("*-end-*")
    assert list((run.dir / "evals").iterdir())
    status = run.status()
    assert any("driver is too old" in text and "exit code 9" in text for text in status["failures"])
    assert "failed" in {cell["state"] for cell in status["cells"]}


def test_cancel_then_resume_loses_and_repeats_nothing(
    bed: Any, sweep: ModuleType, inputs: Path, undisturbed: Any
) -> None:
    run = make(bed, sweep, inputs, "cancel", {"array_throttle": 1}, **TABLES_ALONE)
    run.foreshock("run", str(run.config))
    bed.wait_until("a first part is written", lambda: bool(list(run.dir.glob("shards/*/*/*"))), 120)
    with bed.drained():
        bed.signal_workers("STOP")  # a loaded machine may take longer over the command than over all that is left to do
        run.foreshock("cancel", str(run.dir))
        bed.signal_workers("CONT")
        bed.wait_idle(120)
    assert "requeueing" not in run.logs()
    assert 0 < run.status()["rows_done"] < 400
    run.foreshock("resume", str(run.dir))
    bed.wait_idle(600)
    assert run.tables() == undisturbed.tables()


def test_resume_beside_running_jobs_submits_nothing_twice(
    bed: Any, sweep: ModuleType, inputs: Path, undisturbed: Any
) -> None:
    held = bed.state / "home" / "hold"
    bed.as_user("touch", str(held))
    setup = [f"while [[ $SLURM_ARRAY_TASK_ID != 0 && -e {held} ]]; do sleep 0.2; done"]
    run = make(bed, sweep, inputs, "beside", {"setup": setup}, **TABLES_ALONE)
    run.foreshock("run", str(run.config))
    bed.wait_until("a first part is written", lambda: bool(list(run.dir.glob("shards/*/*/*"))), 120)
    run.foreshock("resume", str(run.dir))
    assert len(list((run.dir / "packs").iterdir())) == 1
    states = {cell["state"] for cell in status_without_accounting(bed, run)["cells"]}
    assert "running" in states
    assert states <= {"queued", "running", "partial", "done"}
    held.unlink()
    bed.wait_idle(600)
    assert run.tables() == undisturbed.tables()
    assert {cell["state"] for cell in status_without_accounting(bed, run)["cells"]} == {"done"}


def status_without_accounting(bed: Any, run: Sweep) -> dict[str, Any]:
    """`foreshock status --json` where sacct fails, as it does without slurmdbd."""
    folder = bed.folder("no-accounting")
    (folder / "sacct").write_text("#!/bin/sh\necho 'Slurm accounting storage is disabled' >&2\nexit 1\n")
    (folder / "sacct").chmod(0o755)
    path = f"PATH={folder}:{bed.environment['PATH']}"
    done = bed.as_user("env", path, str(bed.python), "-m", "foreshock", "status", str(run.dir), "--json")
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["gpu_hours"] is None
    return found


def test_emitted_scripts_do_the_same(bed: Any, sweep: ModuleType, inputs: Path, undisturbed: Any) -> None:
    run = make(bed, sweep, inputs, "emit", **TABLES_ALONE)
    scripts = run.folder / "scripts"
    run.foreshock("plan", str(run.config), "--emit-sbatch", str(scripts))
    with bed.drained():
        bed.as_user("bash", str(scripts / "submit.sh"))
        assert {cell["state"] for cell in run.status()["cells"]} == {"queued"}
    bed.wait_idle(600)
    assert run.document()["status"] == "completed"
    assert run.tables() == undisturbed.tables()


def test_a_calibration_runs_as_jobs_and_plans_then_say_what_it_measured(
    bed: Any, sweep: ModuleType, inputs: Path
) -> None:
    run = make(bed, sweep, inputs, "calibrated")
    plan = json.loads(run.foreshock("plan", str(run.config), "--calibrate", "--json").stdout)
    (calibration,) = (run.folder / "results" / "calibrations").iterdir()
    assert json.loads((calibration / "status.json").read_text())["status"] == "completed"
    assert plan["costs"]["from"] == f"learned from {calibration.name} (transformers on cpu)"
    assert not (run.folder / "results" / "prefill_sensitivity").exists()
    assert bed.queue() == []
