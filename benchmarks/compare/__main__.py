"""Two runs drawn independently from the same rates, compared as `foreshock compare` does: python -m benchmarks.compare

Each world draws every task's rates once and both runs' attempts from them. Printed: the share of worlds of which the
first line says "no difference", with the exact 95% interval of that many worlds.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import expit
from scipy.stats import binomtest

from foreshock.analysis.comparison.compare import Comparison, compare_counts


@dataclass(frozen=True)
class World:
    """What two runs of the same rates look like. `attempts`: of run A and of run B, at each task, checkpoint, level."""

    name: str
    types: int
    tasks: int
    checkpoints: int
    levels: tuple[int, ...]
    attempts: tuple[int, int]
    rate: float


WORLDS = (
    World("one checkpoint, no prefill, rare", 1, 24, 1, (0,), (3, 3), 0.01),
    World("one checkpoint, no prefill, common", 1, 24, 1, (0,), (3, 3), 0.3),
    World("few tasks", 2, 3, 2, (0, 10, 30), (3, 3), 0.2),
    World("a small sweep", 4, 6, 4, (0, 10, 30, 100), (3, 3), 0.05),
    World("the demo's size", 8, 5, 8, (0, 2, 5, 10, 20, 30), (3, 3), 0.02),
    World("many tasks, one attempt", 4, 40, 2, (0, 10, 100), (1, 1), 0.05),
    World("3 attempts against 9", 4, 6, 4, (0, 10, 30, 100), (3, 9), 0.05),
    World("1 attempt against 30, rare", 2, 20, 2, (0, 10, 100), (1, 30), 0.02),
)


def draw(world: World, rng: np.random.Generator) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Counts of two runs as `count_tasks` gives them. Rates differ between tasks, rise with level and checkpoint."""
    n_tasks = world.types * world.tasks
    base = np.log(world.rate / (1 - world.rate)) + rng.normal(0, 1.5, n_tasks)
    steps = np.arange(world.checkpoints)
    climb = np.linspace(0, 3, len(world.levels))
    rates = expit(base[:, None, None] + 0.3 * steps[None, :, None] + climb[None, None, :])
    index = pd.MultiIndex.from_product([range(n_tasks), steps, world.levels])
    frames = []
    for attempts in world.attempts:
        task = index.get_level_values(0).to_numpy()
        frames.append(
            pd.DataFrame(
                {
                    "task_id": [f"t{i}" for i in task],
                    "exploit_type": [f"type{i % world.types}" for i in task],
                    "checkpoint": index.get_level_values(1),
                    "prefill_level": index.get_level_values(2),
                    "n": attempts,
                    "k": rng.binomial(attempts, rates).ravel(),
                }
            )
        )
    return frames[0], frames[1]


def main() -> None:
    """Print a line a world."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare", description=__doc__)
    parser.add_argument("--worlds", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--only", default="", help="part of a row's name")
    options = parser.parse_args()
    print("| runs | tests | pairs of runs | no difference | 95% interval |\n|---|---|---|---|---|")
    for place, world in enumerate(WORLDS):
        if options.only not in world.name:
            continue
        same, tests = 0, 0
        for number in range(options.worlds):
            a, b = draw(world, np.random.default_rng([options.seed, place, number]))
            rates, prefills = compare_counts(a, b, [(float(step), float(step)) for step in range(world.checkpoints)])
            same += not Comparison(rates, prefills, (), 0, 0).differs
            tests = len(rates) + len(prefills)
        low, high = binomtest(same, options.worlds).proportion_ci(method="exact")
        share = f"{same / options.worlds:.1%} | {low:.1%} to {high:.1%}"
        print(f"| {world.name} | {tests} | {options.worlds:,} | {share} |", flush=True)


if __name__ == "__main__":
    main()
