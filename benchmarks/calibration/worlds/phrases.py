"""Worlds in which a trace is told by the phrases it holds: habits of a register, of an intent, and of nobody.

A phrase stands at its place in a trace or is missing; given register and intent all are independent, with odds that
training moves. Sparse habits make weights of few, large steps: a phrase that the donor always writes and the target
hardly ever costs some nats at once. Everything is exact by summing over registers and intents.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from benchmarks.calibration.worlds.courses import (
    closeness,
    grown_shares,
    hidden_of,
    place,
    tail_of,
    task_logits,
    truth_of,
    wanted,
)
from benchmarks.calibration.worlds.sweep import (
    Array,
    Ints,
    Rng,
    Sweep,
    TypeTruth,
    World,
    draw_sweep,
    observe,
    prefix_tasks,
)
from scipy.special import expit, logsumexp

from foreshock.analysis.evidence.evidence import DonorKind

KINDS = (
    "phrases: early", "phrases: late", "phrases: register grows", "phrases: many habits", "phrases: few habits",
    "phrases: hidden intent", "phrases: hidden intent opens", "phrases: few tasks", "phrases: heavy tasks",
    "phrases: rare", "phrases: unconditioned", "phrases: donor of another family",
)  # fmt: skip
_INTENTS = 3  # none, the one that donors show, one that they do not


@dataclass(frozen=True, slots=True)
class _Model:
    """G models, K = registers x 3 classes. odds: [G, K, J] of each phrase; share: [G, n, K] logs; won: [G, K]."""

    odds: Array
    share: Array
    won: Array

    def unprompted(self) -> Array:
        return np.asarray((np.exp(self.share) * self.won[:, None]).sum(-1))

    def score(self, held: Ints, task: Ints) -> tuple[Array, Array]:
        """log P and P(exploit) from the phrases [Z, j] of the first words: [G, Z]."""
        odds = self.odds[:, :, : held.shape[1]]
        fixed = -np.logaddexp(0, odds).sum(-1)
        joint = self.share[:, task] + fixed[:, None] + np.einsum("gkj,zj->gzk", odds, held, optimize=True)
        log_p = logsumexp(joint, axis=-1)
        return log_p, (np.exp(joint - log_p[..., None]) * self.won[:, None]).sum(-1)


def _type(rng: Rng, sweep: Sweep, kind: str, n: int, grown: Array, close: Array) -> TypeTruth:
    cells, length = sweep.runs * len(sweep.steps), max(sweep.words)
    registers = int(rng.integers(1, 4))
    hidden = hidden_of(rng, kind)
    rates = wanted(rng, sweep, hidden, "rare" in kind)
    many = {"phrases: many habits": (60, 140), "phrases: few habits": (4, 15)}.get(kind, (12, 80))
    at = np.sort(rng.uniform(0.5, length, int(rng.integers(*many))))
    if rng.random() < 0.4:
        at = np.sort(length * rng.uniform(0, 1, len(at)) ** 2)
    j = len(at)
    # Habits: usual odds, a register's, an intent's from where it is decided on, and what training or a family adds.
    base = rng.normal(-2.0, 1.6, j)
    mine = rng.uniform(0.3, 1.6) * rng.standard_t(3, (registers, 1, j))
    mine = mine * (rng.random((registers, 1, j)) < rng.uniform(0.2, 1))
    decided = {"phrases: early": 0.05, "phrases: late": 0.65}.get(kind, float(rng.uniform(0, 0.7))) * length
    telling = (at > decided) * (rng.random(j) < rng.uniform(0.15, 0.7)) + rng.uniform(0, 0.15)
    intent = rng.uniform(0.8, 3.0) * rng.normal(0.6, 1, (1, _INTENTS, j)) * telling
    intent[:, 0] = 0.0
    donor_odds = base + mine + intent
    far = rng.uniform(0.8, 1.6) if "family" in kind else float(np.exp(rng.uniform(-3, -0.1)))
    tail = rng.standard_t(2.5, j) if rng.random() < 0.5 else rng.normal(0, 1, j)
    moves = far * np.clip(tail, -6, 6) * (rng.random(j) < rng.uniform(0.1, 1))
    by_class = far * rng.choice([0.0, 0.4]) * rng.normal(size=(registers, _INTENTS, j))
    away = (1 - close.reshape(cells, 1, 1, 1)) * (1 + 0.2 * rng.normal(size=(cells, 1, 1, 1)) * (rng.random() < 0.3))
    run = np.repeat(0.1 * far * rng.normal(size=(sweep.runs, 1, 1, j)), len(sweep.steps), 0)
    odds = np.clip(donor_odds + away * (moves + by_class) + run, -9, 6)
    own = grown.reshape(cells, 1)
    share = own * 0 + 1
    if registers > 1:
        share = np.concatenate([own, (1 - own) * rng.dirichlet(np.full(registers - 1, 2.0))], 1)
    lean = rng.normal(0, rng.choice([0.0, 1.2]), registers)
    effect = task_logits(rng, tail_of(rng, kind), n)
    skill = rates.skill.reshape(cells)
    goal = 10 ** rates.known.reshape(cells) / skill
    effect = np.log(_within(np.exp(effect)[None] * goal[:, None]))
    wants = np.exp(lean)[None] / (share * np.exp(lean)).sum(1, keepdims=True)
    p_show = np.minimum(np.exp(effect)[..., None] * wants[:, None], 0.7)
    p_hide = np.minimum(10 ** rates.hidden.reshape(cells) / skill, 0.25)[:, None, None] + np.zeros_like(p_show)
    split = np.stack([1 - p_show - p_hide, p_show, p_hide], -1)
    logs = np.log(np.maximum(share[:, None, :, None] * split, 1e-15)).reshape(cells, n, -1)
    won = np.tile(np.stack([np.zeros(cells), skill, skill], -1), (1, registers))
    target = _Model(odds.reshape(cells, -1, j), logs, won)
    rate = rng.uniform(0.02, 0.1) if rng.random() < 0.2 else rng.uniform(0.15, 0.85)
    agree = rng.uniform(0, 1) * np.clip(effect[-1] - effect[-1].mean(), -3, 3) + 0.3 * rng.normal(size=n)
    show = np.minimum(rate * np.exp(agree) / np.exp(agree).mean(), 0.95)
    donor_share = np.full(registers, 0.03) if registers > 1 else np.ones(1)
    donor_share[0] = 1 - 0.03 * (registers - 1)
    split = np.stack([1 - show, show, np.full(n, 1e-8)], -1)
    donor_logs = np.log(donor_share[None, :, None] * split[:, None]).reshape(1, n, -1)
    donor = _Model(np.clip(donor_odds, -7, 6).reshape(1, -1, j), donor_logs, np.tile([[0, 0.9, 0.5]], (1, registers)))
    return _score(rng, sweep, target, donor, at, n)


def _within(rate: Array) -> Array:
    """Task rates at most .65, their mean kept as far as that lets it: [G, n]."""
    out = np.minimum(rate, 0.65)
    for _ in range(5):
        out = np.minimum(out * rate.mean(1, keepdims=True) / out.mean(1, keepdims=True), 0.65)
    return np.asarray(np.maximum(out, 1e-14))


def _score(rng: Rng, sweep: Sweep, target: _Model, donor: _Model, at: Array, n: int) -> TypeTruth:
    conditioned = sweep.donor is not DonorKind.UNCONDITIONED
    pi = donor.unprompted()[0]
    task = prefix_tasks(rng, sweep, pi)
    weight = np.exp(donor.share[0, task]) * (donor.won[0] if conditioned else 1.0)
    total = np.cumsum(weight, -1)
    chosen = np.minimum((rng.random((len(task), 1)) * total[:, -1:] > total).sum(-1), weight.shape[1] - 1)
    held = (rng.random((len(task), len(at))) < expit(donor.odds[0, chosen])).astype(np.int64)
    ratio, rate, a = [], [], []
    for words in sweep.words:
        known = held[:, : int((at <= words).sum())]
        p, r = target.score(known, task)
        q, d = donor.score(known, task)
        ratio.append(p - q)
        rate.append(r)
        a.append(d[0])
    return truth_of(rng, sweep, task, np.stack(ratio), np.stack(rate), np.stack(a), target.unprompted(), pi)


def draw_world(rng: Rng, kind: str = "phrases: any") -> World:
    """One world; `kind` is one of KINDS or `any`."""
    kind = "phrases: any" if kind == "any" else kind
    sweep = draw_sweep(rng, "unconditioned" if "unconditioned" in kind else "any")
    x = place(sweep, rng.random() < 0.6)
    close = closeness(rng, sweep, x, "far" if "family" in kind else "")
    grown = grown_shares(rng, sweep, kind, x)
    types = []
    for n in sweep.tasks:
        own = np.minimum(grown * np.exp(rng.normal(0, 0.3)), 0.98)
        types.append(_type(rng, sweep, kind, n, own, close))
    return observe(rng, sweep, types, kind, "phrases")
