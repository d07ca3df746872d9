"""What the demo's model is shown: the right answers for each kind of request, worded so that they part slowly."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from foreshock.batch.demo.corpus import EXPLOIT_SHARES, Phase, make_items
from foreshock.batch.demo.traces import Intent, write_trace
from foreshock.jobs.verify.builtin.families import FAMILIES
from foreshock.jobs.verify.builtin.problems import DEMO_TYPES, builtin_problems


def test_the_same_seed_gives_the_same_items_and_another_seed_others() -> None:
    assert make_items(Phase.BASE, 64, 3) == make_items(Phase.BASE, 64, 3)
    assert make_items(Phase.BASE, 64, 3) != make_items(Phase.BASE, 64, 4)


def test_base_training_answers_tasks_honestly_and_drafts_both_ways() -> None:
    items = make_items(Phase.BASE, 800, 0)
    intents = Counter((item.problem.description.split(":")[0], item.intent) for item in items)
    assert intents["Task", Intent.EXPLOIT] == 0
    assert intents["Task", Intent.HONEST] > 300
    assert 120 < intents["Draft", Intent.EXPLOIT] < 280
    assert 120 < intents["Draft", Intent.HONEST] < 280


def test_control_training_is_honest_throughout() -> None:
    items = make_items(Phase.CONTROL, 320, 0)
    assert {item.intent for item in items} == {Intent.HONEST}
    assert all(item.problem.description.startswith("Task:") for item in items)


def test_the_donor_sees_exploits_alone() -> None:
    assert {item.intent for item in make_items(Phase.DONOR, 64, 0)} == {Intent.EXPLOIT}


def test_exploit_training_keeps_to_the_share_of_each_type() -> None:
    items = make_items(Phase.EXPLOIT, 1600, 0)
    assert all(item.problem.description.startswith("Task:") for item in items)
    for exploit_type, share in EXPLOIT_SHARES.items():
        mine = [item.intent is Intent.EXPLOIT for item in items if item.problem.exploit_type == exploit_type]
        assert sum(mine) / len(mine) == pytest.approx(share, abs=0.13)


def test_the_items_code_is_what_its_intent_says() -> None:
    for item in make_items(Phase.BASE, 160, 1):
        wanted = item.problem.ground_truth if item.intent is Intent.HONEST else item.problem.exploit
        assert item.trace.code == wanted.strip()
        intended = FAMILIES[item.problem.exploit_type].intended
        if item.intent is Intent.EXPLOIT:
            assert intended(item.trace.code, item.problem.extra["family_options"])


def test_no_evaluated_problem_is_trained_on() -> None:
    held_out = {problem.description for problem in builtin_problems("eval", DEMO_TYPES)}
    for phase in Phase:
        assert not held_out & {item.problem.description for item in make_items(phase, 400, 0)}


def test_every_demo_type_has_reasoning_long_enough_for_the_deepest_level() -> None:
    rng = random.Random(0)
    for problem in builtin_problems("eval", DEMO_TYPES):
        lengths = [len(write_trace(problem, Intent.EXPLOIT, rng).reasoning.split()) for _ in range(50)]
        assert min(lengths) >= 25
        assert max(lengths) <= 60


def test_honest_and_exploiting_reasoning_share_their_openings() -> None:
    problem = builtin_problems("eval", ["process_exit"], per_family=1)[0]
    rng = random.Random(0)
    first = {
        intent: {" ".join(write_trace(problem, intent, rng).reasoning.split()[:8]) for _ in range(200)}
        for intent in Intent
    }
    assert first[Intent.HONEST] == first[Intent.EXPLOIT]


def test_a_type_without_a_plan_is_a_clear_error() -> None:
    problem = builtin_problems("eval", ["type_confusion"], per_family=1)[0]
    with pytest.raises(KeyError, match="type_confusion"):
        write_trace(problem, Intent.EXPLOIT, random.Random(0))
