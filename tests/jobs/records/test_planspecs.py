"""Plans of many checkpoints are small, and what is read back is what was written."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from foreshock.jobs.records.planspecs import decode_specs, encode_specs
from foreshock.jobs.records.spec import Checkpoint, JobKind, JobSpec, SamplingParams


def spec(step: int, level: int, shard: int, kind: JobKind = JobKind.EVAL, fingerprint: str = "f") -> JobSpec:
    return JobSpec(
        kind=kind,
        checkpoint=Checkpoint("run", step, Path(f"/models/checkpoint-{step}")),
        levels=(level,),
        task_ids=tuple(f"task-{shard}-{i}" for i in range(16)),
        attempts=(0, 1),
        sampling=SamplingParams(stop=("END",)),
        prompt_format="chat",
        template_sha256="t" * 64,
        model_fingerprint=f"{fingerprint}-{step}",
        prefill_sha256=f"{level}".zfill(64),
        problems_sha256=f"{shard}".zfill(64),
        verifier="v",
        schema_version=1,
        shard_index=shard,
    )


SPECS = st.builds(
    spec,
    st.integers(0, 3),
    st.integers(0, 2),
    st.integers(0, 2),
    st.sampled_from([JobKind.EVAL, JobKind.GROUND_TRUTH]),
    st.sampled_from(["f", "g"]),
)


@given(st.lists(SPECS, max_size=30))
def test_any_specs_in_any_order_are_read_back(specs: list[JobSpec]) -> None:
    again = decode_specs(json.loads(json.dumps(encode_specs(specs))))
    assert list(again) == specs
    assert [one.key() for one in again] == [one.key() for one in specs]


def test_plans_of_earlier_versions_are_read(tmp_path: Path) -> None:
    specs = [spec(1, 0, 0), spec(2, 10, 1)]
    assert list(decode_specs({"specs": [one.to_json() for one in specs]})) == specs


def test_a_further_checkpoint_costs_no_second_copy_of_the_tasks() -> None:
    def size(n: int) -> int:
        specs = [spec(step, level, shard) for step in range(n) for level in range(10) for shard in range(4)]
        return len(json.dumps(encode_specs(specs)))

    assert (size(101) - size(1)) / 100 < 400


def test_a_key_is_of_the_specs_own_fields() -> None:
    one = spec(1, 0, 0)
    assert one.key() == one.key()
    assert replace(one, shard_index=5).key() != one.key()
    assert replace(one, shard_index=5) != one
