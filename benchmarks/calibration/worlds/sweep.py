"""What a sweep looks like whatever the world behind it, and how a world's exact numbers become Evidence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foreshock.analysis.evidence.donor import smoothed_rates
from foreshock.analysis.evidence.evidence import DirectRows, DonorKind, Evidence, PrefillRows, Surface

Array = NDArray[np.float64]
Ints = NDArray[np.int64]
Rng = np.random.Generator

STANDARD = (0, 2, 5, 10, 20, 30, 45, 60, 75, 100)


@dataclass(frozen=True, slots=True)
class Sweep:
    """Shape of a sweep. tasks: one number a type; prefixes: distinct traces a task; attempts: a prefix and cell;
    apart: runs have checkpoints of their own, so that most steps are one run's alone."""

    runs: int
    steps: tuple[int, ...]
    levels: tuple[int, ...]
    tasks: tuple[int, ...]
    prefixes: int
    attempts: int
    unequal: bool
    donor: DonorKind
    donor_rollouts: tuple[int, int]
    missing: float
    apart: bool = False

    @property
    def words(self) -> tuple[int, ...]:
        """Levels above 0."""
        return tuple(level for level in self.levels if level > 0)


@dataclass(frozen=True, slots=True)
class TypeTruth:
    """Exact numbers of one type. R runs, C checkpoints, n tasks, Z donor traces, L levels above 0.

    unprompted: [R, C, n]; task: [Z]; log_p, rate: [L, R, C, Z] of each prefix under the target; log_q, donor_rate:
    [L, Z] under the donor; donor_unprompted: [n].
    """

    unprompted: Array
    task: Ints
    log_p: Array
    rate: Array
    log_q: Array
    donor_rate: Array
    donor_unprompted: Array


def prefix_tasks(rng: Rng, sweep: Sweep, pi: Array) -> Ints:
    """Task of each of the donor's traces: [Z]. A conditioned donor, which exploits a task with chance pi [n], has none
    of tasks at which 64 tries fail, but of one task at least."""
    task = np.tile(np.arange(len(pi)), sweep.prefixes)
    if sweep.donor is DonorKind.UNCONDITIONED:
        return task
    kept = rng.random(len(pi)) < 1 - (1 - pi) ** 64
    kept[rng.integers(len(pi))] = True
    return task[kept[task]]


@dataclass(frozen=True, slots=True)
class World:
    """A sweep's evidence and the exact rates behind it: truth [J, C]; kind: what it was drawn as; sweep and exact: what
    it was observed from, one a type."""

    evidence: Evidence
    truth: Array
    kind: str
    family: str
    sweep: Sweep | None = None
    exact: tuple[TypeTruth, ...] = ()


def draw_sweep(rng: Rng, kind: str = "any") -> Sweep:
    """A sweep of ordinary or odd shape."""
    runs = int(rng.choice([1, 2, 2, 2, 3]))
    n_checks = int(rng.choice([1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 10, 12, 14, 18, 25, 40]))
    standard = rng.random() < 0.5
    if kind == "few checkpoints":
        n_checks = int(rng.integers(1, 4))
    elif kind == "many checkpoints":
        n_checks = int(rng.integers(18, 41))
    elif standard:
        runs, n_checks = 2, 9
    # From a stream of its own: sweeps of common checkpoints are what they were before runs could have their own.
    apart = runs > 1 and bool(rng.spawn(1)[0].random() < 0.35)
    if apart:
        n_checks = min(2 * n_checks, 40)
    most = int(rng.choice([100, 200, 1000, 5000]))
    grid = np.unique(np.round(np.geomspace(1, most, 80)).astype(int))
    if rng.random() < 0.5:
        grid = np.arange(1, max(most // 2, 2 * n_checks) + 1)
    steps = np.sort(rng.choice(grid, min(n_checks, len(grid)), replace=False))
    levels = STANDARD
    if not standard or rng.random() < 0.3:
        kept = sorted(rng.choice(STANDARD[1:], int(rng.integers(2, 10)), replace=False).tolist())
        levels = (0, *(int(level) for level in kept))
    if rng.random() < 0.25:
        levels = tuple(level for level in levels if level <= 60) if levels[1] < 60 else levels
    n_types = int(rng.integers(1, 11)) if not standard else 8
    size = rng.choice(["usual", "small", "large"], p=[0.7, 0.18, 0.12])
    low, high = {"usual": (20, 90), "small": (1, 20), "large": (90, 201)}[str(size)]
    prefixes, attempts = 1, 1
    draw = rng.random()
    if draw < 0.2:
        prefixes = int(rng.integers(2, 7))
    elif draw < 0.35:
        attempts = int(np.round(np.exp(rng.uniform(np.log(2), np.log(64)))))
    if kind == "many attempts":
        prefixes, attempts = (1, int(rng.integers(4, 65))) if rng.random() < 0.5 else (int(rng.integers(3, 7)), 1)
    if kind == "few tasks":
        low, high = 3, 16
    tasks = rng.integers(low, high, n_types)

    # A bound on a world's size: the largest sweeps give way in types first.
    def cells(n: int) -> float:
        return float(runs * len(steps) * len(levels) * tasks[:n].sum() * prefixes * (1 + attempts / 8))

    while n_types > 1 and cells(n_types) > 90_000:
        n_types -= 1
    tasks = tasks[:n_types]
    while cells(n_types) > 100_000 and tasks.max() > 8:
        tasks = np.maximum(tasks // 2, 1)
    donor = rng.choice(["c", "u", "n"], p=[0.6, 0.32, 0.08])
    donors = {"c": DonorKind.CONDITIONED, "u": DonorKind.UNCONDITIONED, "n": DonorKind.CONDITIONED_UNCORRECTED}
    chosen = donors[str(donor)]
    if kind == "unconditioned":
        chosen = DonorKind.UNCONDITIONED
    return Sweep(
        runs=runs,
        steps=tuple(int(s) for s in steps),
        levels=levels,
        tasks=tuple(int(n) for n in tasks),
        prefixes=prefixes,
        attempts=attempts,
        unequal=kind == "unequal attempts" or rng.random() < 0.12,
        donor=chosen,
        donor_rollouts=(int(rng.choice([8, 16, 32])), int(rng.choice([2, 4, 8]))),
        missing=float(rng.uniform(0.05, 0.4)) if kind == "missing cells" or rng.random() < 0.12 else 0.0,
        apart=apart,
    )


def observe(rng: Rng, sweep: Sweep, types: list[TypeTruth], kind: str, family: str) -> World:
    """Run the sweep: draw every outcome, and estimate the donor's factors as a user would."""
    n_types, n_checks, words = len(types), len(sweep.steps), sweep.words
    names = [f"type_{t:02d}" for t in range(n_types)]
    runs = [f"run_{r}" for r in range(sweep.runs)]
    shape = (sweep.runs * n_types, n_checks, len(sweep.levels))
    absent = rng.random(shape) < sweep.missing
    if sweep.apart:
        other = rng.spawn(1)[0]
        owner, shared = other.integers(0, sweep.runs, n_checks), other.random(n_checks) < 0.15
        strange = (owner[None] != np.arange(sweep.runs)[:, None]) & ~shared
        absent |= np.repeat(strange, n_types, 0)[..., None]
    n, k, truth = np.zeros(shape, np.int64), np.zeros(shape, np.int64), np.zeros(shape[:2])
    parts: list[list[Array]] = []
    direct: list[list[Array]] = []
    for t, exact in enumerate(types):
        log_w = exact.log_p - exact.log_q[:, None, None]
        if sweep.donor is DonorKind.CONDITIONED:
            log_w = log_w + _correction(rng, sweep, exact)[:, None, None]
        n_tasks, n_traces = exact.unprompted.shape[-1], len(exact.task)
        # Attempts by task: more where the task is hard or at random, up to eightfold.
        per_task = np.full(n_tasks, sweep.prefixes * sweep.attempts)
        if sweep.unequal:
            tilt = rng.choice([-1.0, 0.0, 1.0]) * np.log(exact.unprompted.mean((0, 1)) + 1e-12)
            order = np.argsort(np.argsort(tilt + rng.normal(0, 1.5, n_tasks)))
            per_task = per_task * (1 + (7 * order) // max(n_tasks - 1, 1))
        repeat = np.repeat(np.arange(n_traces), sweep.attempts)
        for r in range(sweep.runs):
            j = r * n_types + t
            truth[j] = exact.unprompted[r].mean(-1)
            if 0 in sweep.levels:
                tries = np.broadcast_to(per_task, (n_checks, n_tasks))
                hits = rng.binomial(tries, np.clip(exact.unprompted[r], 0, 1))
                n[j, :, 0], k[j, :, 0] = tries.sum(-1), hits.sum(-1)
                c, task = np.meshgrid(np.arange(n_checks), np.arange(n_tasks), indexing="ij")
                direct.append([np.full(c.size, j), c.ravel(), t * 1000 + task.ravel(), tries.ravel(), hits.ravel()])
            hit = rng.random((len(words), n_checks, len(repeat))) < exact.rate[:, r][..., repeat]
            grid = np.broadcast_arrays(
                j,
                np.arange(n_checks)[None, :, None],
                np.arange(len(words))[:, None, None] + (0 in sweep.levels),
                (t * 1000 + exact.task[repeat])[None, None],
                (t * 100_000 + repeat)[None, None],
                hit,
                log_w[:, r][..., repeat],
                exact.log_p[:, r][..., repeat],
            )
            parts.append([part.reshape(-1) for part in grid])
            n[j, :, 0 in sweep.levels :] = len(repeat)
            k[j, :, 0 in sweep.levels :] = hit.sum(-1).T
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    n[absent], k[absent] = 0, 0
    rows = PrefillRows(*(c.astype(np.int64) for c in columns[:6]), *(c.astype(np.float64) for c in columns[6:]))
    rows = rows.take(~absent[rows.surface, rows.checkpoint, rows.level])
    found = DirectRows(*(np.concatenate(column).astype(np.int64) for column in zip(*direct, strict=True)))
    seen = ~absent[found.surface, found.checkpoint, 0]
    found = DirectRows(*(getattr(found, name)[seen] for name in DirectRows.__slots__))
    surfaces = tuple(Surface(run, name) for run in runs for name in names)
    steps = np.asarray(sweep.steps, dtype=float)
    evidence = Evidence(surfaces, steps, np.asarray(sweep.levels), n, k, rows, sweep.donor, found)
    return World(evidence, truth, kind, family, sweep, tuple(types))


def _correction(rng: Rng, sweep: Sweep, exact: TypeTruth) -> Array:
    """log(pi / a) of every trace and level, from the donor's rollouts: [L, Z]."""
    at_zero, above = sweep.donor_rollouts
    n_tasks = len(exact.donor_unprompted)
    hits = rng.binomial(at_zero, np.clip(exact.donor_unprompted, 0, 1))
    pi = smoothed_rates(hits, np.full(n_tasks, at_zero), np.zeros(n_tasks, np.int64))
    k = rng.binomial(above, np.clip(exact.donor_rate, 0, 1))
    level = np.repeat(np.arange(k.shape[0]), k.shape[1])
    a = smoothed_rates(k.reshape(-1), np.full(k.size, above), level).reshape(k.shape)
    return np.asarray(np.log(pi)[exact.task][None] - np.log(a))
