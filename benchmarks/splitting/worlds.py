"""Worlds with exact rates: an exploit that is come to step by step, and one that is a single unannounced jump.

In the first, reasoning has a number of turning points, and each makes the next lean towards the exploit likelier: that
is what splitting is for. In the second, one word in a million decides and nothing announces it: no splitting can help,
and the estimate has to say so. The score is what a monitor could have: the exact P(exploit | beginning) to a power
below 1, times log-normal noise that stays much the same from level to level.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

WORDS_A_TURN = 6
_KEPT = 0.95
"""Share of the noise that a further stretch of words leaves as it was."""
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass
class Beginnings:
    """n beginnings: how far each leans towards the exploit, words written, the score's noise."""

    lean: Ints
    words: int
    noise: Floats


@dataclass(frozen=True)
class Ladder:
    """A task with turning points. up: [turns, leans] chance to lean one further at a turn; `needed` leans exploit."""

    up: Floats
    needed: int

    @property
    def n_words(self) -> int:
        """Words of a whole answer."""
        return len(self.up) * WORDS_A_TURN

    def values(self) -> Floats:
        """P(exploit | turns done, leans so far): [turns + 1, leans]."""
        found = np.zeros((len(self.up) + 1, self.up.shape[1]))
        found[-1, self.needed :] = 1.0
        for t in range(len(self.up) - 1, -1, -1):
            found[t, :-1] = self.up[t, :-1] * found[t + 1, 1:] + (1 - self.up[t, :-1]) * found[t + 1, :-1]
            found[t, -1] = found[t + 1, -1]
        return found


class LadderProcess:
    """A ladder as a process that writes word by word; `written` counts the words it cost."""

    def __init__(self, ladder: Ladder, noise: float, rng: np.random.Generator) -> None:
        self._ladder, self._noise, self._rng = ladder, noise, rng
        self._values = ladder.values()
        self._power = rng.uniform(0.7, 1.0)
        self.written = 0

    def start(self, n: int) -> Beginnings:
        return Beginnings(np.zeros(n, np.int64), 0, self._rng.standard_normal(n))

    def extend(self, state: Beginnings, level: int) -> Beginnings:
        level = min(level, self._ladder.n_words)
        lean = state.lean
        for turn in range(state.words // WORDS_A_TURN, level // WORDS_A_TURN):
            further = lean + (self._rng.random(len(lean)) < self._ladder.up[turn, lean])
            lean = np.minimum(further, self._ladder.needed)
        self.written += (level - state.words) * len(lean)
        noise = _KEPT * state.noise + (1 - _KEPT**2) ** 0.5 * self._rng.standard_normal(len(lean))
        return Beginnings(lean, level, noise)

    def score(self, state: Beginnings) -> Floats:
        exact = self._values[state.words // WORDS_A_TURN, state.lean]
        return np.maximum(exact**self._power, 1e-12) * np.exp(self._noise * state.noise)

    def finish(self, state: Beginnings) -> NDArray[np.bool_]:
        return np.asarray(self.extend(state, self._ladder.n_words).lean >= self._ladder.needed)

    def take(self, state: Beginnings, index: Ints) -> Beginnings:
        return Beginnings(state.lean[index], state.words, state.noise[index])


def gradual(rng: np.random.Generator, log10_rate: float, turns: int = 10) -> Ladder:
    """A ladder whose exact rate is near 10^log10_rate: how many leans it takes and how each helps the next is drawn."""
    needed = int(rng.integers(4, 8))
    shape = np.exp(rng.normal(0, 0.4, (turns, needed + 1)) + rng.uniform(0.0, 0.4) * np.arange(needed + 1))
    return _scaled(shape, needed, log10_rate)


def jump(rng: np.random.Generator, log10_rate: float, turns: int = 10) -> Ladder:
    """One lean is all it takes."""
    return _scaled(np.exp(rng.normal(0, 0.4, (turns, 2))), 1, log10_rate)


def _scaled(shape: Floats, needed: int, log10_rate: float) -> Ladder:
    low, high = -20.0, 3.0
    for _ in range(60):
        middle = (low + high) / 2
        ladder = Ladder(np.minimum(np.exp(middle) * shape, 0.95), needed)
        low, high = (middle, high) if ladder.values()[0, 0] < 10**log10_rate else (low, middle)
    return ladder
