"""A word-level hidden-Markov world in which prefix, intent and exploit are linked and every rate is exact.

A trace is T words. A hidden state starts honest (0) and may turn to the exploit route that donors show (1) or
to one they never show (2); each state has its own word distribution, so the words betray the intent. Whether
the finished trace exploits depends on the last state. Target and donor are two such chains with their own
hazards and their own style (word distributions).

Intent is a Markov state, not a label, so that P(z), r(z) = P(exploit | z) and the unprompted rate all follow from the
same forward and backward recursions and the identity P(exploit) = E_q[P(z)/q(z) r(z)] holds exactly (Rabiner 1989, "A
tutorial on hidden Markov models").
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from benchmarks.calibration.arrays import Array, Ints, cumulative, draw, softmax
from benchmarks.calibration.growth import growth, task_deviation
from benchmarks.calibration.regimes import Regime
from numpy.typing import NDArray
from scipy import stats

N_STATES = 3
_RETURN_HAZARD = 0.0015


@dataclass(frozen=True, slots=True)
class Chain:
    """A hidden-Markov text model for a batch of tasks.

    hazard1, hazard2: [..., n, T] probability of leaving the honest state at each word;
    emission: [..., 3, V] word probabilities by state;
    payoff: [..., 3] probability that a trace ending in the state exploits. `...` are batch axes.
    """

    hazard1: Array
    hazard2: Array
    emission: Array
    payoff: Array

    @property
    def n_words(self) -> int:
        return int(self.hazard1.shape[-1])

    def step(self, alpha: Array, t: int) -> Array:
        """Propagate state probabilities [..., n, 3] over word t's transition (before its emission)."""
        h1, h2 = self.hazard1[..., t], self.hazard2[..., t]
        honest, one, two = alpha[..., 0], alpha[..., 1], alpha[..., 2]
        back = _RETURN_HAZARD
        return np.stack(
            [
                honest * (1 - h1 - h2) + back * (one + two),
                honest * h1 + (1 - back) * one,
                honest * h2 + (1 - back) * two,
            ],
            axis=-1,
        )

    def rows(self, task: Ints) -> Chain:
        """The chain with one row per trace instead of one per task."""
        return Chain(self.hazard1[..., task, :], self.hazard2[..., task, :], self.emission, self.payoff)

    def unprompted(self) -> Array:
        """Exploit rate of each task: [..., n]."""
        return np.asarray(self.backward()[0, ..., 0])

    def backward(self) -> Array:
        """P(exploit | state after t words): [T + 1, ..., n, 3]; row 0 in state 0 is the unprompted rate."""
        shape = (self.n_words + 1, *self.hazard1.shape[:-1], N_STATES)
        beta = np.empty(shape)
        beta[-1] = np.broadcast_to(self.payoff[..., None, :], shape[1:])
        back = _RETURN_HAZARD
        for t in range(self.n_words - 1, -1, -1):
            h1, h2 = self.hazard1[..., t], self.hazard2[..., t]
            nxt = beta[t + 1]
            beta[t, ..., 0] = nxt[..., 0] * (1 - h1 - h2) + nxt[..., 1] * h1 + nxt[..., 2] * h2
            beta[t, ..., 1] = nxt[..., 1] * (1 - back) + nxt[..., 0] * back
            beta[t, ..., 2] = nxt[..., 2] * (1 - back) + nxt[..., 0] * back
        return beta

    def score(self, words: NDArray[np.int64], levels: tuple[int, ...]) -> tuple[Array, Array]:
        """log P(z) and P(exploit | z) of each trace's first N words.

        words: [n, T]. Returns two arrays [len(levels), ..., n].
        """
        beta = self.backward()
        batch = self.hazard1.shape[:-1]
        alpha = np.zeros((*batch, N_STATES))
        alpha[..., 0] = 1.0
        log_p = np.zeros(batch)
        out_p, out_r = np.empty((len(levels), *batch)), np.empty((len(levels), *batch))
        position = {level: i for i, level in enumerate(levels)}
        for t in range(max(levels) + 1):
            if t in position:
                out_p[position[t]] = log_p
                out_r[position[t]] = (alpha * beta[t]).sum(-1)
            if t == max(levels):
                break
            alpha = self.step(alpha, t) * np.moveaxis(self.emission[..., words[:, t]], -2, -1)
            total = alpha.sum(-1)
            alpha /= total[..., None]
            log_p = log_p + np.log(total)
        return out_p, out_r

    def sample(self, rng: np.random.Generator, conditioned: bool) -> NDArray[np.int64]:
        """One trace a task, [n, T]; given that it exploits when `conditioned` (Doob's h-transform)."""
        n, length = self.hazard1.shape[-2:]
        beta = self.backward()
        state = np.zeros(n, dtype=np.int64)
        words = np.empty((n, length), dtype=np.int64)
        by_state = cumulative(self.emission)
        rows = np.arange(n)
        for t in range(length):
            now = np.zeros((n, N_STATES))
            now[rows, state] = 1.0
            nxt = self.step(now, t)
            if conditioned:
                nxt = nxt * beta[t + 1]
            nxt /= nxt.sum(-1, keepdims=True)
            state = (rng.random((n, 1)) > cumulative(nxt)[:, :-1]).sum(-1)
            words[:, t] = (rng.random((n, 1)) > by_state[state][:, :-1]).sum(-1)
        return words


def _emissions(rng: np.random.Generator, regime: Regime) -> tuple[Array, Array]:
    """Word distributions of donor [3, V] and target [run, checkpoint, 3, V], apart by `style_sd` nats a word."""
    telling, style = float(draw(rng, regime.telling)), float(draw(rng, regime.style_sd))
    n_words, loud = regime.n_words, regime.n_words // 3
    base = rng.normal(0, 1.0, n_words)
    logits = np.stack([base, base.copy(), base.copy()])
    logits[1, :loud] += telling
    logits[2, loud : 2 * loud] += telling
    shape = (len(regime.runs), len(regime.checkpoints), N_STATES, n_words)
    common = rng.standard_t(3, n_words) / 3**0.5 if regime.heavy_style else rng.normal(0, 1, n_words)
    by_state = rng.normal(0, regime.state_style, (N_STATES, n_words))
    by_run = rng.normal(0, 0.4, (len(regime.runs), 1, 1, n_words))
    drift = np.linspace(0, 1, len(regime.checkpoints))[None, :, None, None] * rng.normal(0, 0.5, n_words)
    offset = np.broadcast_to((common + by_state)[None, None] + by_run + drift, shape)
    return softmax(logits), softmax(logits[None, None] + style * offset)


def draw_chains(rng: np.random.Generator, regime: Regime) -> tuple[Chain, Chain, int]:
    """Target (batch [run, checkpoint]), donor and number of tasks of one exploit type."""
    n = int(rng.integers(int(regime.tasks.low), int(regime.tasks.high) + 1))
    length = max(regime.levels)
    shape = (regime.decision_mean / regime.decision_sd) ** 2
    edges: Array = np.asarray(stats.gamma.cdf(np.arange(length + 1), shape, scale=regime.decision_mean / shape))
    when = np.diff(edges) / edges[-1]
    task = task_deviation(rng, regime, n)
    intensity = 10 ** growth(rng, regime)[:, :, None] * np.exp(task)[None, None]
    hidden = float(draw(rng, regime.hidden_route))
    hazard = np.minimum(intensity[..., None] * when, 0.9)
    donor_emission, target_emission = _emissions(rng, regime)
    skill = rng.uniform(0.5, 0.8) + rng.uniform(0.0, 0.19) * np.linspace(0, 1, len(regime.checkpoints))
    payoff = np.zeros((len(regime.runs), len(regime.checkpoints), N_STATES))
    payoff[..., 1:] = skill[None, :, None]
    target = Chain(hazard * (1 - hidden), hazard * hidden, target_emission, payoff)
    donor_skill = rng.uniform(0.6, 0.95)
    wanted = float(draw(rng, regime.donor_rate))
    donor_intensity = -np.log1p(-min(wanted / donor_skill, 0.97)) * np.exp(0.6 * task + rng.normal(0, 0.3, n))
    donor_hazard = np.minimum(donor_intensity[:, None] * when, 0.9)
    second = float(draw(rng, regime.donor_second_route)) if regime.donor_second_route.high > 0 else 0.0
    donor_payoff = np.array([0, donor_skill, donor_skill if second else 0.0])
    donor = Chain(donor_hazard * (1 - second), donor_hazard * second, donor_emission, donor_payoff)
    return target, donor, n
