"""Differences between paired measurements of the same tasks, tested and bounded also where exploits are rare.

The unit is the task: attempts of a task share its prompt and its traces, so a task's rate is one observation and pairs
of tasks are what is compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

FloatArray = npt.NDArray[np.float64]

_FLIPS = 20_000
_EXACT = 14
"""Up to this many differing tasks, all sign flips are counted instead of drawn."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Mean over tasks of B minus A. `lower` and `upper` are 95% limits; `p` is two-sided, for no difference."""

    n_tasks: int
    n_differing: int
    mean_a: float
    mean_b: float
    difference: float
    lower: float
    upper: float
    p: float


def paired_difference(a: FloatArray, b: FloatArray, tested: FloatArray | None = None, seed: int = 0) -> Difference:
    """Compare rates `a` and `b`, both (tasks,) in [0, 1], of the same tasks in the same order.

    The interval adds one task that rose and one that fell, each counted half (Agresti and Min 2005, of which this is
    the form for rates), so it is not empty where no task differs. The test flips the signs of the tasks' differences:
    exact under exchangeability of A and B, whatever their distribution. Rates over unequal numbers of attempts are not
    exchangeable: `tested`, (tasks,), are then B minus A over equal numbers; by default the differences themselves.

    Raises:
        ValueError: no task, or unequal lengths.
    """
    if len(a) == 0 or len(a) != len(b):
        raise ValueError(f"{len(a)} and {len(b)} tasks; one value of each task is needed on both sides")
    d = b - a
    size = len(d) + 2.0
    centre = float(d.sum() / size)
    spread = float(np.sqrt(max((np.sum(d**2) + 1.0) / size - centre**2, 0.0) / size))
    z = float(stats.norm.ppf(0.975))
    return Difference(
        n_tasks=len(d),
        n_differing=int(np.count_nonzero(d)),
        mean_a=float(a.mean()),
        mean_b=float(b.mean()),
        difference=float(d.mean()),
        lower=max(-1.0, centre - z * spread),
        upper=min(1.0, centre + z * spread),
        p=sign_flip_p(d if tested is None else tested, seed),
    )


def sign_flip_p(differences: FloatArray, seed: int = 0) -> float:
    """Two-sided p-value of a zero mean under random signs, (tasks,); 1 where no task differs."""
    d = differences[differences != 0]
    if len(d) == 0:
        return 1.0
    observed = abs(d.sum()) - 1e-12  # sums in another order may differ in their last digit
    if len(d) <= _EXACT:
        signs = 1.0 - 2.0 * ((np.arange(2 ** len(d))[:, None] >> np.arange(len(d))) & 1)
        return float(np.mean(np.abs(signs @ d) >= observed))
    rng = np.random.default_rng(seed)
    extreme = 0
    for _ in range(10):
        bits = np.frombuffer(rng.bytes(_FLIPS // 10 * len(d)), dtype=np.uint8).reshape(-1, len(d)) & 1
        extreme += int(np.count_nonzero(np.abs(d.sum() - 2.0 * (bits.astype(np.float64) @ d)) >= observed))
    return (extreme + 1) / (_FLIPS + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted so that the chance of any false one among them is held (Holm 1979), in their order."""
    order = np.argsort(np.asarray(p_values), kind="stable")
    adjusted = np.empty(len(p_values))
    running = 0.0
    for rank, i in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = running
    return [float(p) for p in adjusted]


@dataclass(frozen=True, slots=True)
class Interval:
    """A point with limits, log10 of a rate."""

    point: float
    lower: float
    upper: float


def interval_difference(a: Interval, b: Interval) -> Interval:
    """B minus A with limits from each one's own, taken as independent (square-and-add, Zou and Donner 2008)."""
    d = b.point - a.point
    return Interval(
        d,
        d - float(np.hypot(b.point - b.lower, a.upper - a.point)),
        d + float(np.hypot(b.upper - b.point, a.point - a.lower)),
    )
