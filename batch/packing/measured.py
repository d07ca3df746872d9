"""What packing works with: how many workers, how long a task may take, what rows cost.

Costs start as the profile's guesses and are corrected by the manifests of the run itself, nothing else, so a plan can
be explained from files that lie in the run directory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from foreshock.batch.config import Cluster, RunConfig
from foreshock.batch.executors.factory import default_workers
from foreshock.batch.packing.cost import CostModel, ShardTiming
from foreshock.batch.packing.pack import pack
from foreshock.jobs.records.layout import RunLayout
from foreshock.jobs.records.planfile import PlanFile
from foreshock.jobs.records.shards import ShardStore
from foreshock.jobs.spec import ArrayTask, JobSpec

DEFAULT_SLURM_WORKERS = 8  # GPUs assumed when neither configuration nor profile says how many
_WORK_PHASES = ("generate_s", "verify_s", "score_s")
_LOCAL_LOADS = {"transformers": (5.0, 0.5), "vllm": (60.0, 2.0)}
"""Seconds to start each engine on this machine, and to swap the model in it; shards correct them."""


@dataclass(frozen=True, slots=True)
class Resources:
    """Inputs of `pack`. `max_minutes` is the whole wall time; packing keeps its own safety margin."""

    cost: CostModel
    n_workers: int
    max_minutes: float


def resources(config: RunConfig, layout: RunLayout | None = None, plan: PlanFile | None = None) -> Resources:
    """Resources of a configuration; with a run, costs are re-estimated from its finished shards."""
    if config.execution.cluster is Cluster.SLURM:
        from foreshock.slurm.profile import load_profile

        profile = load_profile(config.execution.profile or "gpu")
        cost = CostModel.from_json(profile.costs)
        n_workers = config.execution.workers or profile.array_throttle or DEFAULT_SLURM_WORKERS
        wall = profile.time - profile.signal_lead_s / 60
        found = Resources(cost, n_workers, min(wall, config.execution.max_minutes))
    else:
        # Only proportions matter here, since nothing waits in a queue.
        load_s, swap_s = _LOCAL_LOADS.get(config.engine.name, _LOCAL_LOADS["transformers"])
        cost = CostModel(load_s=load_s, swap_s=swap_s)
        found = Resources(cost, default_workers(config), config.execution.max_minutes)
    if layout is None or plan is None:
        return found
    return Resources(found.cost.reestimate(_timings(layout, plan, found.cost)), found.n_workers, found.max_minutes)


def _timings(layout: RunLayout, plan: PlanFile, prior: CostModel) -> Iterator[ShardTiming]:
    store = ShardStore(layout)
    for spec in plan.specs:
        manifest = store.manifest(spec)
        if manifest is None or not manifest.timings:
            continue
        timings = manifest.timings
        load_s = timings.get("load_s")
        yield ShardTiming(
            spec.kind,
            max(spec.levels, default=0),
            round(timings.get("rows", 0)),
            sum(timings.get(name, 0.0) for name in _WORK_PHASES),
            load_s,
            first_load=bool(timings.get("first_load", _looks_like_a_start(load_s, prior))),
        )


def _looks_like_a_start(load_s: float | None, prior: CostModel) -> bool:
    """For manifests of earlier versions, which do not say whether the engine was started or only swapped."""
    return load_s is not None and load_s >= (prior.load_s + prior.swap_s) / 2


def pack_tasks(
    specs: list[JobSpec], config: RunConfig, layout: RunLayout | None = None, plan: PlanFile | None = None
) -> list[ArrayTask]:
    """Array tasks for the workers at hand; a run's own finished shards correct the costs."""
    at_hand = resources(config, layout, plan)
    return pack(specs, at_hand.cost, at_hand.n_workers, at_hand.max_minutes)
