"""How things move over training, how unlike tasks are, and how often single words differ: shared by three families."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from benchmarks.calibration.worlds.sweep import Array, Ints, Rng, Sweep, TypeTruth

FORMS = (
    "logistic", "linear", "power", "step", "two steps", "stairs", "there and back", "wave", "walk", "late", "constant",
)  # fmt: skip
_RISING = ("logistic", "linear", "power", "step", "two steps", "stairs", "late")


def place(sweep: Sweep, by_log: bool) -> Array:
    """Checkpoints on [0, 1], by log step or by step: [C]."""
    x = np.asarray(sweep.steps, dtype=float)
    x = np.log(x) if by_log else x
    return (x - x.min()) / max(float(np.ptp(x)), 1e-9) if len(x) > 1 else np.full(1, 0.6)


def course(rng: Rng, x: Array, form: str) -> Array:
    """A curve over training, mostly from 0 to 1: [C]."""
    at = rng.uniform(0.1, 0.9)
    if form == "linear":
        y = x
    elif form == "power":
        y = x ** np.exp(rng.uniform(-1.2, 1.2))
    elif form == "step":
        y = (x > at).astype(float)
    elif form == "two steps":
        y = 0.5 * (x > at * 0.6) + 0.5 * (x > at)
    elif form == "stairs":
        y = np.cumsum(rng.dirichlet(np.full(len(x), 0.35)))
    elif form == "there and back":
        y = np.exp(-0.5 * ((x - at) / rng.uniform(0.12, 0.4)) ** 2)
    elif form == "wave":
        y = 0.5 - 0.5 * np.cos(2 * np.pi * (rng.uniform(0.4, 2) * x + rng.uniform(0, 0.4)))
    elif form == "walk":
        y = np.cumsum(rng.normal(0, 1, len(x)))
        y = (y - y.min()) / max(float(np.ptp(y)), 1e-9)
    elif form == "late":
        y = np.maximum(x - at, 0) / (1 - at)
    elif form == "constant":
        y = np.full(len(x), rng.uniform())
    else:
        y = 1 / (1 + np.exp(-rng.uniform(5, 25) * (x - at)))
    return np.asarray(y, dtype=np.float64)


def any_form(rng: Rng, rising: float = 0.6) -> str:
    """A form at random, `rising` of the time one that goes up."""
    return str(rng.choice(_RISING if rng.random() < rising else FORMS))


def shares(rng: Rng, x: Array, runs: int, low: float, high: float) -> Array:
    """A share that moves in log, logit or plain form: [R, C], runs alike."""
    form, scale = any_form(rng), str(rng.choice(["log", "logit", "plain"]))
    curve = course(rng, x, form)
    rows = []
    for _ in range(runs):
        mine = curve if rng.random() < 0.6 else course(rng, x, form)
        if scale == "plain":
            value = 10**low + (10**high - 10**low) * mine
        elif scale == "log":
            value = 10 ** (low + (high - low) * mine)
        else:
            ends = [np.log(10**v / (1 - min(10**v, 0.99))) for v in (low, high)]
            value = 1 / (1 + np.exp(-(ends[0] + (ends[1] - ends[0]) * mine)))
        rows.append(value * np.exp(0.15 * rng.normal(size=len(x))))
    return np.clip(np.stack(rows), 1e-5, 0.97)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Rates sought, in log10: known, hidden [R, C] (hidden is -12 where that route is closed); skill: [R, C]."""

    known: Array
    hidden: Array
    skill: Array


def wanted(rng: Rng, sweep: Sweep, hidden: str, low_rates: bool = False) -> Wanted:
    """Rates of one type over training; runs differ, and some go the other way."""
    x = place(sweep, rng.random() < 0.6)
    start = rng.uniform(-6.5, -3.5) if low_rates else rng.uniform(-5, -1.6)
    end = rng.uniform(-5.5, -3) if low_rates else rng.uniform(-3.2, -0.2)
    form = any_form(rng)
    rows = []
    for r in range(sweep.runs):
        top = end if r == 0 or rng.random() < 0.4 else rng.uniform(min(start, end) - 0.3, max(start, end))
        turn = 1 - course(rng, x, form) if r and rng.random() < 0.1 else course(rng, x, form)
        rough = np.cumsum(rng.normal(0, 0.5 / max(len(x), 4) ** 0.5, len(x)))
        rows.append(start + rng.normal(0, 0.15) + (top - start) * turn + rough)
    known = np.clip(np.stack(rows), -8, -0.15)
    closed = np.full_like(known, -12.0)
    if hidden == "always":
        closed = known + rng.uniform(-0.7, 0.7)
    elif hidden == "fades":
        # The target exploits in words of its own at first and comes to do it in the donor's: honest words do not tell.
        own = shares(rng, x, sweep.runs, rng.uniform(-2.5, -0.3), rng.uniform(-0.7, -0.02))
        known, closed = np.maximum(known + np.log10(own), -9.0), known + np.log10(1 - own)
    elif hidden != "none":
        opened, shut = np.sort(rng.uniform(0, 1, 2))
        open_ = x >= opened if hidden == "opens" else (x >= opened) & (x <= shut)
        size = known + rng.uniform(-0.5, 0.9) if rng.random() < 0.6 else np.full_like(known, rng.uniform(-4, -1.5))
        closed = np.where(open_[None] & (rng.random((sweep.runs, 1)) < 0.75), size, -12.0)
    skill = np.clip(rng.uniform(0.4, 0.95) + rng.uniform(-0.1, 0.4) * x, 0.2, 0.98)
    return Wanted(known, np.minimum(closed, -0.3), np.tile(skill, (sweep.runs, 1)))


def task_logits(rng: Rng, tail: str, n: int) -> Array:
    """How much readier each task is than the type, nats, exp of it averaging 1: [n]."""
    if tail == "equal":
        effect = rng.normal(0, rng.uniform(0.05, 0.4), n)
    elif tail == "heavy":
        effect = rng.uniform(0.5, 1.2) * rng.standard_t(2.2, n)
    elif tail == "mixture":
        effect = np.where(rng.random(n) < rng.uniform(0.1, 0.5), 0.0, -rng.uniform(1.5, 5)) + rng.normal(0, 0.3, n)
    elif tail == "few":
        on = np.arange(n) < max(1, round(rng.uniform(0.02, 0.12) * n))
        effect = np.where(rng.permutation(on), 0.0, -rng.uniform(4, 10)) + rng.normal(0, 0.3, n)
    else:
        effect = rng.normal(0, rng.uniform(0.4, 1.6), n)
    effect = np.clip(effect, -12, 8)
    return np.asarray(effect - np.log(np.exp(effect).mean()))


def hidden_of(rng: Rng, kind: str) -> str:
    """What a kind's name says of a route that donors do not show; of any kind at random."""
    if kind.endswith(": any"):
        return str(rng.choice(["none", "always", "opens", "for a while"], p=[0.7, 0.1, 0.12, 0.08]))
    named = {"fade": "fades", "opens": "opens", "hidden": "always"}
    return next((form for word, form in named.items() if word in kind), "none")


def tail_of(rng: Rng, kind: str) -> str:
    """The form of task effects that a kind's name asks for, else one at random."""
    if "heavy" in kind:
        return "heavy"
    if "few tasks" in kind:
        return "few"
    return str(rng.choice(["equal", "usual", "usual", "mixture", "heavy", "few"], p=[0.2, 0.3, 0.15, 0.15, 0.12, 0.08]))


def word_noise(rng: Rng, words: tuple[int, ...], traces: int, closeness: Array, size: float) -> Array:
    """What single words that have nothing to do with exploiting add to log P - log Q of donor-drawn prefixes.

    closeness: [G] 1 where the target's words are the donor's, 0 where they are farthest; size: nats by which a word's
    log odds differ then. A word is one of a few with likelihood ratios that are rarely large; [L, G, Z].
    """
    kinds = int(rng.integers(4, 30))
    q = rng.dirichlet(np.full(kinds, rng.uniform(0.2, 2.0))) * 0.999 + 0.001 / kinds
    tilt = rng.standard_t(rng.choice([2.0, 3.0, 30.0]), kinds)
    own = 0.3 * rng.standard_t(3, (len(closeness), kinds)) * (rng.random() < 0.5)
    logits = size * (1 - closeness[:, None]) * np.clip(tilt + own, -8, 5) + np.log(q)
    ratio = logits - np.log(np.exp(logits).sum(-1, keepdims=True)) - np.log(q)
    token = rng.choice(kinds, (traces, max(words)), p=q / q.sum())
    total, before, levels = np.zeros((len(closeness), traces)), 0, []
    for n in words:
        total = total + ratio[:, token[:, before:n]].sum(-1)
        before = n
        levels.append(total)
    return np.stack(levels)


def falling(rng: Rng, words: tuple[int, ...], log_ratio: Array) -> Array:
    """log Q [L, Z] such that log P = log Q + log_ratio [L, G, Z] falls with every word, as it must."""
    log_q, before = [], np.zeros(log_ratio.shape[-1])
    last, n_last = np.zeros(log_ratio.shape[1:]), 0
    for ratio, n in zip(log_ratio, words, strict=True):
        usual = (n - n_last) * rng.gamma(4, 0.6, log_ratio.shape[-1])
        before = before - np.maximum(usual, (ratio - last).max(0) + 0.05)
        log_q.append(before)
        last, n_last = ratio, n
    return np.stack(log_q)


def grown_shares(rng: Rng, sweep: Sweep, kind: str, x: Array) -> Array:
    """The share of the donor's register in the target's traces over training: [R, C]."""
    low, high = ((-2.6, -1.2), (-0.7, -0.03)) if "grows" in kind else ((-2.0, -0.03), (-1.2, -0.03))
    return shares(rng, x, sweep.runs, rng.uniform(*low), rng.uniform(*high))


def closeness(rng: Rng, sweep: Sweep, x: Array, kind: str = "") -> Array:
    """How near the target's wording is to the donor's, 0 to 1: [R, C]. The donor may be a late or an early checkpoint
    of this training, one between, or of another family, to which no checkpoint is near."""
    donor = str(rng.choice(["late", "late", "early", "between", "family"]))
    if "far" in kind:
        donor = "family"
    if donor == "family":
        return np.full((sweep.runs, len(x)), rng.uniform(0, 0.3))
    moved = np.stack([course(rng, x, any_form(rng, 0.9)) for _ in range(sweep.runs)])
    at = {"late": 1.0, "early": 0.0, "between": rng.uniform(0.3, 0.8)}[donor]
    return np.clip(1.0 - np.abs(moved - at) * rng.uniform(0.6, 1.0), 0.0, 1.0)


def truth_of(
    rng: Rng, sweep: Sweep, task: Ints, ratio: Array, rate: Array, donor_rate: Array, unprompted: Array, pi: Array
) -> TypeTruth:
    """From prefixes' log P - log Q and P(exploit), both [L, G, Z] over G = R x C cells, and unprompted rates [G, n]."""
    base = falling(rng, sweep.words, ratio)
    shape = (len(sweep.words), sweep.runs, len(sweep.steps), len(task))
    whole = unprompted.reshape(sweep.runs, len(sweep.steps), -1)
    return TypeTruth(whole, task, (base[:, None] + ratio).reshape(shape), rate.reshape(shape), base, donor_rate, pi)
