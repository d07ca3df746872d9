"""A plan in numbers, for people and scripts."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Any

from foreshock.batch.config import RunConfig
from foreshock.batch.packing.measured import pack_tasks, resources
from foreshock.batch.packing.totals import count_loads, packed_cost, unpacked_cost
from foreshock.batch.planning.adaptive_budget import plan_summary
from foreshock.batch.planning.admission import ADMISSION
from foreshock.batch.planning.make_plan import RunPlan
from foreshock.batch.planning.memory_fit import hybrid_notes, memory_summary
from foreshock.batch.planning.problem_checks import EXTRA
from foreshock.batch.planning.show_prompt import prompt_of_plan
from foreshock.batch.site import Site
from foreshock.jobs.engines.registry import ENGINES
from foreshock.jobs.records.checkpoint_names import gathered
from foreshock.jobs.records.layout import ResultsLayout
from foreshock.jobs.records.problem_checks import check_lines
from foreshock.jobs.records.spec import JobKind
from foreshock.jobs.scoring.levels import scoring_temperature


def summarise(plan: RunPlan, site: Site) -> dict[str, Any]:
    """Cells, rows, packing and what is left out."""
    config = plan.config
    specs = list(plan.file.specs)
    runs = ResultsLayout(config.results_dir).sensitivity
    tasks = pack_tasks(specs, site, runs=runs)
    at_hand = resources(site, specs=specs, runs=runs)
    workers = at_hand.n_workers
    rows: Counter[str] = Counter()
    for spec in specs:
        rows[spec.kind.value] += spec.n_rows
    packed, unpacked = packed_cost(tasks, workers), unpacked_cost(specs, at_hand.cost, workers)
    return {
        "run": config.checkpoints.run_name,
        "checkpoints": [checkpoint.name for checkpoint in plan.checkpoints],
        "levels": list(config.prefill.levels),
        "attempts": config.sampling.attempts,
        "problems": len(plan.inputs.problems),
        "problems_by_exploit_type": dict(Counter(p.exploit_type for p in plan.inputs.problems.values())),
        "traces": sum(map(len, plan.inputs.traces.values())),
        "cells": len(plan.checkpoints) * len(config.prefill.levels),
        "rows": dict(rows),
        "rows_total": plan.n_rows,
        "shards": len(specs),
        "skipped": [
            {"checkpoint": s.checkpoint, "level": s.level, "n_tasks": s.n_tasks, "reason": s.reason}
            for s in plan.file.skipped
        ],
        "notes": [
            *gathered(plan.file.extra[ADMISSION]["notes"], plan.file.extra[ADMISSION]["checkpoints"]),
            *check_lines(plan.file.extra[EXTRA]),
            *_scoring_notes(plan),
            *hybrid_notes(plan),
            *([] if site.image_note is None else [site.image_note]),
        ],
        "problem_checks": plan.file.extra[EXTRA],
        "differences": plan.file.extra[ADMISSION]["differences"],
        "prompting": plan.file.settings.rendering,
        "prompt": prompt_of_plan(plan),
        "lengths": plan.file.extra["lengths"],
        "engine": plan.file.settings.engine,
        "engine_reason": plan.engine_reason,
        "verifier": plan.file.settings.verifier,
        "cluster": config.execution.cluster.value,
        "profiles": profile_shares(config, site),
        "workers": workers,
        "array_tasks": [
            {
                "index": task.index,
                "specs": len(task.specs),
                "checkpoints": sorted({spec.checkpoint.name for spec in task.specs}),
                "estimated_minutes": round(task.estimated_minutes, 2),
            }
            for task in tasks
        ],
        "costs": {"from": at_hand.source} | at_hand.cost.to_json(),
        "model_loads": count_loads(tasks),
        "memory": memory_summary(plan, site),
        "adaptive": plan_summary(config, plan.file),
        "estimate": {"packed": asdict(packed), "unpacked": asdict(unpacked)},
    }


def profile_shares(config: RunConfig, site: Site) -> list[dict[str, Any]]:
    """The Slurm profiles that share the work, each with the array elements that it may run at once."""
    if site.slurm is None:
        return []
    names = (site.slurm.name, *config.execution.more_profiles)
    return [{"name": name, "workers": n} for name, n in zip(names, site.slurm.workers, strict=True)]


def _scoring_notes(plan: RunPlan) -> list[str]:
    """Whether the engine can score this run's prefills at its temperature, where that is not certain."""
    ask = ENGINES.get(plan.file.settings.engine).scoring_problem
    scored = next((spec for spec in plan.file.specs if spec.kind is JobKind.LOGPROB), None)
    if ask is None or scored is None:
        return []
    temperature = scoring_temperature(scored.sampling.temperature)
    problem = ask(scored.checkpoint, plan.file.settings.engine_options, temperature)
    return [] if problem is None else [f"prefills may not be scored at temperature {temperature:g}: {problem}"]
