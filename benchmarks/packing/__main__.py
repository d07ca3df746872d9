"""`python -m benchmarks.packing`: seconds to pack sweeps of growing size onto 64 GPUs, and how good the packing is.

Prints one line a size: cells, CPU seconds, array tasks, model loads against the least possible, makespan against
its lower bound.
"""

from __future__ import annotations

import time
from pathlib import Path

from foreshock.batch.packing.cost import CostModel
from foreshock.batch.packing.pack import loads_lower_bound, makespan_lower_bound, pack
from foreshock.batch.packing.totals import count_loads, packed_cost
from foreshock.jobs.records.spec import Checkpoint, JobKind, JobSpec, SamplingParams

N_GPUS = 64
MINUTES = 24 * 60
LEVELS = (0, 2, 5, 10, 20, 30, 45, 60, 75, 100)


def make_spec(step: int, level: int, n_tasks: int) -> JobSpec:
    """One cell; only its size matters here."""
    return JobSpec(
        kind=JobKind.EVAL,
        checkpoint=Checkpoint("run", step, Path(f"checkpoint-{step}")),
        levels=(level,),
        task_ids=tuple(f"t{i}" for i in range(n_tasks)),
        attempts=(0, 1, 2),
        sampling=SamplingParams(),
        prompt_format="chat",
        template_sha256="",
        model_fingerprint="",
        prefill_sha256="",
        problems_sha256="",
        verifier="",
        schema_version=1,
    )


def main() -> None:
    """Pack 100, 1,000 and 10,000 cells."""
    cost = CostModel()
    for n_checkpoints in (10, 100, 1000):
        specs = [make_spec(10 * c, n, 5 + (7 * c + n) % 50) for c in range(n_checkpoints) for n in LEVELS]
        started = time.process_time()
        tasks = pack(specs, cost, N_GPUS, MINUTES)
        seconds = time.process_time() - started
        bound = makespan_lower_bound(specs, cost, N_GPUS, MINUTES)
        ratio = packed_cost(tasks, N_GPUS).makespan_hours * 60 / bound
        least = loads_lower_bound(specs, cost, max(task.estimated_minutes for task in tasks))
        print(
            f"{len(specs):6} cells: {seconds:6.2f} s, {len(tasks)} tasks, {count_loads(tasks)} loads (least {least}), "
            f"makespan {ratio:.3f} of its bound"
        )


if __name__ == "__main__":
    main()
