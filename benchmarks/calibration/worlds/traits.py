"""Worlds in which a trace has traits that all of its words share, so that log weights drift steadily in one direction.

A register is a cloud of traits; donor and target mix registers differently, and a register moves with training. After
N words the traits are known up to Gaussian noise, which keeps P(z), r(z) and the rates exact in closed form. A trace
exploits where its traits pass a task's bar. Words that have nothing to do with it add noise of heavy tails.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from benchmarks.calibration.worlds.courses import (
    Wanted,
    closeness,
    hidden_of,
    place,
    shares,
    tail_of,
    task_logits,
    truth_of,
    wanted,
    word_noise,
)
from benchmarks.calibration.worlds.sweep import Array, Ints, Rng, Sweep, TypeTruth, World, draw_sweep, observe
from scipy.special import logsumexp, ndtr, ndtri

from foreshock.analysis.evidence.evidence import DonorKind

KINDS = (
    "traits: donor's register grows", "traits: registers mix", "traits: one register", "traits: noisy words",
    "traits: far donor", "traits: hidden register", "traits: hidden register opens", "traits: heavy tasks",
    "traits: few tasks", "traits: rare", "traits: slow to show", "traits: unconditioned",
)  # fmt: skip
_HIDDEN_IN_DONOR = -16.0


@dataclass(frozen=True, slots=True)
class _Model:
    """G models, M registers, D traits. mix: [G, M] log shares; centre: [G, M, D]; spread: [M] sd of each trait;
    lean: [D]; bar: [G, n] of known registers; won: [G] rate in the hidden register, the last, if `hidden`."""

    mix: Array
    centre: Array
    spread: Array
    lean: Array
    bar: Array
    blur: float
    hidden: bool
    won: Array

    def chance(self, mean: Array, var: Array, bar: Array) -> Array:
        """P(exploit) in each register from the traits' mean [..., M, D] and variance [M]."""
        score = mean @ self.lean
        out = ndtr((score - bar) / np.sqrt((self.lean**2).sum() * var + self.blur**2))
        if self.hidden:
            out[..., -1] = np.broadcast_to(self.won[:, None], out.shape[:-1])
        return np.asarray(out)

    def unprompted(self) -> Array:
        chance = self.chance(self.centre[:, None], self.spread**2, self.bar[..., None])
        return np.asarray((np.exp(self.mix)[:, None] * chance).sum(-1))

    def score(self, seen: Array, words: float, task: Ints) -> tuple[Array, Array]:
        """log density of what `words` words of information show [Z, D], and P(exploit | it): [G, Z]."""
        var = self.spread**2 + 1 / words
        gap = seen[None, :, None] - self.centre[:, None]
        inner = -0.5 * (gap**2).sum(-1) / var - 0.5 * len(self.lean) * np.log(var)
        joint = self.mix[:, None] + inner
        log_p = logsumexp(joint, axis=-1)
        weight = (self.spread**2 / var)[:, None]
        mean = self.centre[:, None] + weight * gap
        chance = self.chance(mean, self.spread**2 / (1 + self.spread**2 * words), self.bar[:, task, None])
        return log_p, (np.exp(joint - log_p[..., None]) * chance).sum(-1)


def _registers(rng: Rng, sweep: Sweep, kind: str, x: Array) -> Array:
    """Shares of three known registers: [R, C, 3]; the first is the donor's."""
    if "one register" in kind:
        own = np.full((sweep.runs, len(x)), 0.999)
    elif "grows" in kind:
        own = shares(rng, x, sweep.runs, rng.uniform(-2.6, -1.2), rng.uniform(-0.7, -0.03))
    else:
        own = shares(rng, x, sweep.runs, rng.uniform(-2.5, -0.05), rng.uniform(-2.0, -0.03))
    other = shares(rng, x, sweep.runs, rng.uniform(-1, -0.1), rng.uniform(-1, -0.1))
    return np.stack([own, (1 - own) * other, (1 - own) * (1 - other)], -1)


def _type(rng: Rng, sweep: Sweep, kind: str, n: int, common: Array, close: Array) -> TypeTruth:
    hidden = hidden_of(rng, kind)
    rates = wanted(rng, sweep, hidden, "rare" in kind)
    dims, known = int(rng.integers(1, 4)), 3
    total = known + (hidden != "none")
    cells = sweep.runs * len(sweep.steps)
    centres = rng.uniform(0.5, 2.5) * rng.normal(size=(total, dims))
    moves = rng.normal(size=(total, dims)) * rng.uniform(0.0, 1.2)
    if "far" in kind:
        moves = moves * 2.0
    away = 1 - close.reshape(cells, 1, 1)
    run = np.repeat(0.2 * rng.normal(size=(sweep.runs, 1, dims)), len(sweep.steps), 0)
    spread = np.exp(rng.normal(-0.2, 0.3, total))
    lean = rng.normal(size=dims)
    lean = lean / np.linalg.norm(lean)
    # Registers differ in how ready they are; without this the donor's traces say all about the others' rate.
    if rng.random() < 0.4:
        centres = centres - rng.uniform(0.5, 1.0) * (centres @ lean)[:, None] * lean
    centre = centres + away * (moves + run)
    blur = float(rng.uniform(0.05, 0.8))
    share = np.log(np.maximum(common.reshape(cells, known), 1e-7)) + rng.normal(0, 0.3, known)
    share = share - logsumexp(share, -1, keepdims=True)
    mix, won = share, rates.skill.reshape(-1)
    if total > known:
        fresh = np.minimum(10 ** rates.hidden.reshape(-1) / won, 0.6)
        mix = np.concatenate([share + np.log1p(-fresh)[:, None], np.log(fresh + 1e-14)[:, None]], -1)
    tail = tail_of(rng, kind)
    target = _Model(mix, centre, spread, lean, np.zeros((cells, n)), blur, total > known, won)
    target = _aimed(target, rates, task_logits(rng, tail, n))
    donor_mix = np.full((1, total), _HIDDEN_IN_DONOR)
    donor_mix[0, :known] = np.log(rng.dirichlet([4.0, 0.4, 0.4]) + 1e-3)
    donor_mix -= logsumexp(donor_mix)
    rate = rng.uniform(0.02, 0.1) if rng.random() < 0.2 else rng.uniform(0.15, 0.9)
    donor_centre = centres[None] + rng.uniform(0, 1.2) * lean
    agree = rng.uniform(0, 0.8) * np.clip(target.bar[-1] - target.bar[-1].mean(), -2, 2) + 0.2 * rng.normal(size=n)
    sd = np.sqrt((spread[0] ** 2) + blur**2)
    bar = (np.exp(donor_mix[0]) @ donor_centre[0] @ lean) - ndtri(rate) * sd + agree
    donor = _Model(donor_mix, donor_centre, spread, lean, bar[None], blur, total > known, np.full(1, 0.5))
    noise = {"traits: noisy words": rng.uniform(0.25, 0.6)}.get(kind, float(np.exp(rng.uniform(-4.5, -1.2))))
    nats = float(np.exp(rng.uniform(*((-4.5, -3) if "slow" in kind else (-4, -0.3)))))
    return _score(rng, sweep, target, donor, n, nats, noise, close.reshape(-1))


def _aimed(model: _Model, rates: Wanted, effect: Array) -> _Model:
    """The model with its bars where the known registers' rate over tasks is the one sought, by bisection."""
    goal = 10 ** rates.known.reshape(-1)
    task = np.clip(-effect, -8, 8) / 2.2  # a nat of odds on a probit's scale, where it is about that steep
    low, high = np.full(len(goal), -12.0), np.full(len(goal), 14.0)
    known = np.exp(model.mix)[:, None, : model.mix.shape[-1] - model.hidden]
    for _ in range(26):
        middle = (low + high) / 2
        bar = middle[:, None] + task
        chance = model.chance(model.centre[:, None], model.spread**2, bar[..., None])
        rate = (known * chance[..., : known.shape[-1]]).sum(-1).mean(-1)
        low, high = np.where(rate > goal, middle, low), np.where(rate > goal, high, middle)
    return _Model(
        model.mix, model.centre, model.spread, model.lean, ((low + high) / 2)[:, None] + task, model.blur,
        model.hidden, model.won,
    )  # fmt: skip


def _score(
    rng: Rng, sweep: Sweep, target: _Model, donor: _Model, n: int, nats: float, noise: float, close: Array
) -> TypeTruth:
    conditioned = sweep.donor is not DonorKind.UNCONDITIONED
    task = np.tile(np.arange(n), sweep.prefixes)
    chosen = np.exp(donor.mix[0])
    traits = np.zeros((len(task), len(donor.lean)))
    left = np.arange(len(task))
    for _ in range(60 if conditioned else 1):
        register = rng.choice(len(chosen), len(left), p=chosen / chosen.sum())
        noise_of = rng.normal(size=(len(left), traits.shape[1]))
        traits[left] = donor.centre[0][register] + donor.spread[register, None] * noise_of
        won = traits[left] @ donor.lean + donor.blur * rng.normal(size=len(left)) > donor.bar[0, task[left]]
        left = left[~won] if conditioned else left[:0]
    keep = np.ones(len(task), bool)
    keep[left] = False
    if not keep.any():
        keep[0] = True
    task, traits = task[keep], traits[keep]
    total, before, out = np.zeros_like(traits), 0, []
    for words in sweep.words:
        steps = words - before
        total = total + nats * steps * traits + np.sqrt(nats * steps) * rng.normal(size=traits.shape)
        before = words
        seen = total / (nats * words)
        out.append((*target.score(seen, nats * words, task), *donor.score(seen, nats * words, task)))
    log_p, rate, log_q, a = (np.stack([np.atleast_2d(row[i]) for row in out]) for i in range(4))
    ratio = log_p - log_q + word_noise(rng, sweep.words, len(task), close, noise)
    return truth_of(rng, sweep, task, ratio, rate, a[:, 0], target.unprompted(), donor.unprompted()[0])


def draw_world(rng: Rng, kind: str = "traits: any") -> World:
    """One world; `kind` is one of KINDS or `any`."""
    kind = "traits: any" if kind == "any" else kind
    sweep = draw_sweep(rng, "unconditioned" if "unconditioned" in kind else "any")
    x = place(sweep, rng.random() < 0.6)
    common = _registers(rng, sweep, kind, x)
    close = closeness(rng, sweep, x, kind)
    types = [_type(rng, sweep, kind, n, common, close) for n in sweep.tasks]
    return observe(rng, sweep, types, kind, "traits")
