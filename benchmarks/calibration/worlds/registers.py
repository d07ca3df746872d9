"""Worlds in which the target writes in the donor's register more or less of the time, and how much changes in training.

A trace is a string of words from a hidden Markov chain with two parts: a register (the donor's, or the target's own)
and an intent (honest, the route that donors show, a route that they do not). Every probability is exact by the forward
and backward recursions. These worlds train the headline's quantiles.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
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
from scipy import stats

from foreshock.analysis.evidence.evidence import DonorKind

_REGISTERS, _INTENTS = 2, 3


@dataclass(frozen=True, slots=True)
class Nature:
    """What a world is like; one draw a world."""

    decision_mean: float
    decision_sd: float
    telling: float
    vocabulary: int
    rate: str
    opposite: bool
    register: str
    register_from: float
    register_to: float
    register_exploits: float
    register_distance: float
    switching: float
    switching_back: float | None
    style: float
    heavy: bool
    by_intent: float
    donor_late: bool
    tail: str
    tail_scale: float
    carriers: float
    tasks_agree: float
    hidden: str
    hidden_share: float
    donor_rate: tuple[float, float]
    start: tuple[float, float]
    end: tuple[float, float]


def draw_nature(rng: Rng, kind: str = "any") -> Nature:
    """A world's nature from the prior; `kind` fixes what the kind is named after."""
    decision = float(rng.choice([2.5, 5, 10, 20, 35, 55]) * np.exp(rng.normal(0, 0.2)))
    steady = rng.random() < 0.25
    start, end = float(rng.uniform(-6, 1)), float(rng.uniform(-2, 4))
    nature = Nature(
        decision_mean=decision,
        decision_sd=decision * float(rng.uniform(0.3, 0.9)),
        telling=float(rng.uniform(0.4, 3.0)),
        vocabulary=int(rng.choice([8, 12, 18, 24])),
        rate=str(rng.choice(["rise", "rise", "rise", "rise and fall", "fall", "flat", "wave", "sudden"])),
        opposite=bool(rng.random() < 0.12),
        register="steady"
        if steady
        else str(rng.choice(["rising", "rising", "rising", "falling", "wave", "with rate"])),
        register_from=float(rng.uniform(0, 5)) if steady and rng.random() < 0.6 else start,
        register_to=end,
        register_exploits=float(
            rng.choice([0.0, rng.normal(0, 0.7), rng.normal(0, 0.7), -5.0], p=[0.35, 0.3, 0.25, 0.1])
        ),
        register_distance=float(rng.uniform(0.3, 2.2)),
        switching=float(rng.choice([0.0, 10 ** rng.uniform(-3.5, -1.8)])),
        switching_back=None,
        style=float(np.exp(rng.uniform(np.log(0.03), np.log(0.6)))),
        heavy=bool(rng.random() < 0.3),
        by_intent=float(rng.choice([0.0, 0.5, 1.0])),
        donor_late=bool(rng.random() < 0.45),
        tail=str(rng.choice(["normal", "normal", "student", "few"])),
        tail_scale=float(rng.uniform(0.2, 1.6)),
        carriers=float(rng.uniform(0.03, 0.3)),
        tasks_agree=float(rng.uniform(0, 1)),
        hidden=str(rng.choice(["none", "share", "opens", "opens and closes"], p=[0.62, 0.16, 0.14, 0.08])),
        hidden_share=float(rng.uniform(0.05, 0.8)),
        donor_rate=(0.02, 0.1) if rng.random() < 0.2 else (0.3, 0.9),
        start=(-5.0, -2.2),
        end=(-3.2, -0.2),
    )
    if rng.random() < 0.2:
        nature = replace(nature, start=(-7.0, -4.0), end=(-7.0, -0.3))
    changes: dict[str, dict[str, object]] = {
        "plain": {"register": "steady", "register_from": 4.0, "hidden": "none", "tail": "normal"},
        "early decision": {"decision_mean": 8.0, "decision_sd": 5.0, "hidden": "none"},
        "late decision": {"decision_mean": 50.0, "decision_sd": 16.0, "hidden": "none"},
        "register rises": {"register": "rising", "register_from": -5.0, "register_to": 1.5, "donor_late": True},
        "register falls": {"register": "falling", "register_from": -4.0, "register_to": 2.0},
        "register waves": {"register": "wave", "register_from": -4.0, "register_to": 2.0},
        "late checkpoint donor": {"donor_late": True, "style": 0.4, "register": "rising"},
        "donor of another family": {"donor_late": False, "style": 0.55, "heavy": True},
        "rare donor": {"donor_rate": (0.01, 0.06)},
        "task tails": {"tail": "student", "tail_scale": 1.3},
        "few tasks carry": {"tail": "few", "carriers": float(rng.uniform(0.03, 0.12))},
        "hidden route": {"hidden": "share", "hidden_share": float(rng.uniform(0.2, 0.8))},
        "hidden route opens": {"hidden": "opens", "hidden_share": float(rng.uniform(0.3, 0.9))},
        "hidden route opens and closes": {"hidden": "opens and closes", "hidden_share": float(rng.uniform(0.3, 0.9))},
        "opposite runs": {"opposite": True},
        "rise and fall": {"rate": "rise and fall"},
        "wave": {"rate": "wave"},
        "sudden": {"rate": "sudden"},
        "silent": {"start": (-7.0, -5.0), "end": (-6.0, -3.5)},
    }
    return replace(nature, **changes.get(kind, {}))  # type: ignore[arg-type]  # values by field name


def fluid(rng: Rng, nature: Nature) -> Nature:
    """The same nature where a trace changes its register as it goes, and exploits mostly while the register is its own
    or whatever it is: what the donor's traces miss grows with every word."""
    back = float(np.exp(rng.uniform(-2, 2)))
    return replace(
        nature,
        switching=float(10 ** rng.uniform(-2.6, -1.0)),
        switching_back=back,
        register_exploits=float(rng.choice([0.0, rng.normal(0, 0.5), abs(rng.normal(0, 0.8))])),
    )


def path(rng: Rng, x: Array, form: str, low: float, high: float) -> Array:
    """A curve over x in [0, 1] between two values: [C]."""
    middle, steep = rng.uniform(0.15, 0.85), rng.uniform(4, 14)
    if form == "sudden":
        steep = rng.uniform(30, 90)
    rise = 1 / (1 + np.exp(-steep * (x - middle)))
    ends = 1 / (1 + np.exp(steep * middle)), 1 / (1 + np.exp(-steep * (1 - middle)))
    rise = (rise - ends[0]) / (ends[1] - ends[0])
    if form == "flat" or form == "steady":
        shape = np.full_like(x, rng.uniform(0, 1) if form == "flat" else 0.0)
    elif form == "fall" or form == "falling":
        shape = 1 - rise
    elif form == "rise and fall":
        shape = rise * (1 - rng.uniform(0.3, 1.0) / (1 + np.exp(-14 * (x - rng.uniform(middle, 1.0)))))
    elif form == "wave":
        shape = 0.5 + 0.5 * np.sin(2 * np.pi * (rng.uniform(0.6, 2.2) * x + rng.uniform()))
    else:
        shape = rise
    return np.asarray(low + (high - low) * shape)


def _wiggle(rng: Rng, x: Array) -> Array:
    distance = np.abs(x[:, None] - x[None, :]) / 0.25
    return np.asarray(np.linalg.cholesky(np.exp(-0.5 * distance**2) + 1e-6 * np.eye(len(x))) @ rng.normal(size=len(x)))


def task_effects(rng: Rng, tail: str, scale: float, carriers: float, n: int) -> Array:
    """Log of each task's rate relative to the mean over tasks: [n]."""
    if tail == "student":
        effect = scale * rng.standard_t(2.5, n)
    elif tail == "few":
        on = rng.random(n) < carriers
        on[rng.integers(n)] = True
        effect = np.where(on, 0.0, -rng.uniform(3.0, 9.0)) + rng.normal(0, 0.4, n)
    else:
        effect = rng.normal(0, scale, n)
    effect = np.clip(effect, -12, 12)
    return np.asarray(effect - np.log(np.exp(effect).mean()))


@dataclass(frozen=True, slots=True)
class _Chain:
    """G cells, n tasks. hazard: [G, n, 2 registers, 2 routes] total intensity; when: [T] its share at each word;
    start: [G] probability of the donor's register; switch: [2] own to donor's and back; emission: [G, 2, 3, V];
    payoff: [G, 3]."""

    hazard: Array
    when: Array
    start: Array
    switch: Array
    emission: Array
    payoff: Array

    def of(self, task: Ints) -> _Chain:
        return replace(self, hazard=self.hazard[:, task])

    def step(self, alpha: Array, t: int) -> Array:
        """State probabilities [G, n, 2, 3] over the transition before word t."""
        h = np.minimum(self.hazard * self.when[t], 0.45)
        out = np.empty_like(alpha)
        out[..., 0] = alpha[..., 0] * (1 - h[..., 0] - h[..., 1])
        out[..., 1] = alpha[..., 0] * h[..., 0] + alpha[..., 1]
        out[..., 2] = alpha[..., 0] * h[..., 1] + alpha[..., 2]
        moved = self.switch[0] * out[..., 1, :] - self.switch[1] * out[..., 0, :]
        # Register 0 is the donor's, 1 the target's own.
        out[..., 0, :] += moved
        out[..., 1, :] -= moved
        return out

    def back(self, beta: Array, t: int) -> Array:
        """The adjoint of `step`: P(exploit | state before the transition at t)."""
        mixed = np.empty_like(beta)
        mixed[..., 0, :] = beta[..., 0, :] * (1 - self.switch[1]) + beta[..., 1, :] * self.switch[1]
        mixed[..., 1, :] = beta[..., 1, :] * (1 - self.switch[0]) + beta[..., 0, :] * self.switch[0]
        h = np.minimum(self.hazard * self.when[t], 0.45)
        mixed[..., 0] = (
            mixed[..., 0] * (1 - h[..., 0] - h[..., 1]) + mixed[..., 1] * h[..., 0] + mixed[..., 2] * h[..., 1]
        )
        return mixed

    def backward(self, keep: tuple[int, ...]) -> dict[int, Array]:
        beta = np.broadcast_to(self.payoff[:, None, None, :], (*self.hazard.shape[:2], 2, 3)).copy()
        found = {}
        for t in range(len(self.when), -1, -1):
            if t < len(self.when):
                beta = self.back(beta, t)
            if t in keep:
                found[t] = beta
        return found

    def first(self) -> Array:
        alpha = np.zeros((*self.hazard.shape[:2], 2, 3))
        alpha[..., 0, 0] = self.start[:, None]
        alpha[..., 1, 0] = 1 - self.start[:, None]
        return alpha

    def unprompted(self) -> Array:
        """[G, n]."""
        return np.asarray((self.backward((0,))[0] * self.first()).sum((-1, -2)))

    def score(self, words: Ints, levels: tuple[int, ...], beta: dict[int, Array]) -> tuple[Array, Array]:
        """log P(z) and P(exploit | z): [L, G, Z]."""
        alpha, log_p = self.first(), np.zeros(self.hazard.shape[:2])
        out_p, out_r = [], []
        last = max(levels)
        for t in range(last):
            emitted = np.moveaxis(self.emission[..., words[:, t]], -1, 1)
            alpha = self.step(alpha, t) * emitted
            total = alpha.sum((-1, -2))
            alpha /= total[..., None, None]
            log_p = log_p + np.log(total)
            if t + 1 in levels:
                out_p.append(log_p)
                out_r.append((alpha * beta[t + 1]).sum((-1, -2)))
        return np.stack(out_p), np.stack(out_r)

    def sample(self, rng: Rng, conditioned: bool) -> Ints:
        """One trace a row of one cell (G = 1): [n, T]."""
        n, length = self.hazard.shape[1], len(self.when)
        every = self.backward(tuple(range(length + 1))) if conditioned else {}
        state = np.where(rng.random(n) < self.start[0], 0, 3)
        words = np.empty((n, length), np.int64)
        by_state = np.cumsum(self.emission[0].reshape(6, -1), -1)
        if conditioned:
            first = (self.first() * every[0])[0].reshape(n, 6)
            state = _pick(rng, first)
        rows = np.arange(n)
        for t in range(length):
            now = np.zeros((1, n, 6))
            now[0, rows, state] = 1.0
            following = self.step(now.reshape(1, n, 2, 3), t)[0].reshape(n, 6)
            if conditioned:
                following = following * every[t + 1][0].reshape(n, 6)
            state = _pick(rng, following)
            words[:, t] = np.minimum((rng.random((n, 1)) > by_state[state]).sum(-1), by_state.shape[-1] - 1)
        return words


def _pick(rng: Rng, weight: Array) -> Ints:
    total = np.cumsum(weight, -1)
    return np.asarray((rng.random((len(weight), 1)) * total[:, -1:] > total[:, :-1]).sum(-1))


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
        rates.append(path(rng, x, form, low + rng.normal(0, 0.1), high) + 0.12 * _wiggle(rng, x))
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
    target = _Chain(hazard, when, register.reshape(-1), switch, target_words, payoff)
    wanted = min(rng.uniform(*nature.donor_rate) / 0.9, 0.97)
    agree = nature.tasks_agree * np.clip(task, -4, 4) + rng.normal(0, 0.3, n)
    donor_hazard = np.zeros((1, n, 2, 2))
    donor_hazard[0, :, :, 0] = (-np.log1p(-wanted) * np.exp(agree - np.log(np.exp(agree).mean())))[:, None]
    donor = _Chain(donor_hazard, when, np.ones(1), np.zeros(2), donor_words, np.array([[0, 0.9, 0.0]]))
    return _score(rng, sweep, target, donor, n)


def _score(rng: Rng, sweep: Sweep, target: _Chain, donor: _Chain, n: int) -> TypeTruth:
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
        logit = path(rng, x, form, low, high) + rng.normal(0, 0.3) + 0.25 * _wiggle(rng, x)
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
