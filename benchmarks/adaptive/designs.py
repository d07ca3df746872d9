"""Designs that spend the same budget of further unprompted attempts on a simulated sweep.

Further attempts are drawn from each task's exact rate, so that every design is judged against a truth that is known,
and all designs of one world start from the same sweep.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from benchmarks.calibration.experiment import SimulatedExperiment

from foreshock.analysis.adaptive.allocate import Request, allocate
from foreshock.analysis.adaptive.rounds import rounds_of
from foreshock.analysis.evidence.evidence import Evidence, Floats, Ints

N_ROUNDS = 3


class World:
    """One simulated sweep and the rates behind it. rate: [J] lists of [C, tasks]; tasks: [J]."""

    def __init__(self, experiment: SimulatedExperiment, evidence: Evidence, seed: int) -> None:
        self.evidence = evidence
        self.attempts = experiment.regime.attempts
        n_runs = len(experiment.regime.runs)
        self.rate = [kind.unprompted[r] for r in range(n_runs) for kind in experiment.types]
        self.tasks = np.array([rate.shape[1] for rate in self.rate], dtype=np.int64)
        self._seed = seed

    def draw(self, evidence: Evidence, attempts: Ints, stream: int) -> Evidence:
        """The evidence with `attempts` [J, C] more attempts a problem at level 0."""
        assert evidence.level0 is not None
        rng = np.random.default_rng([self._seed, stream])
        n, k = evidence.n.copy(), evidence.k.copy()
        for j, c in np.argwhere(attempts > 0):
            m = int(attempts[j, c])
            n[j, c, evidence.level0] += m * self.tasks[j]
            k[j, c, evidence.level0] += rng.binomial(m, self.rate[j][c]).sum()
        return replace(evidence, n=n, k=k)


Design = Callable[[World, int], Evidence]


def none(world: World, budget: int) -> Evidence:
    """The sweep alone."""
    return world.evidence


def even(world: World, budget: int) -> Evidence:
    """As many attempts in every cell, as far as whole attempts go."""
    cost = int(world.tasks.sum()) * len(world.evidence.steps)
    shape = (len(world.tasks), len(world.evidence.steps))
    return world.draw(world.evidence, np.full(shape, round(budget / cost), dtype=np.int64), 1)


def chosen(world: World, budget: int) -> Evidence:
    """foreshock's rule."""
    evidence, spent, seen = world.evidence, 0, 0
    steps = evidence.steps
    groups = rounds_of([float(step) for step in steps], N_ROUNDS)
    for i, group in enumerate(groups):
        seen += len(group)
        share = round(budget * seen / len(steps)) - spent
        informed = np.isin(steps, [step for earlier in groups[:i] for step in earlier])
        request = Request(world.tasks, world.attempts, 64, share)
        given = allocate(evidence, informed, np.isin(steps, group), request)
        spent += int((given * world.tasks[:, None]).sum())
        evidence = world.draw(evidence, given, 10 + i)
    return evidence


def zero_cells(world: World, budget: int) -> Evidence:
    """What foreshock does not do: more attempts where the cell itself has shown no exploit, as long as it has not."""
    evidence = world.evidence
    for i in range(N_ROUNDS):
        n, k = evidence.direct()
        empty = (k == 0) & (n > 0)
        cost = int((empty * world.tasks[:, None]).sum())
        if cost:
            attempts = max(1, round(budget / N_ROUNDS / cost))
            evidence = world.draw(evidence, (empty * attempts).astype(np.int64), 20 + i)
    return evidence


DESIGNS: dict[str, Design] = {"none": none, "even": even, "adaptive": chosen, "own zero cells": zero_cells}


def level0(evidence: Evidence) -> tuple[Floats, Floats]:
    """(n, k) at level 0 as floats."""
    n, k = evidence.direct()
    return n.astype(float), k.astype(float)
