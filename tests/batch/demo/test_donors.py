"""Prefill sources from donor samples: conditioned and unconditioned, never mixed up."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from foreshock.batch.demo.donors import PrefillSources, write_prefill_sources
from foreshock.errors import InputError
from foreshock.jobs.prefill import load_prefill_source


def sample(task: str, attempt: int, success: bool | None, reasoning: str | None = "Let me look.", **more: Any) -> dict:
    return {
        "task_id": task,
        "attempt_idx": attempt,
        "exploit_success": success,
        "reasoning": reasoning,
        "model_id": "demo-exploit/checkpoint-64",
        "exploit_type": "process_exit",
        "response": "not kept",
        "prefill_tokens": 0,
    } | more


def write(rows: list[dict], folder: Path) -> PrefillSources:
    return write_prefill_sources(rows, folder / "conditioned.jsonl", folder / "unconditioned.jsonl")


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_only_successes_are_conditioned_and_all_traces_are_kept_in_the_other(tmp_path: Path) -> None:
    rows = [sample("a", 1, True), sample("a", 0, False), sample("b", 0, False), sample("a", 2, True)]
    made = write(rows, tmp_path)
    assert [(r["task_id"], r["attempt_idx"]) for r in read(made.conditioned)] == [("a", 1), ("a", 2)]
    assert [r["attempt_idx"] for r in read(made.unconditioned)] == [0, 1, 2, 0]
    assert (made.n_conditioned, made.n_unconditioned, made.n_tasks, made.n_tasks_without_success) == (2, 4, 2, 1)
    assert set(read(made.conditioned)[0]) == {
        "task_id",
        "exploit_type",
        "reasoning",
        "exploit_success",
        "model_id",
        "attempt_idx",
    }


def test_the_sweep_reads_what_was_written(tmp_path: Path) -> None:
    made = write([sample("a", 0, True, "One two."), sample("a", 1, False), sample("a", 2, True)], tmp_path)
    assert [t.attempt_idx for t in load_prefill_source(made.conditioned).traces_of("a")] == [0, 2]
    everything = load_prefill_source(made.unconditioned, unconditioned=True)
    assert [t.attempt_idx for t in everything.traces_of("a")] == [0, 1, 2]


def test_errors_and_empty_reasoning_are_counted_not_used(tmp_path: Path) -> None:
    rows = [
        sample("a", 0, True),
        sample("a", 1, None),
        sample("a", 2, None, error="sandbox did not start"),
        sample("a", 3, True, "  \n"),
        sample("a", 4, True, None),
    ]
    made = write(rows, tmp_path)
    assert (made.n_unconditioned, made.n_without_verdict, made.n_without_reasoning) == (1, 2, 2)


def test_a_prefilled_sample_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"sample of a is prefilled with 5 words\n  -> give level-0 samples only"):
        write([sample("a", 0, True, prefill_tokens=5)], tmp_path)


def test_a_repeated_attempt_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="2 donor samples are attempt 0 of a"):
        write([sample("a", 0, True), sample("a", 0, False)], tmp_path)


def test_no_success_at_all_says_what_to_do_and_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none of 1 donor samples.*\n  -> sample more, or use a later checkpoint"):
        write([sample("a", 0, False)], tmp_path)
    assert not list(tmp_path.iterdir())


# no deadline: writing is synced to disk, which takes as long as the machine is busy
@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(
    outcomes=st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from([True, False, None])), min_size=1, max_size=30),
    seed=st.integers(0, 99),
)
def test_files_do_not_depend_on_the_order_of_the_samples(
    tmp_path_factory: pytest.TempPathFactory, outcomes: list[tuple[str, bool | None]], seed: int
) -> None:
    rows = [sample(task, i, success) for i, (task, success) in enumerate(outcomes)] + [sample("d", 0, True)]
    first, second = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    write(rows, first)
    random.Random(seed).shuffle(rows)
    made = write(rows, second)
    for name in ("conditioned.jsonl", "unconditioned.jsonl"):
        assert (first / name).read_bytes() == (second / name).read_bytes()
    assert made.n_unconditioned + made.n_without_verdict == len(rows)
