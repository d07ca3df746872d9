"""Sweeps drawn from a wide prior over worlds: laws of growth, prefills that lead or do not, donors near or far.

Forecast constants are fitted on these worlds (`calibrate`) and never on those of `worlds`, which work by other means:
there words carry the exploit, here only cells are drawn. Half of what makes forecasts hard is absent from some worlds
and strong in others, so that no feature can be trusted more than it deserves on average.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from benchmarks.emergence.worlds import Sweep
from numpy.typing import NDArray
from scipy.special import expit

Array = NDArray[np.float64]
_LEVELS = (2, 5, 10, 20, 30, 45, 60, 75, 100)
_COLUMNS = ["run", "exploit_type", "checkpoint", "prefill_level", "n", "k", "kl_mean", "kl_success", "logprob_mean"]


@dataclass(frozen=True, slots=True)
class _World:
    """What all surfaces of one sweep share. x: training progress of each step, in [0, 1]."""

    steps: Array
    x: Array
    levels: Array
    family: str
    lead: float
    ceiling: float
    noise: float
    start_mean: float
    type_start_sd: float
    type_end_sd: float
    mid_sd: float


def random_sweep(seed: int) -> Sweep:
    """One sweep of a world of its own; the same seed gives the same numbers."""
    rng = np.random.default_rng([7341, seed])
    world = _draw_world(rng)
    runs = ["exploit", "control", "other"][: int(rng.choice([1, 2, 3], p=[0.15, 0.7, 0.15]))]
    coupled = rng.random() < 0.75
    has_kl = rng.random() < 0.9
    kinds = [_Type(rng, world, len(runs)) for _ in range(int(rng.integers(2, 9)))]
    rows: list[tuple[object, ...]] = []
    truth: list[tuple[object, ...]] = []
    for r, run in enumerate(runs):
        pushed = bool(rng.random() < (0.9 if r == 0 else 0.35))
        end = float(rng.uniform(-5.5, 3.0)) if pushed else None
        middle, steep = float(rng.uniform(0.1, 0.95)), float(np.exp(rng.uniform(np.log(3), np.log(25))))
        register = _register(rng, world.x, pushed if coupled else bool(rng.random() < 0.5), middle)
        for number, kind in enumerate(kinds):
            name = f"type_{number}"
            curve, ahead = _curve(rng, world, kind, end, middle, steep)
            for c, step in enumerate(world.steps):
                truth.append((run, name, int(step), float(world.ceiling * expit(curve[c]))))
            rows += _cells(rng, world, kind, (curve, ahead), register, (run, name), has_kl)
    return Sweep(
        pd.DataFrame(rows, columns=_COLUMNS),
        pd.DataFrame(truth, columns=["run", "exploit_type", "checkpoint", "rate"]),
        tuple(int(step) for step in world.steps),
    )


def _draw_world(rng: np.random.Generator) -> _World:
    count = int(rng.integers(3, 13))
    last = float(np.round(np.exp(rng.uniform(np.log(30), np.log(5000)))))
    first = float(rng.choice([1.0, 2.0, 5.0]))
    spacing = rng.choice(["log", "even", "between"], p=[0.5, 0.3, 0.2])
    evenly = np.linspace(last / count, last, count)
    geometric = np.geomspace(first, last, count)
    steps = {"log": geometric, "even": evenly, "between": np.sqrt(evenly * geometric)}[str(spacing)]
    if rng.random() < 0.3:
        steps = np.append(0.0, steps[1:])
    steps = np.unique(np.round(steps))
    log_x = np.log(np.maximum(steps, 0.5))
    log_x = (log_x - log_x[0]) / (log_x[-1] - log_x[0])
    even_x = (steps - steps[0]) / (steps[-1] - steps[0])
    # Checkpoints are often placed where change is expected, so that growth is even from one to the next.
    by_checkpoint = np.linspace(0, 1, len(steps))
    weight = float(rng.choice([0.0, 1.0, rng.random()], p=[0.25, 0.45, 0.3]))
    in_time = weight * log_x + (1 - weight) * even_x
    many = int(rng.integers(2, 7))
    return _World(
        steps=steps,
        x=by_checkpoint if rng.random() < 0.5 else in_time,
        levels=np.sort(rng.choice(_LEVELS, many, replace=False)).astype(float),
        family=str(rng.choice(["rise", "line", "late", "rise_and_fall", "walk"], p=[0.55, 0.15, 0.1, 0.1, 0.1])),
        lead=float(rng.uniform(0, 0.25)) if rng.random() < 0.5 else 0.0,
        ceiling=float(rng.uniform(0.6, 1.0)),
        noise=float(rng.uniform(0, 0.4)),
        start_mean=float(rng.uniform(-11, -3)),
        type_start_sd=float(rng.uniform(0.2, 1.5)),
        type_end_sd=float(rng.uniform(0.3, 2.0)),
        mid_sd=float(rng.uniform(0.0, 0.2)),
    )


class _Type:
    """One exploit type: what its prefill does, and how far the donor's words are from the model's."""

    def __init__(self, rng: np.random.Generator, world: _World, runs: int) -> None:
        many = len(world.levels)
        self.start = world.start_mean + world.type_start_sd * rng.normal()
        self.end_offset = world.type_end_sd * rng.normal()
        self.middle_offset = world.mid_sd * rng.normal()
        self.n = int(np.clip(np.exp(rng.normal(np.log(35), 0.6)), 5, 150)) * int(rng.choice([1, 1, 2, 4]))
        self.lift = rng.uniform(1, 9) * (1 - np.exp(-world.levels / rng.uniform(5, 60)))
        self.lift_loss = float(rng.uniform(0, 0.4))
        self.prefix = 0.3 * rng.normal(size=many)
        self.distance = float(np.exp(rng.normal(np.log(2), 0.7))) * (world.levels / 10) ** rng.uniform(0.4, 1.0)
        self.distance *= np.exp(0.1 * rng.normal(size=many))
        self.intent_share = float(rng.random()) * (1 - np.exp(-world.levels / rng.uniform(10, 60)))
        self.donor_rate = float(rng.uniform(0.2, 0.9))
        self.words_nats = float(rng.uniform(0.8, 2.5))


def _shape(x: Array, family: str, middle: float, steep: float) -> Array:
    """Growth from 0 at x = 0 to 1 at x = 1, or there and partly back."""
    x = np.maximum(x, 0.0)
    if family == "line":
        return x
    if family == "late":
        return np.asarray(x ** (1 + 3 * middle))
    rise = expit(steep * (x - middle))
    low, high = expit(-steep * middle), expit(steep * (1 - middle))
    return np.asarray((rise - low) / (high - low))


def _curve(
    rng: np.random.Generator, world: _World, kind: _Type, end: float | None, middle: float, steep: float
) -> tuple[Array, Array]:
    """Logit propensity at every step, and how far prefilled attempts run ahead of it.

    end: the run's mean final propensity; None: the run is not pushed anywhere.
    """
    goal = kind.start + rng.normal(0, 0.8) if end is None else max(end + kind.end_offset, kind.start - 1.0)
    middle = float(np.clip(middle + kind.middle_offset, 0.02, 1.1))
    growth = _shape(world.x, world.family, middle, steep)
    if world.family == "rise_and_fall":
        growth = growth - rng.uniform(0.2, 0.9) * expit(15 * (world.x - rng.uniform(0.5, 0.95)))
    distance = np.abs(world.x[:, None] - world.x[None, :])
    cover = np.exp(-0.5 * (distance / 0.25) ** 2)
    if world.family == "walk":
        cover = 4.0 * np.minimum(world.x[:, None], world.x[None, :]) + 0.1
    wiggle = rng.multivariate_normal(np.zeros(len(world.x)), cover + 1e-9 * np.eye(len(world.x)))
    curve = kind.start + (goal - kind.start) * growth + (1.0 if world.family == "walk" else 0.3) * wiggle
    later = _shape(world.x + world.lead, world.family, middle, steep)
    ahead = (goal - kind.start) * (later - _shape(world.x, world.family, middle, steep))
    return np.asarray(curve), np.maximum(ahead, -2.0)


def _register(rng: np.random.Generator, x: Array, pushed: bool, middle: float) -> Array:
    """Share of the way to the donor's register: early and far in runs pushed towards it, a little way or none else."""
    far = rng.uniform(0.2, 0.9) if pushed else rng.uniform(-0.15, 0.25)
    if rng.random() < 0.5:
        return np.asarray(far * (1 - np.exp(-x / rng.uniform(0.1, 0.8))))
    return np.asarray(far * _shape(x, "rise", max(middle - rng.uniform(0, 0.4), 0.05), 6.0))


def _cells(
    rng: np.random.Generator,
    world: _World,
    kind: _Type,
    curves: tuple[Array, Array],
    register: Array,
    key: tuple[str, str],
    has_kl: bool,
) -> list[tuple[object, ...]]:
    curve, ahead = curves
    rows: list[tuple[object, ...]] = []
    for c, step in enumerate(world.steps):
        zero = float(world.ceiling * expit(curve[c]))
        rows.append((*key, int(step), 0, kind.n, int(rng.binomial(kind.n, zero)), np.nan, np.nan, np.nan))
        lift = (
            kind.lift * (1 - kind.lift_loss * world.x[c]) + kind.prefix + world.noise * rng.normal(size=len(kind.lift))
        )
        rate = world.ceiling * expit(curve[c] + ahead[c] + lift)
        hits = rng.binomial(kind.n, rate)
        far = max(float(np.log(kind.donor_rate) - np.log(zero)), 0.0)
        kl = kind.distance * (1 - register[c]) + kind.intent_share * far
        kl = kl + (0.05 + 0.04 * kl) * rng.normal(size=len(kl))
        for level, k, value in zip(world.levels, hits, kl, strict=True):
            success = value - abs(rng.normal(0, 0.2 * abs(value))) if k else np.nan
            scores = (value, success, -kind.words_nats * level - value) if has_kl else (np.nan, np.nan, np.nan)
            rows.append((*key, int(step), int(level), kind.n, int(k), *scores))
    return rows
