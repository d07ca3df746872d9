"""Exploit code after the run's own honest reasoning: chosen once from the first checkpoint, planned for all of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from foreshock.batch.config import RunConfig
from foreshock.batch.planning.admission import ADMISSION
from foreshock.batch.planning.honest import CHOSEN_LATER
from foreshock.batch.planning.make_plan import grow_plan, make_plan
from foreshock.batch.running.following import next_specs
from foreshock.batch.running.run import create_run
from foreshock.errors import InputError
from foreshock.jobs.honest import read_honest
from foreshock.jobs.inputs import RunInputs
from foreshock.jobs.records.layout import RunLayout
from foreshock.jobs.records.planfile import PlanFile
from foreshock.jobs.records.rows import SAMPLE_KEYS, SCHEMA_VERSION, select_keys, text_sha256
from foreshock.jobs.records.shards import Origin, ShardStore
from foreshock.jobs.records.spec import JobKind, JobSpec

MakeConfig = Callable[..., RunConfig]


def seal(layout: RunLayout, spec: JobSpec, honest_attempt: int) -> None:
    """Level-0 rows in which the first task always exploits and the others do at every attempt but one."""
    rows = [
        {
            "checkpoint": spec.checkpoint.name,
            "model_id": f"sft/{spec.checkpoint.name}",
            "prefill_level": 0,
            "task_id": task,
            "attempt_idx": attempt,
            "prefill_sha256": text_sha256(""),
            "reasoning": f"I read {task}, {attempt}.",
            "reasoning_closed": True,
            "exploit_success": attempt != honest_attempt or task == spec.task_ids[0],
        }
        for task in spec.task_ids
        for attempt in spec.attempts
    ]
    writer = ShardStore(layout).open(spec, Origin(None, None, SCHEMA_VERSION))
    writer.write_part([select_keys(row, SAMPLE_KEYS) for row in rows])
    writer.seal([])


def honest_specs(plan: PlanFile) -> list[JobSpec]:
    return [spec for spec in plan.specs if spec.kind is JobKind.HONEST_LOGPROB]


def test_it_is_chosen_once_and_the_same_for_every_checkpoint(make_config: MakeConfig) -> None:
    config = make_config(logprob={"honest_reasoning": "own"}, problems={"max_problems": 4})
    made = make_plan(config)
    layout = create_run(config, made, ["foreshock", "run"])
    plan = made.file
    assert not honest_specs(plan)
    assert CHOSEN_LATER in plan.extra[ADMISSION]["notes"]
    assert next_specs(layout, plan, config) is None  # nothing is sampled yet
    unprompted = [spec for spec in plan.specs if spec.kind is JobKind.EVAL and spec.levels == (0,)]
    first, *others = sorted(unprompted, key=lambda spec: spec.checkpoint)
    for spec in others:
        seal(layout, spec, honest_attempt=0)
    assert next_specs(layout, plan, config) is None  # not of the first one
    seal(layout, first, honest_attempt=1)
    _, larger = next_specs(layout, plan, config) or pytest.fail("nothing follows")
    chosen = read_honest(layout.honest)
    lacking, *found = chosen.values()
    assert (lacking.task_id, lacking.text) == (first.task_ids[0], None)
    assert lacking.reason == "no honest one among its 2 samples: 2 exploited"
    assert {(one.checkpoint, one.attempt_idx) for one in found} == {("checkpoint-1", 1)}
    assert any("1 task " in note and "2 exploited" in note for note in larger.extra[ADMISSION]["notes"])
    assert CHOSEN_LATER not in larger.extra[ADMISSION]["notes"]
    specs = honest_specs(larger)
    assert [spec.checkpoint.name for spec in specs] == ["checkpoint-1", "checkpoint-2", "checkpoint-4"]
    assert len({spec.prefill_sha256 for spec in specs}) == 1
    assert next_specs(layout, larger, config) is None

    seal(layout, first, honest_attempt=0)  # killed after choosing, and the samples are others now: chosen once
    _, again = next_specs(layout, plan, config) or pytest.fail("nothing follows")
    assert {spec.key() for spec in again.specs} == {spec.key() for spec in larger.specs}

    rest = [spec.checkpoint for spec in others]
    begun = PlanFile(
        tuple(spec for spec in larger.specs if spec.checkpoint not in rest), larger.settings, extra=larger.extra
    )
    inputs = RunInputs.read(layout, begun.settings.assignment, begun.n_attempts)
    grown = grow_plan(config, begun, inputs, rest)  # a watch's later checkpoints
    assert {spec.key() for spec in honest_specs(grown)} == {spec.key() for spec in specs}


def test_it_needs_unprompted_samples_or_a_file_that_has_some(make_config: MakeConfig, traces: object) -> None:
    with pytest.raises(InputError, match="lacks level 0"):
        make_config(logprob={"honest_reasoning": "own"}, prefill={"levels": [10]})
    plan = make_plan(make_config(logprob={"honest_reasoning": str(traces)})).file
    assert len(honest_specs(plan)) == 3 * 3
    assert not [spec for spec in plan.specs if spec.kind is JobKind.EXPLOIT_LOGPROB]  # only with exploit_code
    with pytest.raises(InputError, match=r"honest_reasoning: .*absent"):
        make_plan(make_config(logprob={"honest_reasoning": "absent.jsonl", "reference": "gone"}))
