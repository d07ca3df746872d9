"""Identity: what changes rows changes the key, what does not leaves it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreshock.jobs.records.checkpoint_names import result_step
from foreshock.jobs.records.spec import Checkpoint, JobKind, JobSpec, SamplingParams, row_seed

SPEC = JobSpec(
    kind=JobKind.EVAL,
    checkpoint=Checkpoint("sft", 8, Path("/a/checkpoint-8")),
    levels=(10,),
    task_ids=("t1", "t2"),
    attempts=(0, 1),
    sampling=SamplingParams(),
    prompt_format="chat",
    template_sha256="t",
    model_fingerprint="m",
    prefill_sha256="p",
    problems_sha256="q",
    verifier="builtin",
    schema_version=1,
)


@pytest.mark.parametrize(
    "change",
    [
        {"kind": JobKind.LOGPROB},
        {"levels": (20,)},
        {"task_ids": ("t1",)},
        {"attempts": (0,)},
        {"sampling": SamplingParams(temperature=0.7)},
        {"sampling": SamplingParams(seed=1)},
        {"sampling": SamplingParams(stop=("\n\n",))},
        {"prompt_format": "harmony"},
        {"template_sha256": "u"},
        {"model_fingerprint": "n"},
        {"prefill_sha256": "r"},
        {"problems_sha256": "s"},
        {"verifier": "djinn"},
        {"schema_version": 2},
        {"checkpoint": Checkpoint("sft", 9, Path("/a/checkpoint-9"))},
    ],
)
def test_whatever_changes_rows_changes_the_key(change: dict[str, Any]) -> None:
    assert replace(SPEC, **change).key() != SPEC.key()


def test_where_the_checkpoint_lies_is_not_identity() -> None:
    moved = replace(SPEC, checkpoint=Checkpoint("sft", 8, Path("/b/checkpoint-8")))
    assert moved.key() == SPEC.key()


@pytest.mark.parametrize("stop", [(), ("###", "\n\n")])
def test_specs_survive_json(stop: tuple[str, ...]) -> None:
    spec = replace(SPEC, sampling=SamplingParams(stop=stop))
    again = JobSpec.from_json(json.loads(json.dumps(spec.to_json())))
    assert again == spec
    assert again.key() == spec.key()


def test_final_sorts_last_and_names_parse() -> None:
    points = [Checkpoint("r", step, Path()) for step in (None, 10, 2)]
    assert [point.name for point in sorted(points)] == ["checkpoint-2", "checkpoint-10", "final"]
    assert [result_step(point.name) for point in points] == [None, 10, 2]
    with pytest.raises(ValueError, match="valid: checkpoint-N or final"):
        result_step("epoch-3")


@given(st.integers(0, 9), st.text(), st.integers(0, 9), st.text(), st.integers(0, 9), st.text())
def test_seeds_are_stable_and_fit_63_bits(base: int, name: str, level: int, task: str, attempt: int, sha: str) -> None:
    seed = row_seed(base, name, level, task, attempt, sha)
    assert seed == row_seed(base, name, level, task, attempt, sha)
    assert 0 <= seed < 2**63
    assert seed != row_seed(base, name, level, task, attempt + 1, sha)
