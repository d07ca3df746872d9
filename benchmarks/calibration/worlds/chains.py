"""Worlds in which a trace is seen to move between stages of a thought, at odds that training moves in logit space.

States are pairs of a register and a stage (working, tempted, decided, decided on a route that the donor does not know).
A reader sees the states, minds change again, and a checkpoint's odds lie between those of the first and of the last.
Everything follows exactly from the chain; words add noise of heavy tails.
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
    word_noise,
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
from scipy.special import expit

from foreshock.analysis.evidence.evidence import DonorKind

KINDS = (
    "chains: early", "chains: late", "chains: noisy words", "chains: register grows", "chains: second thoughts",
    "chains: hidden route", "chains: hidden route opens", "chains: few tasks", "chains: heavy tasks", "chains: rare",
    "chains: unconditioned", "chains: donor of another family",
)  # fmt: skip
_STAGES = 4


@dataclass(frozen=True, slots=True)
class _Odds:
    """Logits of G models. turn: [G, R, R] of the next register; tempt, calm, back, hide: [G, R] of a stage's change at
    a word; decide: [G, n, R]; start: [G, R] share of each register; pay: [G, 4] P(exploit | last stage)."""

    turn: Array
    tempt: Array
    calm: Array
    back: Array
    hide: Array
    decide: Array
    start: Array
    pay: Array

    def moves(self, task: Ints | None = None) -> Array:
        """Chances of the next state: [G, n, S, S]."""
        decide = self.decide if task is None else self.decide[:, task]
        g, n, r = decide.shape
        stage = np.zeros((g, n, r, _STAGES, _STAGES))
        logits = (self.tempt, self.calm, self.back, self.hide)
        tempt, calm, back, hide = (np.minimum(expit(x), 0.4)[:, None] for x in logits)
        go = np.minimum(expit(decide), 0.5)
        stage[..., 0, 1], stage[..., 0, 3] = tempt, hide
        stage[..., 1, 0], stage[..., 1, 2] = calm, go
        stage[..., 2, 0], stage[..., 3, 0] = back, back * 0.3
        stage[..., range(_STAGES), range(_STAGES)] = 1 - stage.sum(-1)
        turn = np.exp(self.turn - self.turn.max(-1, keepdims=True))
        turn = turn / turn.sum(-1, keepdims=True)
        both = turn[:, None, :, None, :, None] * stage[..., :, :, None, :]
        return np.asarray(both.reshape(g, n, r * _STAGES, r * _STAGES))

    def first(self) -> Array:
        """Chances of the first state: [G, S]."""
        out = np.zeros((*self.start.shape, _STAGES))
        out[..., 0] = self.start
        return np.asarray(out.reshape(len(out), -1))

    def payoff(self) -> Array:
        return np.asarray(np.tile(self.pay, (1, self.start.shape[1])))


def _power(moves: Array, payoff: Array, times: int) -> Array:
    """P(exploit | state) `times` words before the end: [G, n, S]."""
    out, square = payoff[:, None, :, None] + np.zeros((*moves.shape[:-1], 1)), moves
    while times:
        if times % 2:
            out = square @ out
        square, times = square @ square, times // 2
    return np.asarray(out[..., 0])


def _odds(rng: Rng, sweep: Sweep, kind: str, n: int, grown: Array, close: Array) -> tuple[_Odds, _Odds]:
    """The target's odds and the donor's."""
    cells, registers = sweep.runs * len(sweep.steps), int(rng.integers(2, 4))
    length = max(sweep.words)
    away = 1 - close.reshape(cells, 1)
    hidden = hidden_of(rng, kind)
    rates = wanted(rng, sweep, hidden, "rare" in kind)
    pace = {"chains: early": 0.4, "chains: late": -4.5}.get(kind, float(rng.uniform(-4.5, -0.5)))
    second = rng.uniform(-4, -2.5) if "second" in kind else rng.uniform(-9, -4.5)
    changing = rng.uniform(-6, -1.5)
    far = 2.0 if "family" in kind else float(rng.uniform(0.1, 1.2))

    def logits(base: Array | float, shape: tuple[int, ...], by: float = 1.0) -> tuple[Array, Array]:
        """Of the target [G, ...] and of the donor [1, ...], apart by as much as their training is."""
        donor = np.asarray(base) + 0.3 * rng.normal(size=shape)
        tail = away.reshape(cells, *(1,) * len(shape))
        run = np.repeat(0.15 * rng.normal(size=(sweep.runs, *shape)), len(sweep.steps), 0)
        return donor + tail * (far * by * rng.normal(size=shape) + run), donor[None]

    eye = np.where(np.eye(registers) > 0, 0.0, changing)
    turn, donor_turn = logits(eye, (registers, registers))
    tempt, donor_tempt = logits(pace - 1.0, (registers,))
    calm, donor_calm = logits(pace - rng.uniform(0, 2), (registers,))
    back, donor_back = logits(second, (registers,))
    own = grown.reshape(cells, 1)
    rest = rng.dirichlet(np.full(registers - 1, 2.0))
    start = np.concatenate([own, (1 - own) * rest], 1)
    pay = np.zeros((cells, _STAGES))
    pay[:, 2], pay[:, 3] = rates.skill.reshape(-1), rates.skill.reshape(-1)
    pay[:, 1] = rng.choice([0.0, 0.02]) * pay[:, 2]
    tail = tail_of(rng, kind)
    effect = task_logits(rng, tail, n)
    lean = rng.normal(0, 1.0, registers) if rng.random() < 0.5 else np.zeros(registers)
    hide = np.broadcast_to(rates.hidden.reshape(cells, 1) * np.log(10) - np.log(length), (cells, registers))
    plain = np.zeros((cells, 1, registers)) + lean + effect[:, None]
    target = _Odds(turn, tempt, calm, back, hide, plain, start, pay)
    target = _aimed(target, 10 ** rates.known.reshape(-1), length)
    donor_start = np.full((1, registers), 0.03)
    donor_start[0, 0] = 1 - 0.03 * (registers - 1)
    rate = rng.uniform(0.02, 0.1) if rng.random() < 0.2 else rng.uniform(0.15, 0.85)
    agree = rng.uniform(0, 1) * np.clip(effect, -3, 3) + 0.3 * rng.normal(size=n)
    donor = _Odds(
        donor_turn, donor_tempt, donor_calm, donor_back, np.full((1, registers), -18.0),
        np.zeros((1, 1, registers)) + agree[None, :, None], donor_start, np.array([[0, 0.0, 0.9, 0.9]]),
    )  # fmt: skip
    return target, _aimed(donor, np.full(1, rate * 0.9), length)


def _aimed(odds: _Odds, goal: Array, length: int) -> _Odds:
    """The odds with decisions as ready as the known route's rate asks; told from at most eight tasks."""
    order = np.argsort(odds.decide[0, :, 0])
    some = order[np.unique(np.linspace(0, len(order) - 1, 8).astype(int))]
    shift = np.full(len(goal), -4.0)
    silent = np.full_like(odds.hide, -40.0)
    for _ in range(7):
        now = _Odds(
            odds.turn, odds.tempt, odds.calm, odds.back, silent, odds.decide[:, some] + shift[:, None, None],
            odds.start, odds.pay,
        )  # fmt: skip
        found = (_power(now.moves(), now.payoff(), length) * now.first()[:, None]).sum(-1).mean(-1)
        shift = np.clip(shift + np.clip(np.log(goal) - np.log(found + 1e-30), -3, 3), -25, 6)
    return _Odds(
        odds.turn, odds.tempt, odds.calm, odds.back, odds.hide, odds.decide + shift[:, None, None], odds.start, odds.pay
    )


def _behind(odds: _Odds, moves: Array, keep: tuple[int, ...], length: int) -> dict[int, Array]:
    """P(exploit | state after so many words): [G, n, S] for each."""
    beta = odds.payoff()[:, None, :, None] + np.zeros((*moves.shape[:-1], 1))
    found = {}
    for t in range(length, -1, -1):
        if t < length:
            beta = moves @ beta
        if t in keep:
            found[t] = beta[..., 0]
    return found


def _type(rng: Rng, sweep: Sweep, kind: str, n: int, grown: Array, close: Array) -> TypeTruth:
    target, donor = _odds(rng, sweep, kind, n, grown, close)
    length, conditioned = max(sweep.words), sweep.donor is not DonorKind.UNCONDITIONED
    moves, donor_moves = target.moves(), donor.moves()
    ahead = _behind(donor, donor_moves, tuple(range(length + 1)), length)
    pi = (ahead[0][0] * donor.first()[0]).sum(-1)
    task = prefix_tasks(rng, sweep, pi)
    path = np.zeros((len(task), length + 1), np.int64)
    chance = np.broadcast_to(donor.first()[0], (len(task), moves.shape[-1]))
    for t in range(length + 1):
        if t:
            chance = donor_moves[0, task, path[:, t - 1]]
        likely = chance * ahead[t][0, task] if conditioned else chance
        total = np.cumsum(likely, -1)
        path[:, t] = np.minimum((rng.random((len(task), 1)) * total[:, -1:] > total).sum(-1), moves.shape[-1] - 1)
    beta = _behind(target, moves, (0, *sweep.words), length)
    with np.errstate(divide="ignore"):
        logs, donor_logs = np.log(moves), np.log(donor_moves[0])
        total = np.log(target.first()[:, path[:, 0]]) - np.log(donor.first()[0, path[:, 0]])
    noise = float(rng.uniform(0.25, 0.6)) if "noisy" in kind else float(np.exp(rng.uniform(-4.5, -1.2)))
    words = word_noise(rng, sweep.words, len(task), close.reshape(-1), noise)
    ratio, rate, a = [], [], []
    for t in range(1, length + 1):
        before, now = path[:, t - 1], path[:, t]
        total = total + logs[:, task, before, now] - donor_logs[task, before, now]
        if t in sweep.words:
            ratio.append(total)
            rate.append(beta[t][:, task, now])
            a.append(ahead[t][0, task, now])
    ratios = np.maximum(np.stack(ratio), -200) + words
    unprompted = (beta[0] * target.first()[:, None]).sum(-1)
    return truth_of(rng, sweep, task, ratios, np.stack(rate), np.stack(a), unprompted, pi)


def draw_world(rng: Rng, kind: str = "chains: any") -> World:
    """One world; `kind` is one of KINDS or `any`."""
    kind = "chains: any" if kind == "any" else kind
    sweep = draw_sweep(rng, "unconditioned" if "unconditioned" in kind else "any")
    x = place(sweep, rng.random() < 0.6)
    close = closeness(rng, sweep, x, "far" if "family" in kind else "")
    grown = grown_shares(rng, sweep, kind, x)
    types = []
    for n in sweep.tasks:
        own = np.minimum(grown * np.exp(rng.normal(0, 0.3)), 0.98)
        types.append(_type(rng, sweep, kind, n, own, close))
    return observe(rng, sweep, types, kind, "chains")
