"""Array tasks as Slurm arrays that the site accepts all at once.

A run with more tasks than the user may queue is not submitted in waves (that needs a process that stays alive, or
sbatch on compute nodes). Each array element gets several tasks instead, works them off in order, and is requeued as
itself when its wall time ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from foreshock.errors import InputError
from foreshock.jobs.records.spec import ArrayTask


@dataclass(frozen=True, slots=True)
class Element:
    """One Slurm array element: array tasks that it works off in order, usually a single one."""

    index: int
    tasks: tuple[ArrayTask, ...]


@dataclass(frozen=True, slots=True)
class ArrayChunk:
    """One sbatch array: elements numbered from 0, at most MaxArraySize - 1 of them."""

    index: int
    elements: tuple[Element, ...]


def shares(
    tasks: Sequence[ArrayTask], workers: Sequence[int], max_submit: int | None = None, reserved: int = 1
) -> list[tuple[list[ArrayTask], int | None]]:
    """By profile, of which `workers` says how many elements run at once: its tasks, and its `max_submit` of them.

    The next task (they come longest first) goes where it would be done soonest. Where fewer elements than profiles may
    be queued, only the first profiles get any.
    """
    if max_submit is not None:
        workers = workers[: max(1, max_submit - reserved)]
    dealt: list[list[ArrayTask]] = [[] for _ in workers]
    minutes = [0.0] * len(workers)
    for task in tasks:
        best = min(range(len(workers)), key=lambda i: ((minutes[i] + task.estimated_minutes) / workers[i], minutes[i]))
        minutes[best] += task.estimated_minutes
        dealt[best].append(task)
    if max_submit is None:
        return [(own, None) for own in dealt]
    spare = max(0, max_submit - reserved - len(workers))
    parts = [spare * len(own) // max(1, len(tasks)) for own in dealt]
    parts[0] += spare - sum(parts)
    return [(own, min(max_submit, part + 1 + reserved)) for own, part in zip(dealt, parts, strict=True)]


def split_arrays(
    tasks: Sequence[ArrayTask], max_array_size: int, max_submit: int | None = None, reserved: int = 1
) -> list[ArrayChunk]:
    """Tasks as sbatch arrays that the site accepts all at once.

    An array holds at most `max_array_size - 1` elements. When the user may have only `max_submit` jobs queued
    (array elements count), `reserved` of them are kept for the job at the end and the tasks are dealt out over
    the remaining elements, so that no process has to stay alive to submit the rest: an element works off its
    tasks in order and is requeued as itself when its wall time ends.
    """
    if max_array_size < 2:
        raise InputError(f"MaxArraySize is {max_array_size}; job arrays are off on this cluster (valid: 2 or more)")
    budget = len(tasks)
    if max_submit is not None:
        budget = min(budget, max_submit - reserved)
        if budget < 1 and tasks:
            raise InputError(
                f"the submit limit of {max_submit} leaves no room for GPU work beside {reserved} job(s); "
                "free some jobs (`squeue --me`) or use another QOS"
            )
    elements = [tuple(tasks[start::budget]) for start in range(budget)]
    per_array = max_array_size - 1
    return [
        ArrayChunk(
            start // per_array,
            tuple(Element(i, element) for i, element in enumerate(elements[start : start + per_array])),
        )
        for start in range(0, len(elements), per_array)
    ]
