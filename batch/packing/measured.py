"""What packing works with: how many workers, how long a task may take, what rows cost.

Costs start as what earlier runs below the same results directory measured (see `learned`), else as the profile's
guesses, and are corrected by the manifests of the run itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from foreshock.batch.packing.cost import CostModel, ShardTiming
from foreshock.batch.packing.learned import WORK_PHASES, Learned, learned_costs, scaled_guess, weight_bytes
from foreshock.batch.packing.pack import pack
from foreshock.batch.site import Site
from foreshock.errors import InputError
from foreshock.jobs.records.layout import RunLayout
from foreshock.jobs.records.planfile import PlanFile
from foreshock.jobs.records.shards import ShardStore
from foreshock.jobs.records.spec import ArrayTask, JobSpec


@dataclass(frozen=True, slots=True)
class Resources:
    """Inputs of `pack`. `max_minutes` is the whole wall time; packing keeps its own safety margin."""

    cost: CostModel
    n_workers: int
    max_minutes: float
    source: str = ""
    """Where the costs come from, in words."""


def resources(
    site: Site,
    layout: RunLayout | None = None,
    plan: PlanFile | None = None,
    specs: Sequence[JobSpec] = (),
    runs: Path | None = None,
) -> Resources:
    """Resources of a site for `specs`, with what earlier runs in the folder `runs` measured.

    With a run, costs are re-estimated from its finished shards.
    """
    runs = layout.root.parent if runs is None and layout is not None else runs
    first = _first_guess(site, specs, runs)
    found = Resources(first.cost, site.workers, site.wall_minutes, first.source)
    if layout is None or plan is None:
        return found
    return replace(found, cost=found.cost.reestimate(_timings(layout, plan, found.cost)))


def _first_guess(site: Site, specs: Sequence[JobSpec], runs: Path | None) -> Learned:
    size = weight_bytes(specs[-1].checkpoint.path) if specs and site.engine.on_device else None
    tokens = max((spec.sampling.max_tokens for spec in specs), default=0)
    if site.slurm is not None:
        costs = site.slurm.profile.costs
        guess = CostModel.from_json(costs)
        on_gpu = site.uses_gpus and site.slurm.profile.gpus > 0
    else:  # only proportions matter here, since nothing waits in a queue
        costs, guess = {}, CostModel(load_s=site.engine.load_s, swap_s=site.engine.swap_s)
        on_gpu = site.uses_gpus and size is not None and site.gpus > 0
    learned = None
    if runs is not None:
        learned = learned_costs(runs, guess, site.engine.name, size, tokens, on_gpu=on_gpu)
    if learned is not None:
        return learned
    if site.slurm is None:
        return Learned(guess, "assumed")
    of_gib = costs.get("weights_gib")
    if of_gib is not None and not (isinstance(of_gib, int | float) and of_gib > 0):
        raise InputError(f"costs.weights_gib in the Slurm profile is {of_gib!r}; valid: GiB, above 0")
    return scaled_guess(guess, of_gib, size)


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
            sum(timings.get(name, 0.0) for name in WORK_PHASES),
            load_s,
            first_load=bool(timings.get("first_load", _looks_like_a_start(load_s, prior))),
        )


def _looks_like_a_start(load_s: float | None, prior: CostModel) -> bool:
    """For manifests of earlier versions, which do not say whether the engine was started or only swapped."""
    return load_s is not None and load_s >= (prior.load_s + prior.swap_s) / 2


def pack_tasks(
    specs: list[JobSpec],
    site: Site,
    layout: RunLayout | None = None,
    plan: PlanFile | None = None,
    runs: Path | None = None,
) -> list[ArrayTask]:
    """Array tasks for the workers at hand; see `resources` for what they are taken to cost."""
    at_hand = resources(site, layout, plan, specs, runs)
    return pack(specs, at_hand.cost, at_hand.n_workers, at_hand.max_minutes)
