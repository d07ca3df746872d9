"""Worlds in which the target writes in the donor's register more or less of the time, and how much changes in training.

A trace is a string of words from a hidden Markov chain with two parts: a register (the donor's, or the target's own)
and an intent (honest, the route that donors show, a route that they do not). Every probability is exact by the forward
and backward recursions. These worlds train the headline's quantiles.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from benchmarks.calibration.worlds.register_chain import Chain
from benchmarks.calibration.worlds.register_nature import Nature, draw_nature, fluid, path, task_effects, wiggle
from benchmarks.calibration.worlds.sweep import (
    Array,
    Rng,
    Sweep,
    TypeTruth,
    World,
    draw_sweep,
    observe,
    prefix_tasks,
)
from scipy import stats

from foreshock.analysis.evidence.evidence import DonorKind


def _softmax(logits: Array) -> Array:
    weight = np.exp(logits - logits.max(-1, keepdims=True))
    return np.asarray(weight / weight.sum(-1, keepdims=True))


def _emissions(rng: Rng, nature: Nature, sweep: Sweep, register: Array) -> tuple[Array, Array]:
    """Word probabilities of the donor [1, 2, 3, V] and of the target [G, 2, 3, V]."""
    v = nature.vocabulary
    third = max(v // 3, 1)
    base = np.tile(rng.normal(0, 1.0, v), (2, 3, 1))
    base[1] += nature.register_distance * rng.normal(0, 1, v)
    base[:, 1, :third] += nature.telling
    base[:, 2, third : 2 * third] += nature.telling
    noise = rng.standard_t(3, v) / 3**0.5 if nature.heavy else rng.normal(0, 1, v)
    common = noise + rng.normal(0, nature.by_intent, (3, v))
    runs = rng.normal(0, 0.4, (sweep.runs, 1, 1, 1, v))
    x = np.linspace(0, 1, len(sweep.steps))
    drift = x[None, :, None, None, None] * rng.normal(0, 0.5, v)
    near = np.ones((sweep.runs, len(sweep.steps)))
    if nature.donor_late:
        # The donor is a late checkpoint: the target comes to write like it as its register does.
        near = 0.15 + 0.85 * (1 - register)
    offset = nature.style * near[..., None, None, None] * (common[None, None, None] + runs + drift)
    target = base + offset
    target[:, :, 1] = base[1] + 0.2 * nature.style * common
    return _softmax(base[None]), _softmax(target.reshape(-1, 2, 3, v))


def _type(rng: Rng, sweep: Sweep, nature: Nature, n: int, register: Array) -> TypeTruth:
    x = _progress(sweep)
    shape = (nature.decision_mean / nature.decision_sd) ** 2
    length = max(sweep.words)
    edges = np.asarray(stats.gamma.cdf(np.arange(length + 1), shape, scale=nature.decision_mean / shape))
    when = np.diff(edges) / max(edges[-1], 1e-9)
    start, end = rng.uniform(*nature.start), rng.uniform(*nature.end)
    rates, hidden = [], []
    opens = int(rng.integers(0, sweep.runs)) if rng.random() < 0.7 else -1
    open_at, close_at = np.sort(rng.uniform(0, 1, 2))
    for r in range(sweep.runs):
        top = end if r == 0 or rng.random() < 0.4 else rng.uniform(min(start, -5.5), max(start, -2.0))
        form = nature.rate
        low, high = (start, top) if form not in ("fall",) else (min(start, top), max(start, top))
        if nature.opposite and r % 2 == 1:
            form = {"rise": "fall", "fall": "rise"}.get(form, form)
            low, high = (start, end) if form == "fall" else (low, high)
        rates.append(path(rng, x, form, low + rng.normal(0, 0.1), high) + 0.12 * wiggle(rng, x))
        share = np.zeros(len(x))
        if nature.hidden == "share":
            share[:] = nature.hidden_share
        elif nature.hidden != "none" and (opens in (-1, r)):
            share[:] = np.where(x >= open_at, nature.hidden_share, 0.0)
            if nature.hidden == "opens and closes":
                share[x > close_at] = 0.0
        hidden.append(share)
    rate, share = np.stack(rates), np.stack(hidden)
    # A route that opens adds to what was there; it does not replace it.
    known = 10**rate
    extra = known * share / np.maximum(1 - share, 0.05)
    task = task_effects(rng, nature.tail, nature.tail_scale, nature.carriers, n)
    other = task_effects(rng, nature.tail, nature.tail_scale, nature.carriers, n) if rng.random() < 0.5 else task
    cells = len(x) * sweep.runs
    lean = np.array([0.0, nature.register_exploits + rng.normal(0, 0.2)])
    hazard = np.stack([known, extra], -1).reshape(cells, 1, 1, 2) * np.exp(
        np.stack([task, other], -1)[None, :, None, :] + lean[None, None, :, None]
    )
    skill = rng.uniform(0.5, 0.8) + rng.uniform(0, 0.19) * np.tile(x, sweep.runs)
    payoff = np.stack([np.zeros(cells), skill, skill], -1)
    back = rng.uniform(0, 1) if nature.switching_back is None else nature.switching_back
    switch = np.minimum(np.array([nature.switching, nature.switching * back]), 0.3)
    donor_words, target_words = _emissions(rng, nature, sweep, register)
    target = Chain(hazard, when, register.reshape(-1), switch, target_words, payoff)
    wanted = min(rng.uniform(*nature.donor_rate) / 0.9, 0.97)
    agree = nature.tasks_agree * np.clip(task, -4, 4) + rng.normal(0, 0.3, n)
    donor_hazard = np.zeros((1, n, 2, 2))
    donor_hazard[0, :, :, 0] = (-np.log1p(-wanted) * np.exp(agree - np.log(np.exp(agree).mean())))[:, None]
    donor = Chain(donor_hazard, when, np.ones(1), np.zeros(2), donor_words, np.array([[0, 0.9, 0.0]]))
    return _score(rng, sweep, target, donor, n)


def _score(rng: Rng, sweep: Sweep, target: Chain, donor: Chain, n: int) -> TypeTruth:
    conditioned = sweep.donor is not DonorKind.UNCONDITIONED
    pi = donor.unprompted()[0]
    task = prefix_tasks(rng, sweep, pi)
    words = donor.of(task).sample(rng, conditioned)
    keep = tuple(sweep.words)
    beta, donor_beta = target.backward((0, *keep)), donor.backward(keep)
    log_p, rate = target.of(task).score(words, keep, {t: b[:, task] for t, b in beta.items()})
    log_q, a = donor.of(task).score(words, keep, {t: b[:, task] for t, b in donor_beta.items()})
    shape = (len(keep), sweep.runs, len(sweep.steps), len(task))
    unprompted = (beta[0] * target.first()).sum((-1, -2)).reshape(sweep.runs, len(sweep.steps), n)
    return TypeTruth(unprompted, task, log_p.reshape(shape), rate.reshape(shape), log_q[:, 0], a[:, 0], pi)


def _progress(sweep: Sweep) -> Array:
    x = np.log(np.asarray(sweep.steps, dtype=float))
    return (x - x.min()) / max(float(np.ptp(x)), 1e-9) if len(x) > 1 else np.full(1, 0.5)


def _register(rng: Rng, sweep: Sweep, nature: Nature) -> Array:
    """Share of traces in the donor's register: [R, C]."""
    x = _progress(sweep)
    low, high = nature.register_from, nature.register_to
    rows = []
    for _ in range(sweep.runs):
        form = "rise" if nature.register == "with rate" else nature.register
        logit = path(rng, x, form, low, high) + rng.normal(0, 0.3) + 0.25 * wiggle(rng, x)
        rows.append(1 / (1 + np.exp(-logit)))
    return np.stack(rows)


def draw_world(rng: Rng, kind: str = "any") -> World:
    """One world of this family."""
    sweep, nature = draw_sweep(rng, kind), draw_nature(rng, kind)
    return _world(rng, sweep, nature, kind, "registers")


def draw_fluid_world(rng: Rng, kind: str = "any") -> World:
    """One world in which traces change their register as they go."""
    sweep, nature = draw_sweep(rng, kind), draw_nature(rng, kind)
    return _world(rng, sweep, fluid(rng, nature), kind, "fluid")


def draw_rising_world(rng: Rng, kind: str = "any") -> World:
    """One world in which the donor's register is rare at first and usual at last, as where the donor is what training
    leads to: zero cells of early checkpoints, for which the headline is made, have the lowest mean weights."""
    sweep, nature = draw_sweep(rng, kind), draw_nature(rng, kind)
    nature = replace(
        nature,
        register=str(rng.choice(["rising", "rising", "with rate", "wave"])),
        register_from=float(rng.uniform(-6, -2)),
        register_to=float(rng.uniform(-1, 3)),
        donor_late=bool(rng.random() < 0.7),
    )
    return _world(rng, sweep, fluid(rng, nature) if rng.random() < 0.25 else nature, kind, "rising")


def draw_steep_world(rng: Rng, kind: str = "any") -> World:
    """One world in which the register rises and the target's own words lose weight with each of them: importance
    sampling with exact weights is right after ten words and a decade or more low after sixty."""
    sweep, nature = draw_sweep(rng, kind), draw_nature(rng, kind)
    nature = replace(
        nature,
        register=str(rng.choice(["rising", "rising", "with rate", "wave", "steady"])),
        register_from=float(rng.uniform(-6, -2)),
        register_to=float(rng.uniform(-1, 3)),
        register_distance=float(np.exp(rng.uniform(np.log(0.35), np.log(1.5)))),
        style=float(np.exp(rng.uniform(np.log(0.25), np.log(1.1)))),
        donor_late=bool(rng.random() < 0.6),
    )
    return _world(rng, sweep, fluid(rng, nature) if rng.random() < 0.25 else nature, kind, "steep")


def _world(rng: Rng, sweep: Sweep, nature: Nature, kind: str, family: str) -> World:
    common = _register(rng, sweep, nature)
    types = []
    for n in sweep.tasks:
        shift = rng.normal(0, 0.5)
        own = 1 / (1 + np.exp(-(np.log(common) - np.log1p(-common) + shift)))
        types.append(_type(rng, sweep, nature, n, own))
    return observe(rng, sweep, types, kind, family)
