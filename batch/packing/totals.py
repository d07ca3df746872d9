"""What a list of array tasks costs: loads, GPU hours, makespan, and which tasks are too long."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush

from foreshock.batch.packing.cost import CostModel
from foreshock.jobs.records.spec import ArrayTask, Checkpoint, JobSpec


@dataclass(frozen=True, slots=True)
class PackedCost:
    """What a list of tasks would take. GPU hours count every task's load; the makespan lists tasks in order."""

    n_tasks: int
    n_loads: int
    gpu_hours: float
    makespan_hours: float


def oversized(tasks: Iterable[ArrayTask], max_minutes: float) -> list[ArrayTask]:
    """Tasks estimated above the wall time: single specs too long for it, which finish only over requeues."""
    return [task for task in tasks if task.estimated_minutes > max_minutes]


def count_loads(tasks: Iterable[ArrayTask]) -> int:
    """Model loads and swaps over all tasks, each task starting with nothing loaded."""
    total = 0
    for task in tasks:
        loaded: Checkpoint | None = None
        for spec in task.specs:
            total += spec.checkpoint != loaded
            loaded = spec.checkpoint
    return total


def packed_cost(tasks: Sequence[ArrayTask], n_workers: int) -> PackedCost:
    """Loads, GPU hours and makespan of `tasks`, started in their order on `n_workers` workers."""
    minutes = [task.estimated_minutes for task in tasks]
    return PackedCost(len(tasks), count_loads(tasks), sum(minutes) / 60, list_makespan(minutes, n_workers) / 60)


def unpacked_cost(specs: Sequence[JobSpec], cost: CostModel, n_workers: int) -> PackedCost:
    """The same work as one array task per spec, every one of which starts an engine."""
    seconds = [cost.chain_seconds([spec]) for spec in sorted(specs, key=JobSpec.key)]
    return PackedCost(len(seconds), len(seconds), sum(seconds) / 3600, list_makespan(seconds, n_workers) / 3600)


def list_makespan(durations: Sequence[float], n_workers: int) -> float:
    """When the last of `durations` ends, each started in order on the first worker that is free."""
    ends = [0.0] * n_workers
    for duration in durations:
        heappush(ends, heappop(ends) + duration)
    return max(ends)
