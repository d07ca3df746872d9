"""What packing works with: how many workers, how long a task may take, what rows cost.

Costs start as the profile's guesses and are corrected by the manifests of the run itself, nothing else, so a plan can
be explained from files that lie in the run directory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from foreshock.batch.packing.cost import CostModel, ShardTiming
from foreshock.batch.packing.pack import pack
from foreshock.batch.site import Site
from foreshock.jobs.records.layout import RunLayout
from foreshock.jobs.records.planfile import PlanFile
from foreshock.jobs.records.shards import ShardStore
from foreshock.jobs.spec import ArrayTask, JobSpec

_WORK_PHASES = ("generate_s", "verify_s", "score_s")


@dataclass(frozen=True, slots=True)
class Resources:
    """Inputs of `pack`. `max_minutes` is the whole wall time; packing keeps its own safety margin."""

    cost: CostModel
    n_workers: int
    max_minutes: float


def resources(site: Site, layout: RunLayout | None = None, plan: PlanFile | None = None) -> Resources:
    """Resources of a site; with a run, costs are re-estimated from its finished shards."""
    found = Resources(_first_guess(site), site.workers, site.wall_minutes)
    if layout is None or plan is None:
        return found
    return Resources(found.cost.reestimate(_timings(layout, plan, found.cost)), found.n_workers, found.max_minutes)


def _first_guess(site: Site) -> CostModel:
    if site.slurm is not None:
        return CostModel.from_json(site.slurm.profile.costs)
    # Only proportions matter here, since nothing waits in a queue.
    return CostModel(load_s=site.engine.load_s, swap_s=site.engine.swap_s)


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
    specs: list[JobSpec], site: Site, layout: RunLayout | None = None, plan: PlanFile | None = None
) -> list[ArrayTask]:
    """Array tasks for the workers at hand; a run's own finished shards correct the costs."""
    at_hand = resources(site, layout, plan)
    return pack(specs, at_hand.cost, at_hand.n_workers, at_hand.max_minutes)
