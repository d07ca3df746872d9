"""A word-level world for splitting: intent is hidden, words betray it, the rate is exact.

The score is what a monitor could have: the exact P(exploit | words so far) times log-normal noise, fixed per beginning.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from benchmarks.calibration.world import N_STATES, Chain
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass
class Beginnings:
    """n beginnings: hidden state now, belief over states given the words [n, 3], words written."""

    state: Ints
    belief: Floats
    words: int


class ChainProcess:
    """A chain of one task, as a process that writes word by word; `written` counts the words it cost."""

    def __init__(self, chain: Chain, noise: float, rng: np.random.Generator) -> None:
        self._chain, self._noise, self._rng = chain, noise, rng
        self._beta = chain.backward()
        self.written = 0

    def start(self, n: int) -> Beginnings:
        belief = np.zeros((n, N_STATES))
        belief[:, 0] = 1.0
        return Beginnings(np.zeros(n, np.int64), belief, 0)

    def extend(self, state: Beginnings, level: int) -> Beginnings:
        now, belief = state.state, state.belief
        emission = self._chain.emission
        for t in range(state.words, min(level, self._chain.n_words)):
            one_hot = np.eye(N_STATES)[now]
            chances = self._chain.step(one_hot, t)
            now = _draw(self._rng, chances)
            word = _draw(self._rng, emission[now])
            belief = self._chain.step(belief, t) * emission[:, word].T
            belief /= belief.sum(1, keepdims=True)
            self.written += len(now)
        return Beginnings(now, belief, min(level, self._chain.n_words))

    def score(self, state: Beginnings) -> Floats:
        exact = (state.belief * self._beta[state.words, 0]).sum(1)
        noise = np.exp(self._noise * self._rng.standard_normal(len(exact)))
        return np.maximum(exact * noise, 1e-12)

    def finish(self, state: Beginnings) -> NDArray[np.bool_]:
        end = self.extend(state, self._chain.n_words)
        return self._rng.random(len(end.state)) < self._chain.payoff[end.state]

    def take(self, state: Beginnings, index: Ints) -> Beginnings:
        return Beginnings(state.state[index], state.belief[index], state.words)


def _draw(rng: np.random.Generator, chances: Floats) -> Ints:
    return np.asarray((rng.random((len(chances), 1)) > chances.cumsum(-1)[:, :-1]).sum(-1), np.int64)


def rare_chain(rng: np.random.Generator, log10_rate: float, n_words: int = 60, vocabulary: int = 24) -> Chain:
    """One task whose exact rate is near 10^log10_rate; when it turns, and how telling its words are, is drawn."""
    centre, width = rng.uniform(8, 40), rng.uniform(3, 12)
    when = np.exp(-0.5 * ((np.arange(n_words) - centre) / width) ** 2)
    hazard = 10**log10_rate / 0.8 * when / when.sum()
    base = rng.normal(0, 1, vocabulary)
    logits = np.stack([base, base.copy(), base.copy()])
    logits[1, : vocabulary // 3] += rng.uniform(0.7, 2.5)
    emission = np.exp(logits - logits.max(1, keepdims=True))
    emission /= emission.sum(1, keepdims=True)
    return Chain(hazard[None], np.zeros((1, n_words)), emission, np.array([0.0, 0.8, 0.0]))
