"""One simulated experiment: outcomes, log-probabilities and donor rollouts of all types, with the true rates.

Both runs of a type share the same prefill traces, as in a real sweep where one prefill source serves every run, so
their importance-sampling errors are correlated in the simulation too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from benchmarks.calibration.arrays import Array, Ints, draw
from benchmarks.calibration.graded import draw_scored
from benchmarks.calibration.regimes import Regime
from benchmarks.calibration.world import draw_chains
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class SimulatedType:
    """One exploit type in every run. Axes: R runs, C checkpoints, L levels above 0, Z prefill traces.

    `task`, `attempt`: [Z] of each trace; a task without a trace is absent there but present at level 0.
    level0: [R, C, n_tasks, attempts] exploit (0/1); success: [L, R, C, Z]; log_p: [L, R, C, Z]; log_q: [L, Z].
    donor_level0: [n_tasks, rollouts]; donor_rollouts: [L, Z, rollouts]; truth: [R, C] exact rates;
    unprompted: [R, C, n_tasks] each task's exact rate.
    """

    name: str
    n_tasks: int
    task: Ints
    attempt: Ints
    words: Ints
    level0: Ints
    success: Ints
    log_p: Array
    log_q: Array
    donor_level0: Ints
    donor_rollouts: Ints
    truth: Array
    unprompted: Array


@dataclass(frozen=True, slots=True)
class SimulatedExperiment:
    """All types of one simulated sweep; `missing`: [R, C, L] cells that were not run, levels as in the regime."""

    regime: Regime
    seed: int
    types: tuple[SimulatedType, ...]
    missing: NDArray[np.bool_]


def _bernoulli(rng: np.random.Generator, p: Array) -> Ints:
    return (rng.random(p.shape) < p).astype(np.int64)


def _simulate_type(rng: np.random.Generator, regime: Regime, name: str) -> SimulatedType:
    target_of_tasks, donor, n = draw_scored(rng, regime) if regime.graded else draw_chains(rng, regime)
    levels = tuple(level for level in regime.levels if level > 0)
    task = np.tile(np.arange(n), regime.attempts)
    attempt = np.repeat(np.arange(regime.attempts), n)
    donor_rate = donor.unprompted()
    words = np.concatenate([donor.sample(rng, regime.donor_conditioned) for _ in range(regime.attempts)])
    if regime.donor_conditioned:
        # A task whose donor never succeeded in `donor_pool` tries has no banked trace.
        banked = rng.random(n) < 1 - (1 - donor_rate) ** regime.donor_pool
        keep = banked[task]
        task, attempt, words = task[keep], attempt[keep], words[keep]
    target = target_of_tasks.rows(task)
    log_p, rate = target.score(words, levels)
    log_q, donor_r = donor.rows(task).score(words, levels)
    if regime.register_nats.high > 0:
        log_p = log_p - float(draw(rng, regime.register_nats))
    unprompted = target_of_tasks.unprompted()
    draws0 = np.broadcast_to(unprompted[..., None], (*unprompted.shape, regime.attempts))
    return SimulatedType(
        name=name,
        n_tasks=n,
        task=task,
        attempt=attempt,
        words=words,
        level0=_bernoulli(rng, draws0),
        success=_bernoulli(rng, rate),
        log_p=log_p,
        log_q=log_q,
        donor_level0=_bernoulli(rng, np.repeat(donor_rate[:, None], regime.donor_rollouts_level0, axis=1)),
        donor_rollouts=_bernoulli(rng, np.repeat(donor_r[..., None], regime.donor_rollouts_level_n, axis=-1)),
        truth=unprompted.mean(-1),
        unprompted=unprompted,
    )


def simulate(regime: Regime, seed: int) -> SimulatedExperiment:
    """Simulate one experiment; the same (regime, seed) gives the same numbers."""
    root = np.random.SeedSequence([seed, *regime.name.encode()])
    children = root.spawn(regime.n_types + 1)
    shape = (len(regime.runs), len(regime.checkpoints), len(regime.levels))
    missing = np.random.default_rng(children.pop()).random(shape) < regime.missing
    types = tuple(
        _simulate_type(np.random.default_rng(child), regime, f"type_{i:02d}") for i, child in enumerate(children)
    )
    return SimulatedExperiment(regime, seed, types, missing)
