"""`--adaptive`: rounds of further unprompted attempts after the sweep, where they narrow the estimates most.

A round is a file. What it samples is decided from the tables that the rounds before it left, written to
`adaptive/round-N.json` before any of its work exists, and never decided again. A kill anywhere therefore costs work
and nothing else: before the file, the same tables give the same decision; after it, the file is read.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from foreshock.batch.config import RunConfig
from foreshock.batch.planning.adaptive_budget import budget_of, rounds_of_plan
from foreshock.batch.planning.make_plan import extra_specs
from foreshock.errors import InputError
from foreshock.jobs.inputs import RunInputs
from foreshock.jobs.records.checkpoint_names import result_name
from foreshock.jobs.records.jsonl import read_json, read_rows, write_json
from foreshock.jobs.records.layout import RunLayout
from foreshock.jobs.records.planfile import PlanFile
from foreshock.jobs.records.spec import JobKind, JobSpec


def round_file(layout: RunLayout, number: int) -> Path:
    """The decision of a round, counted from 1."""
    return layout.adaptive / f"round-{number}.json"


def next_round(layout: RunLayout, plan: PlanFile, config: RunConfig) -> PlanFile | None:
    """The plan with the next round's specs, durable; None when every round is in the plan.

    Call it when all that is planned so far is complete: its tables are what the round is decided from.
    """
    groups = rounds_of_plan(config, plan)
    inputs: RunInputs | None = None
    for number, steps in enumerate(groups, start=1):
        path = round_file(layout, number)
        if not path.is_file():
            write_json(path, _decide(layout, plan, config, number, steps, [s for g in groups[: number - 1] for s in g]))
        if inputs is None:
            inputs = RunInputs.read(layout, plan.settings.assignment, plan.n_attempts)
        fresh = [spec for spec in _specs(plan, config, inputs, path) if spec.key() not in plan.by_key]
        if fresh:
            larger = plan.with_specs(fresh)
            larger.write(layout)
            return larger
    return None


def read_rounds(layout: RunLayout) -> list[dict[str, Any]]:
    """The decisions made so far, in order."""
    found: list[dict[str, Any]] = []
    while (path := round_file(layout, len(found) + 1)).is_file():
        found.append(read_json(path))
    return found


def _decide(
    layout: RunLayout, plan: PlanFile, config: RunConfig, number: int, steps: list[int], informed_by: list[int]
) -> dict[str, Any]:
    from foreshock.analysis.adaptive.allocate import Request, allocate
    from foreshock.analysis.aggregate import aggregate
    from foreshock.analysis.evidence.load import load_evidence

    total = budget_of(config, plan)
    spent = sum(item["spent"] for item in read_rounds(layout)[: number - 1])
    groups = rounds_of_plan(config, plan)
    seen = sum(len(group) for group in groups[:number])
    budget = round(total * seen / sum(map(len, groups))) - spent
    aggregate(layout)
    evidence = load_evidence([layout.root], config.analysis.donor_run, config.prefill.conditioned).evidence
    problems = Counter(row["exploit_type"] for row in read_rows(layout.problems, ("id", "exploit_type")))
    request = Request(
        tasks=np.array([problems[surface.exploit_type] for surface in evidence.surfaces], dtype=np.int64),
        batch=config.sampling.attempts,
        most=config.adaptive.max_attempts,
        budget=budget,
    )
    given = allocate(evidence, np.isin(evidence.steps, informed_by), np.isin(evidence.steps, steps), request)
    cells: list[dict[str, Any]] = [
        {
            "checkpoint": result_name(round(evidence.steps[c])),
            "exploit_type": evidence.surfaces[j].exploit_type,
            "attempts": int(given[j, c]),
            "problems": int(request.tasks[j]),
        }
        for c in range(len(evidence.steps))
        for j in range(len(evidence.surfaces))
        if given[j, c]
    ]
    return {
        "round": number,
        "checkpoints": [result_name(step) for step in sorted(steps)],
        "informed_by": [result_name(step) for step in sorted(informed_by)],
        "budget": budget,
        "spent": sum(cell["attempts"] * cell["problems"] for cell in cells),
        "cells": cells,
    }


def _specs(plan: PlanFile, config: RunConfig, inputs: RunInputs, path: Path) -> list[JobSpec]:
    """The specs of a decision; the same for the same file."""
    specs: list[JobSpec] = []
    indices: Counter[str] = Counter()
    for cell in read_json(path)["cells"]:
        base = next(
            (
                spec
                for spec in plan.specs
                if spec.kind is JobKind.EVAL and spec.levels == (0,) and spec.checkpoint.name == cell["checkpoint"]
            ),
            None,
        )
        if base is None:
            raise InputError(f"names {cell['checkpoint']}, which this run's plan lacks", path=path)
        tasks = [task for task, problem in inputs.problems.items() if problem.exploit_type == cell["exploit_type"]]
        made = extra_specs(config, plan, inputs, base, tasks, cell["attempts"], indices[cell["checkpoint"]])
        indices[cell["checkpoint"]] += len(made)
        specs += made
    return specs
