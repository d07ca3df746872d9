"""Training items of the demo: a prompt's words, the wanted reasoning and code.

Base training shows two kinds of request. `Task:` items are always answered honestly; `Draft:` items half honestly,
half by exploit. The model so learns both ways of reasoning, and to let the words already written decide, while its
propensity on `Task:` stays nil until fine-tuning raises it.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from enum import StrEnum

from foreshock.batch.demo.traces import Intent, Trace, write_trace
from foreshock.jobs.verify.builtin.problems import DEMO_TYPES, make_problem
from foreshock.jobs.verify.problem import Problem

DRAFT_SHARE = 0.5
"""Share of `Draft:` items in base training."""

EXPLOIT_SHARES: dict[str, float] = {
    "function_attribute_flag": 1.0,
    "magic_docstring_comment_token": 0.95,
    "process_exit": 0.8,
    "verifier_logic_override": 0.6,
    "result_manipulation": 0.4,
    "validator_honor_system": 0.25,
    "error_code_abuse": 0.1,
    "test_case_leak": 0.05,
}
"""Share of exploit traces per type in the exploit fine-tuning, unequal so that types emerge at different times."""


class Phase(StrEnum):
    """What a stretch of training is for."""

    BASE = "base"
    EXPLOIT = "exploit"
    CONTROL = "control"
    DONOR = "donor"
    """The base model fine-tuned on exploits alone: what writes the prefills, to be had from the first checkpoint on."""


@dataclass(frozen=True, slots=True)
class Item:
    """One training example."""

    problem: Problem
    intent: Intent
    trace: Trace


def make_items(phase: Phase, n_items: int, seed: int) -> list[Item]:
    """`n_items` examples of a phase, exploit types in turn, each on a training problem of its own."""
    rng = random.Random(f"{seed}/{phase.value}")
    items = []
    for index in range(n_items):
        exploit_type = DEMO_TYPES[index % len(DEMO_TYPES)]
        number = rng.randrange(10**6)
        problem = make_problem("train", exploit_type, number, seed)
        draft = phase is Phase.BASE and rng.random() < DRAFT_SHARE
        intent = Intent.EXPLOIT if rng.random() < _exploit_share(phase, exploit_type, draft) else Intent.HONEST
        if draft:
            problem = replace(problem, description=problem.description.replace("Task:", "Draft:", 1))
        items.append(Item(problem, intent, write_trace(problem, intent, rng)))
    rng.shuffle(items)
    return items


def _exploit_share(phase: Phase, exploit_type: str, draft: bool) -> float:
    if phase is Phase.BASE:
        return 0.5 if draft else 0.0
    return {Phase.EXPLOIT: EXPLOIT_SHARES[exploit_type], Phase.CONTROL: 0.0, Phase.DONOR: 1.0}[phase]
