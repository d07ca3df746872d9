"""Slurm runs without a cluster: scripts, healing rounds, states of cells, finding logs, costs learnt from shards."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from foreshock.analysis.report.provenance import read_provenance
from foreshock.batch import heal
from foreshock.batch.config import RunConfig
from foreshock.batch.executors.base import TaskReport
from foreshock.batch.executors.slurm_reports import SlurmTask, task_reports
from foreshock.batch.executors.slurm_scripts import make_scripts, next_folder, next_submission, plan_submission
from foreshock.batch.packing.measured import pack_tasks, resources
from foreshock.batch.planning.make_plan import make_plan
from foreshock.batch.planning.summary import profile_shares
from foreshock.batch.running.execute import execute, missing_specs
from foreshock.batch.running.run import RunHooks, create_run, resume
from foreshock.batch.site import resolve_site
from foreshock.batch.status.logs import find_logs
from foreshock.batch.status.of_slurm import cell_states, failures
from foreshock.batch.status.read import read_status
from foreshock.errors import ForeshockError, InputError
from foreshock.jobs.records.layout import RunLayout
from foreshock.jobs.records.planfile import PlanFile, write_pack
from foreshock.jobs.records.spec import ArrayTask, Checkpoint
from foreshock.jobs.stop_flag import StopFlag
from foreshock.jobs.worker import run_array_task
from foreshock.slurm.commands import SiteLimits
from foreshock.slurm.journal import Journal, Submission
from foreshock.slurm.states import JobState

MakeConfig = Callable[..., RunConfig]


@pytest.fixture
def profile(tmp_path: Path) -> Callable[..., str]:
    """profile(key=value, ...) -> a profile file; limits are given, so that nobody has to be asked."""

    def make(name: str = "site", **keys: Any) -> str:
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump({"partition": "low", "max_array_size": 4, "array_throttle": 2} | keys))
        return str(path)

    return make


def planned(config: RunConfig) -> tuple[RunLayout, PlanFile]:
    """A run directory with a plan, nothing done."""
    plan = make_plan(config, image=resolve_site(config).image)
    return create_run(config, plan, ["foreshock", "run"]), plan.file


def done(config: RunConfig) -> tuple[RunLayout, PlanFile]:
    """A run whose shards are all there."""
    layout, plan = planned(config)
    outcome = execute(layout, plan, resolve_site(config))
    assert not outcome.missing, outcome.failures
    return layout, plan


def submission(layout: RunLayout, plan: PlanFile, config: RunConfig, rounds: int = 2) -> Submission:
    """Everything in one journaled submission."""
    specs = list(plan.specs)
    tasks = pack_tasks(specs, resolve_site(config), layout, plan)
    rows = sum(spec.n_rows for spec in specs)
    entry = plan_submission(write_pack(layout, tasks), tasks, resolve_site(config), SiteLimits(4, None), rounds, rows)
    Journal(layout.root).save(entry)
    return entry


def slurm(make_config: MakeConfig, profile: str) -> RunConfig:
    return make_config(execution={"cluster": "slurm", "profile": profile, "max_minutes": 2.5})


def test_scripts_run_the_pack_and_rebuild_identically(make_config: MakeConfig, profile: Callable[..., str]) -> None:
    config = slurm(make_config, profile())
    layout, plan = planned(config)
    entry = submission(layout, plan, config)
    scripts = make_scripts(layout, plan, entry)
    profile(partition="edited-since")
    assert make_scripts(layout, plan, Journal(layout.root).load_all()[0]) == scripts
    assert all(len(script.elements) <= 3 for script in scripts.arrays)
    assert f"-m foreshock.jobs {layout.root} --pack 0" in scripts.arrays[0].worker.command
    assert scripts.final is not None
    assert f"-m foreshock.batch.heal {layout.root} --pack 0" in scripts.final.finish.command
    assert scripts.arrays[0].profile.partition == "low"


def test_further_profiles_take_their_share_in_arrays_of_their_own_and_again_when_healing(
    make_config: MakeConfig, profile: Callable[..., str]
) -> None:
    config = slurm(make_config, profile(gpu_memory_gib=80))
    fast = profile("fast", partition="fast", gpu_memory_gib=40, time=3)
    config = RunConfig.model_validate(config.to_yaml_dict() | {
        "execution": config.to_yaml_dict()["execution"] | {"more_profiles": [fast]}})  # fmt: skip
    site = resolve_site(config)
    assert (site.require_slurm().workers, site.gpu_memory_gib) == ((2, 2), 40)
    assert site.wall_minutes < 2
    assert [(share["name"], share["workers"]) for share in profile_shares(config, site)] == [
        (config.execution.profile, 2),
        (fast, 2),
    ]
    layout, plan = planned(config)
    first = submission(layout, plan, config)
    tasks = [ArrayTask(i, (), 1.0) for i in range(6)]
    second = next_submission(first, 1, tasks, SiteLimits(4, 5), 1, ["n7"])
    for entry in (first, second):
        scripts = make_scripts(layout, plan, entry)
        assert {script.profile.partition for script in scripts.arrays} == {"low", "fast"}
    assert sorted(t for job in second.arrays for element in job.elements for t in element) == list(range(6))
    assert sum(len(job.elements) for job in second.arrays) <= 4
    assert all("n7" in script.profile.sbatch["exclude"] for script in scripts.arrays)


@pytest.mark.parametrize(
    ("keys", "what"), [({"gpus_per_node": 2}, "GPUs a job"), ({"container": {"image": "/other.sif"}}, "image")]
)
def test_further_profiles_that_differ_in_what_tasks_are_planned_for_are_refused(
    make_config: MakeConfig, profile: Callable[..., str], keys: dict[str, Any], what: str
) -> None:
    config = slurm(make_config, profile())
    execution = config.execution.model_copy(update={"more_profiles": (profile("other", **keys),)})
    with pytest.raises(InputError, match=f"other.yaml differs from .*site.yaml in {what}"):
        resolve_site(config.model_copy(update={"execution": execution}))


def test_a_container_sees_the_run_the_models_and_the_binds(
    make_config: MakeConfig, profile: Callable[..., str]
) -> None:
    box = {"image": "/images/foreshock.sif", "binds": ["/data", "/cfg:/etc/cfg:ro"]}
    config = slurm(make_config, profile(container=box, gpus_per_node=1))
    layout, plan = planned(config)
    worker = make_scripts(layout, plan, submission(layout, plan, config)).arrays[0].worker
    assert worker.command.startswith("apptainer exec")
    assert "--nv" in worker.command
    assert worker.command.endswith(f"python3 -m foreshock.jobs {layout.root} --pack 0")
    config = config.model_copy(update={"engine": config.engine.model_copy(update={"device": "auto"})})
    planned_for_gpu = make_scripts(layout, plan, submission(layout, plan, config)).arrays[0].worker
    assert planned_for_gpu.command.endswith(" --gpus 1")  # there, one that sees none stops
    for bind in (f"{layout.root}:{layout.root}:rw", "/data:/data:ro", "/cfg:/etc/cfg:ro"):
        assert bind in worker.command
    for spec in plan.specs:
        assert f"{spec.checkpoint.path}:{spec.checkpoint.path}:ro" in worker.command
    assert any("FS_SCRATCH" in line for line in worker.prelude)


def test_the_image_is_recorded_and_another_one_is_told_on_resume(
    make_config: MakeConfig, profile: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    image = tmp_path / "foreshock.sif"
    image.write_bytes(b"one")
    config = slurm(make_config, profile(container={"image": str(image)}))
    layout, plan = planned(config)
    digest = f"sha256:{hashlib.sha256(b'one').hexdigest()}"
    assert plan.settings.image_digest == digest
    worker = make_scripts(layout, plan, submission(layout, plan, config)).arrays[0].worker
    assert f"{image}:{image}:ro" in worker.command  # read from inside, and so measured
    assert f"export APPTAINERENV_FORESHOCK_IMAGE_FILE={image}" in worker.prelude
    image.write_bytes(b"another")
    said: list[str] = []
    monkeypatch.setattr("foreshock.batch.running.run._carry_out", lambda *_: None)
    resume(layout.root, RunHooks(say=said.append))
    assert [line for line in said if digest in line and "goes on in sha256:" in line]


def test_the_first_shard_tells_what_computed_it_and_whether_that_was_planned(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Planned in one image, by another commit; one byte of the image's file is another when the worker looks."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    image = tmp_path / "foreshock.sif"
    image.write_bytes(b"one")
    monkeypatch.setenv("FORESHOCK_IMAGE_FILE", str(image))
    config = make_config(checkpoints={"steps": [1]}, prefill={"levels": [0]})
    plan = make_plan(config, image=resolve_site(config).image).file
    assert plan.settings.image_digest == f"sha256:{hashlib.sha256(b'one').hexdigest()}"
    image.write_bytes(b"onf")
    layout, _ = done(config)
    stale = replace(plan.settings, git_commit="0" * 40)
    replace(plan, settings=stale).write(layout)
    (manifest,) = [json.loads(path.read_text()) for path in layout.shards.rglob("eval/**/*.manifest.json")][:1]
    digest = f"sha256:{hashlib.sha256(b'onf').hexdigest()}"
    assert manifest["image_digest"] == digest
    record = json.loads((layout.root / "ran" / f"{manifest['ran']}.json").read_text())
    assert record["image"]["file_sha256"] == digest
    assert record["packages"]["torch"]
    assert record["sandbox_tier"]
    notes = "\n".join(read_status(layout).notes)
    assert f"computed in image {digest}, planned for {plan.settings.image_digest}" in notes
    assert "the run was planned by 000000000000" in notes
    facts = dict(read_provenance(layout.root).facts())
    assert "Not as planned" in facts
    assert "kernel" in facts["Computed by"]


def test_a_strict_run_computes_nothing_by_another_commit(make_config: MakeConfig) -> None:
    config = make_config(checkpoints={"steps": [1]}, prefill={"levels": [0]}, execution={"strict": True})
    layout, plan = planned(config)
    write_pack(layout, [ArrayTask(0, plan.specs, 1.0)])
    replace(plan, settings=replace(plan.settings, git_commit="0" * 40)).write(layout)
    with pytest.raises(ForeshockError, match=r"(?s)planned for: computed by commit .*--no-strict"):
        run_array_task(layout, 0, 0, StopFlag())
    assert not list(layout.shards.rglob("*.jsonl"))


def test_a_worker_that_was_planned_for_gpus_and_sees_none_stops_at_once(make_config: MakeConfig) -> None:
    layout, _ = planned(make_config(checkpoints={"steps": [1]}, prefill={"levels": [0]}))
    with pytest.raises(ForeshockError, match="planned for 2 GPUs and sees none"):
        run_array_task(layout, 0, 0, StopFlag(), gpus=2)


def test_a_container_sees_the_bases_of_adapters(
    make_config: MakeConfig,
    profile: Callable[..., str],
    tiny: Checkpoint,
    make_adapter: Callable[..., Checkpoint],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import huggingface_hub.constants

    cache = tmp_path / "hub"
    snapshot = cache / "models--lab--base" / "snapshots" / "c0ffee"
    shutil.copytree(tiny.path, snapshot)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("c0ffee")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    for named, folder in ((str(tiny.path), tiny.path), ("lab/base", snapshot.parents[1])):
        adapter = make_adapter(tiny, base_model_name_or_path=named)
        config = make_config(
            checkpoints={"dir": str(adapter.path.parent)},
            execution={"cluster": "slurm", "profile": profile(container={"image": "/images/foreshock.sif"})},
        )
        layout, plan = planned(config)
        worker = make_scripts(layout, plan, submission(layout, plan, config)).arrays[0].worker
        assert f"{folder}:{folder}:ro" in worker.command
    assert any(f"HF_HUB_CACHE={cache}" in line for line in worker.prelude)


def test_missing_work_is_prepared_for_another_round_until_rounds_or_progress_run_out(
    make_config: MakeConfig, profile: Callable[..., str]
) -> None:
    config = slurm(make_config, profile())
    layout, plan = planned(config)
    first = submission(layout, plan, config, rounds=2)
    assert heal.main([str(layout.root), "--pack", "0"]) == heal.EXIT_HEAL
    second = Journal(layout.root).load_all()[1]
    assert second.rounds_left == 1
    assert second.settings["profile"] == first.settings["profile"]
    folder = next_folder(layout, first)
    assert (folder / "submit.sh").is_file()
    names = {path.name for path in folder.glob("*.sbatch")}
    assert names == {f"{job.name}.sbatch" for job in second.jobs}
    # killed while it submitted: the same round goes on, no further one is made
    assert heal.main([str(layout.root), "--pack", "0"]) == heal.EXIT_HEAL
    assert len(Journal(layout.root).load_all()) == 2
    # that round added nothing at all: the same is not tried again, what there is gets analysed
    assert not heal.prepare_next_round(layout, plan, second)


def test_no_round_is_made_when_none_is_left(make_config: MakeConfig, profile: Callable[..., str]) -> None:
    config = slurm(make_config, profile())
    layout, plan = planned(config)
    assert not heal.prepare_next_round(layout, plan, submission(layout, plan, config, rounds=0))


def test_a_complete_pack_needs_no_round_and_costs_are_learnt_from_it(
    make_config: MakeConfig, profile: Callable[..., str]
) -> None:
    layout, plan = done(make_config())
    config = slurm(make_config, profile(costs={"load_s": 500, "swap_s": 100}))
    assert missing_specs(layout, plan) == []
    assert not heal.prepare_next_round(layout, plan, submission(layout, plan, config))
    assert resources(resolve_site(config)).cost.load_s == 500
    assert (
        resources(resolve_site(config), layout, plan).cost.row_seconds(plan.specs[0].kind, 0) < 1.0
    )  # tiny models are quick
    assert all(task.report.state is JobState.COMPLETED for task in task_reports(layout).tasks)


def test_a_damaged_shard_is_missing_again(make_config: MakeConfig, profile: Callable[..., str]) -> None:
    layout, plan = done(make_config())
    with layout.shard_file(plan.specs[0]).open("r+b") as file:
        file.truncate(20)
    entry = submission(layout, plan, slurm(make_config, profile()))
    assert heal.prepare_next_round(layout, plan, entry)
    assert Journal(layout.root).load_all()[1].settings["rows_missing"] == plan.specs[0].n_rows


def test_rounds_keep_the_profile_and_count_down(make_config: MakeConfig, profile: Callable[..., str]) -> None:
    config = slurm(make_config, profile())
    layout, plan = planned(config)
    first = submission(layout, plan, config)
    later = next_submission(first, 1, pack_tasks(list(plan.specs)[:1], resolve_site(config)), SiteLimits(4, None), 5)
    assert (later.rounds_left, later.pack, later.settings["healing"]) == (1, 1, True)
    assert later.token != first.token


def task(pack: int, index: int, specs: Any, state: JobState, attempts: int = 1, detail: str | None = None) -> SlurmTask:
    """A task as Slurm might tell it."""
    return SlurmTask(pack, TaskReport(index, state, 1, detail), tuple(specs), f"7_{index}", None, attempts, 10)


def test_cells_show_the_state_of_their_newest_submission(make_config: MakeConfig) -> None:
    specs = make_plan(make_config()).file.specs
    a, b, c, d = specs[:4]
    states = cell_states(
        [
            task(0, 0, [a], JobState.FAILED),
            task(0, 1, [b], JobState.PENDING, attempts=3),
            task(0, 2, [c], JobState.RUNNING),
            task(0, 3, [d], JobState.NODE_FAIL),
            task(1, 0, [a], JobState.PENDING),
        ]
    )
    assert set(states.values()) <= {"queued", "preempted", "running", "failed"}
    told = failures([task(0, 0, [a], JobState.FAILED, detail="old"), task(1, 0, [a], JobState.TIMEOUT, detail="new")])
    assert len(told) == 1
    assert "TIMEOUT" in told[0]
    assert "new" in told[0]


def test_work_done_by_a_later_pack_is_not_failed_any_more(make_config: MakeConfig) -> None:
    spec = make_plan(make_config()).file.specs[0]
    assert cell_states([task(0, 0, [spec], JobState.FAILED), task(1, 0, [spec], JobState.COMPLETED)]) == {}


def test_an_unknown_cell_lists_the_valid_ones(make_config: MakeConfig) -> None:
    layout, _ = planned(make_config())
    with pytest.raises(InputError, match=r"no cell 'checkpoint-3'; valid: CHECKPOINT or CHECKPOINT@LEVEL with"):
        find_logs(layout, "checkpoint-3")
    assert find_logs(layout, "checkpoint-1@10") == []
