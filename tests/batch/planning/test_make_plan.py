"""Planning freezes an experiment: what it holds, what it leaves out, and when two plans are the same."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from foreshock.batch.config import EngineConfig, RunConfig
from foreshock.batch.planning.make_plan import engine_options, make_plan, same_experiment
from foreshock.batch.planning.specs import CONTROL_TOKEN, NO_TRACE
from foreshock.batch.site import resolve_site
from foreshock.errors import InputError
from foreshock.jobs.records.layout import RunLayout
from foreshock.jobs.records.planfile import PlanFile, pack_numbers, read_pack, write_pack
from foreshock.jobs.records.spec import ArrayTask, Checkpoint, JobKind

MakeConfig = Callable[..., RunConfig]


def test_a_plan_covers_every_cell_once(make_config: MakeConfig) -> None:
    plan = make_plan(make_config(ground_truth={"attempts": 2, "steps": [1]}))
    cells = {(s.checkpoint.name, s.levels, t) for s in plan.file.specs if s.kind is JobKind.EVAL for t in s.task_ids}
    assert len(cells) == 3 * (10 + 9 + 9)
    assert len({spec.key() for spec in plan.file.specs}) == len(plan.file.specs)
    truth = [spec for spec in plan.file.specs if spec.kind is JobKind.GROUND_TRUTH]
    assert {spec.checkpoint.name for spec in truth} == {"checkpoint-1"}
    assert {spec.attempts for spec in truth} == {(2, 3)}


def test_two_plans_of_one_configuration_are_the_same_experiment(make_config: MakeConfig) -> None:
    one, two = make_plan(make_config()), make_plan(make_config(engine={"batch_size": 3}, execution={"workers": 2}))
    assert same_experiment(one.file, two.file) == []


@pytest.mark.parametrize(
    ("section", "field"),
    [
        ({"sampling": {"temperature": 0.5}}, "sampling"),
        ({"prompt": {"instructions": "full"}}, "template_sha256"),
        ({"verifier": {"timeout_s": 9.0}}, "verifier"),
        ({"prefill": {"assignment": "shared"}}, "prefill_sha256"),
        ({"prefill": {"levels": [0, 2]}}, "prefill_sha256"),
    ],
)
def test_a_changed_setting_is_another_experiment(
    make_config: MakeConfig, section: dict[str, dict[str, object]], field: str
) -> None:
    assert field in same_experiment(make_plan(make_config(**section)).file, make_plan(make_config()).file)


def test_traces_with_control_tokens_are_left_out_and_counted(
    make_config: MakeConfig, traces: Path, tmp_path: Path
) -> None:
    rows = [json.loads(line) for line in traces.read_text().splitlines()]
    spoiled = {rows[0]["task_id"]}
    path = tmp_path / "spoiled.jsonl"
    path.write_text(
        "".join(
            json.dumps(row | ({"reasoning": "I <|im_end|> stop"} if row["task_id"] in spoiled else {})) + "\n"
            for row in rows
        )
    )
    plan = make_plan(make_config(prefill={"source": str(path)}))
    reasons = {(item.reason, item.n_tasks) for item in plan.file.skipped}
    assert reasons == {(NO_TRACE, 1), (CONTROL_TOKEN, 1)}
    path.write_text("".join(json.dumps(row | {"reasoning": "<|im_end|>"}) + "\n" for row in rows))
    with pytest.raises(
        InputError,
        match=r"none of the traces can be forced; .*: line \d+: the prefill holds",
    ):
        make_plan(make_config(prefill={"source": str(path)}))


def test_plans_and_packs_read_back(make_config: MakeConfig, tmp_path: Path) -> None:
    layout = RunLayout(tmp_path / "run")
    plan = make_plan(make_config()).file
    plan.write(layout)
    again = PlanFile.read(layout)
    assert again.specs == plan.specs
    assert (again.settings, again.skipped) == (plan.settings, plan.skipped)
    tasks = [ArrayTask(0, plan.specs[:2], 1.5), ArrayTask(1, plan.specs[2:], 2.5)]
    assert [write_pack(layout, tasks), write_pack(layout, tasks[:1])] == [0, 1]
    assert read_pack(layout, 0, again) == tasks
    assert pack_numbers(layout) == [0, 1]
    with pytest.raises(InputError, match=r"no such pack; this run has \[0, 1\]"):
        read_pack(layout, 7, again)
    layout.plan.write_text('{"specs": []}')
    with pytest.raises(InputError, match="not a foreshock plan"):
        PlanFile.read(layout)


@pytest.mark.parametrize(
    ("section", "says"),
    [
        ({"prompt": {"format": "harmony"}}, "harmony"),
        ({"ground_truth": {"attempts": 1, "steps": [9]}}, "ground_truth.steps: no checkpoint for 9"),
        ({"logprob": {"reference": "/nowhere/checkpoint-1"}}, "no such checkpoint directory"),
        ({"prefill": {"source": "/nowhere.jsonl"}}, "cannot read the prefill source"),
    ],
)
def test_what_would_fail_later_is_refused_now(
    make_config: MakeConfig, section: dict[str, dict[str, object]], says: str
) -> None:
    with pytest.raises(InputError, match=says):
        make_plan(make_config(**section))


@pytest.mark.parametrize(
    ("engine", "options"),
    [
        ({"name": "transformers"}, {"batch_size": 64}),
        ({"name": "vllm"}, {"max_num_seqs": 256}),
        (
            {"name": "vllm", "batch_size": 32, "options": {"tensor_parallel_size": 2}},
            {"max_num_seqs": 32, "tensor_parallel_size": 2},
        ),
    ],
)
def test_settings_reach_each_engine_by_its_own_names(engine: dict[str, object], options: dict[str, object]) -> None:
    config = EngineConfig.model_validate({"device": "cpu"} | engine)
    assert engine_options(config) == {"device": "cpu", "dtype": "auto"} | options


@pytest.mark.parametrize(("gpus", "parallel", "workers"), [(8, 1, 8), (8, 2, 4), (2, 4, 1), (0, 1, 1)])
def test_vllm_workers_share_the_gpus_in_groups_and_a_cpu_not_at_all(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch, gpus: int, parallel: int, workers: int
) -> None:
    monkeypatch.setattr("foreshock.batch.site.count_gpus", lambda: gpus)
    engine = {"name": "vllm", "device": "auto", "options": {"tensor_parallel_size": parallel}}
    config = make_config(engine=engine, execution={"workers": None, "cluster": "local"})
    assert resolve_site(config).workers == workers


def test_checkpoints_of_two_formats_are_refused_unless_allowed_by_name(
    make_config: MakeConfig, sft_run: Path, tmp_path: Path
) -> None:
    shutil.copytree(sft_run / "checkpoints", tmp_path / "mixed")
    lost = sorted((tmp_path / "mixed").iterdir())[-1]
    stated = json.loads((lost / "tokenizer_config.json").read_text())
    stated.pop("chat_template", None)
    (lost / "tokenizer_config.json").write_text(json.dumps(stated))
    (lost / "chat_template.jinja").unlink(missing_ok=True)
    mixed = {"dir": str(tmp_path / "mixed")}
    with pytest.raises(InputError, match="is not rendered and ended as") as caught:
        make_plan(make_config(checkpoints=mixed))
    assert "checkpoints.may_differ: [format, template" in str(caught.value)
    plan = make_plan(make_config(checkpoints=mixed | {"may_differ": ["format", "template", "stops"]}))
    assert {found["what"] for found in plan.file.extra["admission"]["differences"]} >= {"format", "template"}
    scored = make_plan(make_config(logprob={"enabled": True, "reference": str(lost)}))
    notes = scored.file.extra["admission"]["notes"]
    assert [note.partition(" than")[0] for note in notes] == ["logprob.reference: another template"]


def test_adapters_over_two_bases_are_said_to_be_of_two_models(
    make_config: MakeConfig,
    make_adapter: Callable[..., Checkpoint],
    make_checkpoint: Callable[..., Checkpoint],
    tmp_path: Path,
) -> None:
    first, other = make_checkpoint(seed=1), make_checkpoint(seed=2)
    moved = shutil.copytree(first.path, tmp_path / "moved")
    for step, base in ((1, first), (2, Checkpoint("run", 2, moved)), (3, other)):
        shutil.copytree(make_adapter(base, step).path, tmp_path / "mixed" / f"checkpoint-{step}")
    plan = make_plan(make_config(checkpoints={"dir": str(tmp_path / "mixed")}))
    notes = [note for note in plan.file.extra["admission"]["notes"] if "another model" in note]
    assert [note.partition(":")[0] for note in notes] == ["checkpoint-3"]
