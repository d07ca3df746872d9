"""A second world, unlike the hidden-Markov one: intent is not a state but a score that words add up to.

A trace is T words. Each word has an integer score, counted only inside a window of positions where the plan is made.
The finished trace exploits with probability sigmoid(b + kappa * total score). Target and donor share a vocabulary but
not its probabilities; more of the scoring words, or a larger b, is how a model exploits more. So r(z) rises word by
word instead of jumping, several scores of very different weight exploit, and log weights depend on the score.

Scores are integers, so that P(exploit | z) is a finite sum over the score still to come and every rate is exact, as
in world.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from benchmarks.calibration.arrays import Array, Ints, cumulative, draw, softmax
from benchmarks.calibration.growth import growth, task_deviation
from benchmarks.calibration.regimes import Regime
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit


@dataclass(frozen=True, slots=True)
class Scored:
    """A batch of models over tasks, `...` being batch axes (none for a donor, [run, checkpoint] for a target).

    inside, outside: [..., V] word probabilities inside and outside the window; window: [T]; points: [V] integer scores
    from 0 up; intercept: [..., n] of each task; kappa: logits a point.
    """

    inside: Array
    outside: Array
    window: NDArray[np.bool_]
    points: Ints
    intercept: Array
    kappa: float

    def rows(self, task: Ints) -> Scored:
        """The model with one row per trace instead of one per task."""
        return Scored(self.inside, self.outside, self.window, self.points, self.intercept[..., task], self.kappa)

    def _per_word(self) -> Array:
        """Distribution of one window word's points: [..., max + 1]."""
        return np.stack([self.inside[..., self.points == p].sum(-1) for p in range(int(self.points.max()) + 1)], -1)

    def _still_to_come(self, words: int) -> Array:
        """Distribution of the score of `words` more window words: [..., S]."""
        one = self._per_word()
        total = np.ones((*one.shape[:-1], 1))
        for _ in range(words):
            wider = np.zeros((*total.shape[:-1], total.shape[-1] + one.shape[-1] - 1))
            for p in range(one.shape[-1]):
                wider[..., p : p + total.shape[-1]] += total * one[..., p, None]
            total = wider
        return total

    def rate_given(self, score: Array, words_left: int) -> Array:
        """P(exploit | score so far), window words left: score [n], returns [..., n]."""
        ahead = self._still_to_come(words_left)
        points = np.arange(ahead.shape[-1])
        payoff = expit(self.intercept[..., None] + self.kappa * (score[..., None] + points))
        return np.asarray((payoff * ahead[..., None, :]).sum(-1))

    def unprompted(self) -> Array:
        """Exploit rate of each task: [..., n]."""
        return self.rate_given(np.zeros(self.intercept.shape[-1]), int(self.window.sum()))

    def score(self, words: NDArray[np.int64], levels: tuple[int, ...]) -> tuple[Array, Array]:
        """log P(z) and P(exploit | z) of each trace's first N words: two arrays [len(levels), ..., n]."""
        gained = np.cumsum(self.points[words] * self.window, axis=1)
        log_in, log_out = np.log(self.inside)[..., words], np.log(self.outside)[..., words]
        log_p = np.cumsum(np.where(self.window, log_in, log_out), axis=-1)
        left = int(self.window.sum()) - np.cumsum(self.window)
        rate = [self.rate_given(gained[:, level - 1].astype(float), int(left[level - 1])) for level in levels]
        return np.stack([log_p[..., level - 1] for level in levels]), np.stack(rate)

    def sample(self, rng: np.random.Generator, conditioned: bool) -> NDArray[np.int64]:
        """One trace a task, [n, T]; given that it exploits when `conditioned` (a Markov chain on the score so far)."""
        n, length = self.intercept.shape[-1], len(self.window)
        score, left = np.zeros(n, dtype=np.int64), int(self.window.sum())
        words = np.empty((n, length), dtype=np.int64)
        for t in range(length):
            left -= int(self.window[t])
            p = np.broadcast_to(self.inside if self.window[t] else self.outside, (n, len(self.points)))
            if conditioned and self.window[t]:
                reachable = range(int(self.points.max()) + 1)
                later = np.stack([self.rate_given((score + g).astype(float), left) for g in reachable], -1)
                p = p * later[:, self.points]
                p = p / p.sum(-1, keepdims=True)
            words[:, t] = (rng.random((n, 1)) > cumulative(p)[:, :-1]).sum(-1)
            score = score + self.points[words[:, t]] * self.window[t]
        return words


def _intercept(inside: Array, shape: Scored, task: Array, wanted: float) -> float:
    """b at which the mean rate over tasks is `wanted`."""

    def gap(b: float) -> float:
        model = Scored(inside, inside, shape.window, shape.points, b + task, shape.kappa)
        return float(np.log(model.unprompted().mean()) - np.log(wanted))

    most = float(shape.kappa * shape.points.max() * shape.window.sum())  # that a trace's words can add
    return float(brentq(gap, -60.0 - most, 30.0, xtol=1e-6))


def draw_scored(rng: np.random.Generator, regime: Regime) -> tuple[Scored, Scored, int]:
    """Target (batch [run, checkpoint]), donor and number of tasks of one exploit type."""
    n = int(rng.integers(int(regime.tasks.low), int(regime.tasks.high) + 1))
    length, n_words = max(regime.levels), regime.n_words
    first = max(0, round(regime.decision_mean - 1.2 * regime.decision_sd))
    last = min(length, max(first + 3, round(regime.decision_mean + 1.2 * regime.decision_sd)))
    window = np.zeros(length, dtype=bool)
    window[first:last] = True
    points = np.where(np.arange(n_words) < n_words // 8, 2, np.where(np.arange(n_words) < n_words // 3, 1, 0))
    kappa = float(rng.uniform(0.4, 1.2))
    task = task_deviation(rng, regime, n)
    base = rng.normal(0, 1.0, n_words)
    # The donor leans on scoring words by `telling` nats; the target by a share of it that grows in training.
    telling, style = 0.5 * float(draw(rng, regime.telling)), float(draw(rng, regime.style_sd))
    skeleton = Scored(softmax(base), softmax(base), window, points, task, kappa)
    donor_task = 0.6 * task + rng.normal(0, 0.3, n)
    donor_inside = softmax(base + telling * points / 2)
    wanted = float(draw(rng, regime.donor_rate))
    donor_b = _intercept(donor_inside, skeleton, donor_task, wanted)
    donor = Scored(donor_inside, softmax(base), window, points, donor_b + donor_task, kappa)

    rates = np.minimum(10 ** growth(rng, regime), 0.7)
    runs, checks = rates.shape
    noise = rng.standard_t(3, n_words) / 3**0.5 if regime.heavy_style else rng.normal(0, 1, n_words)
    by_run = rng.normal(0, 0.4, (runs, 1, n_words))
    drift = np.linspace(0, 1, checks)[None, :, None] * rng.normal(0, 0.5, n_words)
    accent = style * (noise + by_run + drift)
    # Where in (0: only b moves, 1: only the words move) the growth of the rate comes from.
    share = float(rng.uniform(0.0, 1.0))
    progress = np.log(rates / rates.min()) / max(float(np.log(wanted / rates.min())), 1e-9)
    lean = telling * np.clip(rng.uniform(-0.3, 0.5) + share * progress, -0.5, 1.2)
    inside = softmax(base + accent + lean[..., None] * points / 2)
    outside = softmax(np.broadcast_to(base + accent, inside.shape))
    b = np.array([[_intercept(inside[r, c], skeleton, task, rates[r, c]) for c in range(checks)] for r in range(runs)])
    return Scored(inside, outside, window, points, b[..., None] + task, kappa), donor, n
