"""Traces as words of a hidden Markov chain of registers and intents, with exact probabilities."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from benchmarks.calibration.worlds.sweep import Array, Ints, Rng


@dataclass(frozen=True, slots=True)
class Chain:
    """G cells, n tasks. hazard: [G, n, 2 registers, 2 routes] total intensity; when: [T] its share at each word;
    start: [G] probability of the donor's register; switch: [2] own to donor's and back; emission: [G, 2, 3, V];
    payoff: [G, 3]."""

    hazard: Array
    when: Array
    start: Array
    switch: Array
    emission: Array
    payoff: Array

    def of(self, task: Ints) -> Chain:
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
