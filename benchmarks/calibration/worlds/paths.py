"""Worlds of another mechanism: a trace is a path in space, drawn from a few manners of writing, and exploits where its
weighted position passes a task's bar.

A manner is a drift of the path; donor and target mix manners differently and drift differently within each. The path is
Gaussian given its manner, so that P(z), r(z) and the rates are exact in closed form. Nothing here shares a
mechanism, a curve or a constant with registers.py: these worlds test what those trained.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from benchmarks.calibration.worlds.sweep import Array, Ints, Rng, Sweep, TypeTruth, World, draw_sweep, observe
from scipy.special import logsumexp, ndtr, ndtri

from foreshock.analysis.evidence.evidence import DonorKind

_DIMENSIONS = 3
KINDS = (
    "drifting mixture", "steady mixture", "single manner", "far donor", "late donor", "new manner", "few solvable",
    "heavy tasks", "early bar", "late bar", "rare exploiter donor",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Model:
    """mix: [G, K] log shares of manners; drift: [G, K, T, D]; bar: [G, n]; lean: [T, D] weight of each step in the
    score; blur: sd of the luck that decides after the last word."""

    mix: Array
    drift: Array
    bar: Array
    lean: Array
    blur: float

    def _ahead(self, words: int) -> tuple[Array, float]:
        """Mean [G, K] and variance of the score that the steps after `words` add."""
        mean = (self.drift[:, :, words:] * self.lean[words:]).sum((-1, -2))
        return mean, float((self.lean[words:] ** 2).sum()) + self.blur**2

    def unprompted(self) -> Array:
        mean, var = self._ahead(0)
        chance = ndtr((mean[:, :, None] - self.bar[:, None, :]) / var**0.5)
        return np.asarray((np.exp(self.mix)[:, :, None] * chance).sum(1))

    def score(self, path: Array, task: Ints, words: int) -> tuple[Array, Array]:
        """log density and P(exploit | first words): [G, Z]. path: [Z, T, D]."""
        flat = path[:, :words].reshape(len(path), -1)
        drift = self.drift[:, :, :words].reshape(*self.mix.shape, -1)
        # log N(path; drift), each step as one of many words: what the last term takes off cancels in P / Q.
        inner = np.einsum("gkd,zd->gkz", drift, flat) - 0.5 * (drift**2).sum(-1)[..., None]
        inner = inner - 0.5 * (flat**2).sum(-1) - 4.0 * words
        joint = self.mix[..., None] + inner
        log_p = logsumexp(joint, axis=1)
        mean, var = self._ahead(words)
        reached = (path[:, :words] * self.lean[:words]).sum((-1, -2))
        chance = ndtr((reached + mean[..., None] - self.bar[:, None, task]) / var**0.5)
        return log_p, (np.exp(joint - log_p[:, None]) * chance).sum(1)

    def sample(self, rng: Rng, task: Ints) -> Array:
        manner = (rng.random((len(task), 1)) > np.cumsum(np.exp(self.mix[0]))[:-1]).sum(-1)
        return np.asarray(self.drift[0][manner] + rng.normal(size=(len(task), *self.lean.shape)))


def _walk(rng: Rng, n: int, scale: float) -> Array:
    """A smooth random walk that starts at 0: [n]."""
    steps = np.convolve(rng.normal(size=n + 4), np.ones(4) / 2, "valid")[:n]
    return np.asarray(scale * np.cumsum(steps) / max(n, 1) ** 0.5)


def _type(rng: Rng, sweep: Sweep, kind: str, n: int, common: dict[str, Array | float]) -> TypeTruth:
    length, runs, checks = max(sweep.words), sweep.runs, len(sweep.steps)
    centre = {"early bar": 6.0, "late bar": 0.7 * length}.get(kind, float(rng.uniform(3, max(0.8 * length, 4))))
    place = np.arange(1, length + 1)
    window = np.exp(-0.5 * ((place - centre) / (2 + 0.35 * centre)) ** 2)
    direction = rng.normal(size=_DIMENSIONS)
    lean = window[:, None] * direction / np.linalg.norm(direction)
    lean = lean / np.sqrt((lean**2).sum())
    manners = 1 if kind == "single manner" else int(rng.integers(2, 5))
    # A step's information: nats a word by which manners, and donor and target in one manner, differ.
    between = float(rng.uniform(0.2, 0.9))
    apart = {"far donor": 0.4}.get(kind, float(np.exp(rng.uniform(np.log(0.03), np.log(0.35)))))
    centres = between * rng.normal(size=(manners, 1, _DIMENSIONS)) / _DIMENSIONS**0.5
    own = apart * rng.normal(size=(manners, 1, _DIMENSIONS)) / _DIMENSIONS**0.5
    g = np.linspace(0, 1, checks)
    fade = np.ones((runs, checks))
    if kind == "late donor" or rng.random() < 0.3:
        fade = np.clip(1.05 - np.tile(g, (runs, 1)), 0.05, 1)
    push = rng.uniform(0.0, 1.2) * lean  # training also turns the writing towards the exploit
    climb = np.stack([_walk(rng, checks, 0.5) + rng.uniform(-0.3, 1.5) * g for _ in range(runs)])
    drift = (
        centres[None, None]
        + own[None, None] * fade[..., None, None, None]
        + climb[..., None, None, None] * push[None, None, None]
    )
    shares = common["shares"][..., :manners] + rng.normal(0, 0.4, manners)  # type: ignore[index]  # its values are arrays or texts
    if kind == "new manner":
        fresh = -rng.uniform(3, 8) + rng.uniform(4, 9) * (g > rng.uniform(0.2, 0.8))
        shares = np.concatenate([shares[..., :-1], np.broadcast_to(fresh[None, :, None], (*shares.shape[:2], 1))], -1)
    log_mix = shares - logsumexp(shares, axis=-1, keepdims=True)
    start, end = rng.uniform(-4.6, -1.8), rng.uniform(-3.5, -0.4)
    level = np.stack(
        [start + (end - start) * (g ** rng.uniform(0.5, 3) if r == 0 else rng.uniform(0, 0.7) * g) for r in range(runs)]
    )
    wanted = 10 ** (level + np.stack([_walk(rng, checks, 0.25) for _ in range(runs)]))
    spread = {"heavy tasks": 1.6}.get(kind, float(rng.uniform(0.1, 0.9)))
    task = spread * (rng.standard_t(3, n) if kind == "heavy tasks" else rng.normal(size=n))
    if kind == "few solvable":
        task = np.where(rng.random(n) < rng.uniform(0.05, 0.25), -1.5, 2.0) + 0.3 * rng.normal(size=n)
    blur = float(rng.uniform(0.05, 0.6))
    full = (
        drift.reshape(-1, manners, 1, _DIMENSIONS)
        if drift.shape[-2] == 1
        else drift.reshape(-1, manners, length, _DIMENSIONS)
    )
    full = np.broadcast_to(full, (runs * checks, manners, length, _DIMENSIONS))
    mean = (full * lean).sum((-1, -2))
    mix = log_mix.reshape(-1, manners)
    reach = (np.exp(mix) * mean).sum(-1)
    bar = reach - ndtri(np.clip(wanted.reshape(-1), 1e-8, 0.8)) * (1 + blur**2) ** 0.5
    target = _Model(mix, full, bar[:, None] + task, lean, blur)
    donor_mix = np.log(rng.dirichlet(np.full(manners, 1.5)) + 1e-4)
    if kind == "new manner":
        donor_mix[-1] = -9.0
    donor_mix -= logsumexp(donor_mix)
    donor_drift = np.broadcast_to(
        centres[None] + rng.uniform(0, 2) * lean[None, None], (1, manners, length, _DIMENSIONS)
    )
    lift = (np.exp(donor_mix) * (donor_drift[0] * lean).sum((-1, -2))).sum()
    rate = rng.uniform(0.02, 0.06) if kind == "rare exploiter donor" else rng.uniform(0.1, 0.9)
    agree = rng.uniform(0, 1) * np.clip(task, -2, 2) + 0.2 * rng.normal(size=n)
    donor = _Model(donor_mix[None], donor_drift, (lift - ndtri(rate) * (1 + blur**2) ** 0.5 + agree)[None], lean, blur)
    return _score(rng, sweep, target, donor, n)


def _score(rng: Rng, sweep: Sweep, target: _Model, donor: _Model, n: int) -> TypeTruth:
    conditioned = sweep.donor is not DonorKind.UNCONDITIONED
    task = np.tile(np.arange(n), sweep.prefixes)
    path = donor.sample(rng, task)
    if conditioned:
        done = np.zeros(len(task), bool)
        for _ in range(60):
            left = np.flatnonzero(~done)
            if not len(left):
                break
            path[left] = donor.sample(rng, task[left])
            won = donor.score(path[left], task[left], path.shape[1])[1][0]
            done[left] = rng.random(len(left)) < won
        if not done.any():
            done[0] = True
        task, path = task[done], path[done]
    log_p, rate, log_q, a = [], [], [], []
    for words in sweep.words:
        p, r = target.score(path, task, words)
        q, d = donor.score(path, task, words)
        log_p.append(p)
        rate.append(r)
        log_q.append(q[0])
        a.append(d[0])
    shape = (len(sweep.words), sweep.runs, len(sweep.steps), len(task))
    unprompted = target.unprompted().reshape(sweep.runs, len(sweep.steps), n)
    return TypeTruth(
        unprompted, task, np.stack(log_p).reshape(shape), np.stack(rate).reshape(shape),
        np.stack(log_q), np.stack(a), donor.unprompted()[0],
    )  # fmt: skip


def draw_world(rng: Rng, kind: str = "any") -> World:
    """One world of this family; `kind` is one of KINDS, or `any` for one at random."""
    kind = str(rng.choice(KINDS)) if kind == "any" else kind
    sweep = draw_sweep(rng)
    runs, checks = sweep.runs, len(sweep.steps)
    moves = 0.3 if kind == "steady mixture" else float(rng.uniform(0.5, 2.5))
    if kind == "drifting mixture":
        moves = 3.0
    shares = np.stack([np.stack([_walk(rng, checks, moves) for _ in range(4)], -1) for _ in range(runs)])
    shares = shares + rng.normal(0, 1.0, 4)
    types = [_type(rng, sweep, kind, n, {"shares": shares}) for n in sweep.tasks]
    return observe(rng, sweep, types, kind, "paths")
