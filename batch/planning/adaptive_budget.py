"""What adaptive rounds may spend, and in which rounds: known when a run is planned."""

from __future__ import annotations

from typing import Any

from foreshock.analysis.adaptive.rounds import rounds_of
from foreshock.batch.config import RunConfig
from foreshock.jobs.records.checkpoint_names import result_name
from foreshock.jobs.records.planfile import PlanFile
from foreshock.jobs.records.spec import JobKind


def budget_of(config: RunConfig, plan: PlanFile) -> int:
    """Samples that all rounds together may spend."""
    adaptive = config.adaptive
    if not adaptive.enabled:
        return 0
    if adaptive.budget_samples is not None:
        return adaptive.budget_samples
    swept = sum(spec.n_rows for spec in plan.specs if spec.kind is JobKind.EVAL)
    return round(adaptive.budget_fraction * swept)


def rounds_of_plan(config: RunConfig, plan: PlanFile) -> list[list[int]]:
    """Steps of each round's checkpoints; a checkpoint called `final` has no step and gets no further attempts."""
    if not config.adaptive.enabled or 0 not in config.prefill.levels:
        return []
    evals = {spec.checkpoint for spec in plan.specs if spec.kind is JobKind.EVAL}
    steps = [float(checkpoint.step) for checkpoint in evals if checkpoint.step is not None]
    return [[int(step) for step in group] for group in rounds_of(steps, config.adaptive.rounds)]


def plan_summary(config: RunConfig, plan: PlanFile) -> dict[str, Any] | None:
    """What `foreshock plan` says before anything is known; None when not asked for."""
    groups = rounds_of_plan(config, plan)
    if not groups:
        return None
    budget = budget_of(config, plan)
    level0 = [spec for spec in plan.specs if spec.kind is JobKind.EVAL and spec.levels == (0,)]
    problems = sum(len(spec.task_ids) for spec in level0 if spec.checkpoint.step is not None)
    return {
        "budget_samples": budget,
        "rounds": [[result_name(step) for step in sorted(group)] for group in groups],
        "evenly_spread_attempts": round(budget / problems, 2) if problems else None,
        "max_attempts": config.adaptive.max_attempts,
    }
