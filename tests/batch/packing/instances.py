"""Random packing instances, and the exact least number of loads for small ones."""

from __future__ import annotations

import math
import random
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from foreshock.batch.packing.cost import CostModel, RowCost
from foreshock.jobs.records.spec import Checkpoint, JobKind, JobSpec, SamplingParams

LEVELS = (0, 2, 5, 10, 20, 30, 45, 60, 75, 100)


@dataclass(frozen=True)
class Instance:
    """A packing problem."""

    specs: list[JobSpec]
    cost: CostModel
    n_workers: int
    max_minutes: float


def spec(kind: JobKind, step: int, levels: tuple[int, ...], n_tasks: int, shard: int = 0) -> JobSpec:
    """A spec of checkpoint `step` over `n_tasks` tasks."""
    return JobSpec(
        kind=kind,
        checkpoint=Checkpoint("run", step, Path(f"/models/checkpoint-{step}")),
        levels=levels,
        task_ids=tuple(f"task-{shard}-{i}" for i in range(n_tasks)),
        attempts=(0, 1, 2) if kind is JobKind.EVAL else (0,),
        sampling=SamplingParams(),
        prompt_format="plain",
        template_sha256="t",
        model_fingerprint=f"model-{step}",
        prefill_sha256="p",
        problems_sha256="q",
        verifier="builtin",
        schema_version=1,
        shard_index=shard,
    )


def heterogeneous(seed: int, n_checkpoints: int | None = None, specs_per_worker: int = 8) -> Instance:
    """Levels whose rows differ up to 15-fold, shards of uneven size, missing cells, loads from cheap to dear.

    At least `specs_per_worker` specs a worker, and four times a load's worth of work: with less, no schedule
    need come near an averaging bound.
    """
    rng = random.Random(seed)
    levels = sorted(rng.sample(LEVELS, rng.randint(1, 8)))
    base = rng.uniform(0.05, 2.0)
    rows = [RowCost(JobKind.EVAL, level, base * rng.uniform(0.2, 3.0)) for level in levels]
    rows.append(RowCost(JobKind.LOGPROB, 0, rng.uniform(0.01, 0.2)))
    n_shards = rng.randint(1, 6)
    specs = []
    for c in range(n_checkpoints or rng.randint(1, 30)):
        for level in levels:
            if rng.random() < 0.1:
                continue
            specs += [spec(JobKind.EVAL, 10 * c + 10, (level,), rng.randint(5, 60), s) for s in range(n_shards)]
        specs.append(spec(JobKind.LOGPROB, 10 * c + 10, tuple(levels), rng.randint(20, 200)))
    load_s = rng.uniform(10, 200)
    cost = CostModel(load_s, load_s * rng.uniform(0.02, 1.0), tuple(rows))
    total = sum(map(cost.spec_seconds, specs))
    most = max(1, min(len(specs) // specs_per_worker, int(total / (4 * load_s))))
    n_workers = max(n for n in (1, 2, 4, 8, 16, 32, 64) if n <= most)
    return Instance(specs, cost, rng.randint(max(1, n_workers // 2), n_workers), rng.choice([60, 240, 1440]))


def least_loads(instance: Instance, task_minutes: float, n_tasks: int) -> int:
    """The exact least number of loads in at most `n_tasks` tasks of `task_minutes`, specs cut at will.

    A task and a checkpoint are linked when the one loads the other. A connected part with c checkpoints and b
    tasks has at least c + b - 1 links, and needs b * T >= work + b * load + (c - 1) * swap. So the least number
    is C + min over partitions of the checkpoints of sum(b - 1), found over subsets; small C only.
    """
    cost, seconds = instance.cost, task_minutes * 60
    work: dict[int | None, float] = defaultdict(float)
    for s in instance.specs:
        work[s.checkpoint.step] += cost.spec_seconds(s)
    works = list(work.values())
    n_sets = 1 << len(works)
    need = [0] * n_sets
    for mask in range(1, n_sets):
        total = sum(w for i, w in enumerate(works) if mask >> i & 1) + (mask.bit_count() - 1) * cost.swap_s
        need[mask] = max(1, math.ceil(total / (seconds - cost.load_s) - 1e-9))
    best: list[dict[int, int]] = [{0: 0}] + [{} for _ in range(n_sets - 1)]
    for mask in range(1, n_sets):
        lowest = mask & -mask
        others = sub = mask ^ lowest
        while True:
            part = sub | lowest
            for used, extra in best[mask ^ part].items():
                total_tasks = used + need[part]
                if total_tasks <= n_tasks:
                    now = extra + need[part] - 1
                    best[mask][total_tasks] = min(now, best[mask].get(total_tasks, now))
            if sub == 0:
                break
            sub = (sub - 1) & others
    return len(works) + min(best[-1].values())
