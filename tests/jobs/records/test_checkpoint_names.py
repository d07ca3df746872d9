"""Directory names of trainers become steps, and names in results come back as they were."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreshock.errors import InputError
from foreshock.jobs.records.checkpoint_names import (
    DEFAULT_RULES,
    REVISION_RULES,
    NamingRule,
    checkpoint_order,
    gathered,
    result_name,
    result_step,
    sort_names,
    step_of_directory,
)

STEPS = st.one_of(st.none(), st.integers(0, 10**17))


@given(STEPS)
def test_names_in_results_come_back(step: int | None) -> None:
    assert result_step(result_name(step)) == step


@given(st.lists(STEPS, unique=True, min_size=2))
def test_final_sorts_last_and_the_others_by_number(steps: list[int | None]) -> None:
    ordered = sorted(map(result_name, steps), key=checkpoint_order)
    numbers = sorted(step for step in steps if step is not None)
    assert ordered == [result_name(step) for step in numbers] + (["final"] if None in steps else [])


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("checkpoint-40", 40),
        ("checkpoint_40", 40),
        ("global_step_40", 40),
        ("global_step40", 40),
        ("step_40", 40),
        ("step-40", 40),
        ("iter_0000040", 40),
        ("epoch-3", 3),
        ("final", None),
    ],
)
def test_what_trainers_write_is_known(name: str, step: int | None) -> None:
    assert step_of_directory(name) == step
    found = sort_names([name, "runs", "logs"], None, "/x", DEFAULT_RULES)
    assert found.steps == {step: name}
    assert found.unmatched == ()


@pytest.mark.parametrize("name", ["checkpoint-40-merged", "ckpt-40", "model_step40.old", "Step 40", "best-ckpt-7"])
def test_what_only_looks_like_a_step_is_named(name: str) -> None:
    found = sort_names([name, "step-1", "tokenizer"], None, "/x", DEFAULT_RULES)
    assert found.steps == {1: "step-1"}
    assert found.unmatched == (name,)
    with pytest.raises(ValueError, match="is not a checkpoint name; valid: checkpoint-N, global_step_N"):
        step_of_directory(name)


def test_a_further_rule_is_one_entry() -> None:
    rules = (*DEFAULT_RULES, NamingRule("save.N", re.compile(r"save\.(?P<step>\d+)")))
    found = sort_names(["save.5", "save.20", "final"], None, "/x", rules)
    assert found.steps == {5: "save.5", 20: "save.20", None: "final"}


def test_a_users_pattern_decides_alone() -> None:
    names = ["run7-00100", "run7-00200", "checkpoint-5", "final"]
    found = sort_names(names, r"run7-(?P<step>\d+)", "/x", DEFAULT_RULES)
    assert found.steps == {100: "run7-00100", 200: "run7-00200", None: "final"}
    assert found.unmatched == ("checkpoint-5",)


@pytest.mark.parametrize(
    ("names", "pattern", "message"),
    [
        (["step-1", "checkpoint-1"], None, "named in 2 ways"),
        (["epoch-1", "step-100"], None, "named in 2 ways"),
        (["step-10", "step_10"], None, "both step 10"),
        (["iter_010", "iter_10"], None, "both step 10"),
        (["a1"], "a(", "is not a regular expression"),
        (["a1"], r"a\d", "has no group `step`"),
        (["a-b"], r"a-(?P<step>\w)", "not a whole number"),
    ],
)
def test_names_that_cannot_be_told_apart_are_refused(names: list[str], pattern: str | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        sort_names(names, pattern, "/x", DEFAULT_RULES)


def test_revisions_on_the_hub_say_more_than_the_step() -> None:
    found = sort_names(["main", "stage1-step1000-tokens5B", "stage1-step2000-tokens9B"], None, "x", REVISION_RULES)
    assert list(found.steps) == [1000, 2000]
    with pytest.raises(InputError, match="both step 1000"):
        sort_names(["stage1-step1000-tokens5B", "stage2-step1000-tokens5B"], None, "x", REVISION_RULES)


def test_notes_that_say_the_same_of_several_checkpoints_become_one() -> None:
    names = [f"checkpoint-{n}" for n in range(3)]
    notes = ["checkpoint-0: a: b", "of the run: c", "checkpoint-1: a: b", "checkpoint-2: d", "checkpoint-9: a: b"]
    assert gathered(notes, names) == [
        "checkpoint-0, checkpoint-1: a: b",
        "of the run: c",
        "checkpoint-2: d",
        "checkpoint-9: a: b",
    ]
