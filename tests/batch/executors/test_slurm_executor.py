"""Submissions that do not go through: refused, interrupted, half done. Slurm's programs are stand-ins here; the real
ones are in tests/slurm/cluster."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from standin_slurm import Cluster, stand_in

from foreshock.batch import heal
from foreshock.batch.config import RunConfig
from foreshock.batch.executors.budget import BudgetError
from foreshock.batch.executors.slurm import SlurmExecutor
from foreshock.batch.executors.slurm_reports import Hours, hours_used, task_reports
from foreshock.batch.executors.slurm_work import taken_over
from foreshock.batch.packing.measured import pack_tasks
from foreshock.batch.planning.make_plan import make_plan
from foreshock.batch.running.run import create_run
from foreshock.batch.site import Site, resolve_site
from foreshock.jobs.records.planfile import pack_numbers, write_pack
from foreshock.slurm.call import SlurmError, SlurmSilentError
from foreshock.slurm.journal import Journal, Stage
from foreshock.slurm.states import JobState


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    return stand_in(tmp_path, monkeypatch)


class Run:
    """A planned run and its profile."""

    def __init__(self, config: RunConfig, profile: Path) -> None:
        self.config, self.profile = config, profile
        plan = make_plan(config)
        self.layout, self.plan = create_run(config, plan, ["foreshock"]), plan.file

    @property
    def site(self) -> Site:
        return resolve_site(self.config)

    def edit(self, **keys: object) -> None:
        base = {"partition": "low", "max_array_size": 11, "max_submit": 50}
        self.profile.write_text(yaml.safe_dump(base | keys))

    def submit(self) -> None:
        executor = SlurmExecutor(self.site)
        queued = executor.queued(self.layout, self.plan)
        missing = [spec for spec in self.plan.specs if spec.key() not in queued]
        if missing:
            tasks = pack_tasks(missing, self.site, self.layout, self.plan)
            executor.submit(self.layout, write_pack(self.layout, tasks), tasks)
        executor.release(self.layout)


@pytest.fixture
def run(make_config: Callable[..., RunConfig], tmp_path: Path, cluster: Cluster) -> Run:
    profile = tmp_path / "site.yaml"
    profile.write_text(yaml.safe_dump({"partition": "low", "max_array_size": 11, "max_submit": 50}))
    config = make_config(
        checkpoints={"steps": [1]},
        prefill={"levels": [0]},
        execution={"cluster": "slurm", "profile": str(profile)},
    )
    return Run(config.model_copy(update={"name": "night"}), profile)


def test_a_refused_submission_is_planned_anew_from_the_profile_as_it_is_now(run: Run, cluster: Cluster) -> None:
    run.edit(account="wrong")
    cluster.refuse("--account=wrong")
    for _ in range(2):  # as often as the profile is wrong
        with pytest.raises(SlurmError, match=r"(?s)sbatch refused night_1_fs-.*Invalid account.*foreshock resume"):
            run.submit()
    notes = task_reports(run.layout).notes
    assert any("was refused" in note and "Invalid account" in note for note in notes)
    run.edit(account="right")
    run.submit()
    names = cluster.submitted
    assert [name.rpartition("-")[2] for name in names] == ["a0", "end"]
    run.submit()
    assert cluster.submitted == names
    assert pack_numbers(run.layout) == [0, 1, 2]


def test_a_refused_last_job_is_submitted_when_it_can_be_and_the_arrays_stay(run: Run, cluster: Cluster) -> None:
    cluster.refuse("fs_final_main$")
    with pytest.raises(SlurmError, match="-end: sbatch: error"):
        run.submit()
    assert len(cluster.submitted) == 1
    cluster.refuse("")
    run.submit()
    run.submit()
    assert len(cluster.submitted) == 2
    (entry,) = Journal(run.layout.root).load_all()
    assert entry.final is not None
    assert entry.final.stage is Stage.SUBMITTED
    assert cluster.submitted[1] == entry.final.name


def test_while_the_last_job_waits_nothing_is_submitted_again(run: Run, cluster: Cluster) -> None:
    run.submit()
    lines = cluster.queue.read_text().splitlines()
    cluster.queue.write_text("\n".join(line.replace("Priority", "JobHeldAdmin") for line in lines if "-end" in line))
    executor = SlurmExecutor(run.site)
    assert executor.queued(run.layout, run.plan) == {spec.key() for spec in run.plan.specs}
    assert "the last job (101) is held by an administrator" in executor.notes[0]
    executor.release(run.layout)


def test_slurms_silence_is_no_empty_queue(run: Run, cluster: Cluster) -> None:
    run.submit()
    (cluster.folder / "silent").touch()
    report = task_reports(run.layout)
    assert {task.report.state for task in report.tasks} == {JobState.UNKNOWN}
    assert "Slurm does not answer" in report.notes[0]
    with pytest.raises(SlurmSilentError, match="Unable to contact"):
        run.submit()
    assert len(cluster.submitted) == 2


def test_scripts_that_nobody_submitted_are_dropped_and_leave_if_somebody_does(run: Run, cluster: Cluster) -> None:
    executor = SlurmExecutor(run.site)
    tasks = pack_tasks(list(run.plan.specs), run.site, run.layout, run.plan)
    executor.emit(run.layout, write_pack(run.layout, tasks), tasks, run.layout.root / "scripts")
    run.submit()
    first, second = Journal(run.layout.root).load_all()
    assert {job.stage for job in first.jobs} == {Stage.DROPPED}
    assert all(Journal(run.layout.root).dropped_marker(job.name).exists() for job in first.jobs)
    assert {job.stage for job in second.jobs} == {Stage.SUBMITTED}


def test_a_last_job_leaves_alone_what_a_later_submission_has(run: Run, cluster: Cluster) -> None:
    run.submit()
    cluster.queue.write_text("")  # all has ended, nothing was done
    run.submit()
    journal = Journal(run.layout.root)
    first, second = journal.load_all()
    assert taken_over(run.layout, run.plan, journal, first) == {spec.key() for spec in run.plan.specs}
    assert heal.own_missing(run.layout, run.plan, first) == []
    assert heal.own_missing(run.layout, run.plan, second) == list(run.plan.specs)
    journal.save(replace(second, settings=second.settings | {"after": first.token}))  # its own next round
    assert heal.own_missing(run.layout, run.plan, first) == list(run.plan.specs)


def test_names_tell_the_run_and_its_steps(run: Run, cluster: Cluster) -> None:
    run.submit()
    array, last = cluster.submitted
    assert array.startswith("night_1_fs-")
    assert last.startswith("night_fs-")


def test_a_budget_stops_submission_and_says_what_is_used(run: Run, cluster: Cluster) -> None:
    run.config = run.config.model_copy(
        update={"execution": run.config.execution.model_copy(update={"max_gpu_hours": 0.001})}
    )
    with pytest.raises(BudgetError, match=r"(?s)is 0.001; no GPU hours are used, and about .* foreshock res"):
        run.submit()
    assert cluster.submitted == []
    run.config = run.config.model_copy(
        update={"execution": run.config.execution.model_copy(update={"max_gpu_hours": 5.0})}
    )
    run.submit()
    name, _ = cluster.submitted
    lines = [
        f"100_0|{name}|{state}|1:0|9000|n1|2026-01-01T00:00:00|2026-01-01T0{start}:30:00"
        for state, start in (("FAILED", 0), ("TIMEOUT", 3))
    ]
    (cluster.folder / "bin" / "sacct").write_text("#!/bin/sh\ncat <<'END'\n" + "\n".join(lines) + "\nEND\n")
    cluster.queue.write_text("")
    hours = hours_used(run.layout, task_reports(run.layout).tasks)
    assert hours == Hours(gpu=5.0, lost=2.5, queued=1.0)
    with pytest.raises(BudgetError, match=r"max_gpu_hours is 5; 5.00 GPU hours are used"):
        run.submit()
