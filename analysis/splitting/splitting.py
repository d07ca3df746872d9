"""Multilevel splitting: P(exploit) from the model's own prefixes, unbiased at any number of particles.

Particles are the model's own beginnings of an answer. At each level (words written so far) a score says how likely an
exploit has become; particles are drawn anew in proportion to how much their score has risen, go on, and the final
outcome is divided by the score. The product of the mean rises is an unbiased estimate of the rate whatever the scores
are, as long as they are positive (Del Moral, Feynman-Kac Formulae, 2004, theorem 7.4.2): bad scores cost variance, not
truth. Independent repeats give the standard error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
State = TypeVar("State")

MIN_REPEATS = 4
MOST_ERROR = 0.25
"""Relative standard error up to which the repeats' own spread can be believed: a sum of few large terms looks precise
while the largest have not been seen."""


class WordProcess(Protocol[State]):
    """A model that writes word by word. `State` holds a batch of beginnings, in order."""

    def start(self, n: int) -> State:
        """`n` empty beginnings."""

    def extend(self, state: State, level: int) -> State:
        """The same beginnings written on, by the model's own draws, up to `level` words in all."""

    def score(self, state: State) -> Floats:
        """[n] positive guesses of P(exploit | beginning); they may be random."""

    def finish(self, state: State) -> Bools:
        """[n] whether each, written to its end, exploits."""

    def take(self, state: State, index: NDArray[np.int64]) -> State:
        """The beginnings at these places, repeated ones as copies that go on independently."""


@dataclass(frozen=True, slots=True)
class Split:
    """An estimated rate.

    rate: mean of the repeats, unbiased. standard_error: of that mean. lower95, upper95: where `trusted`, on the log
    scale by the delta method and Student's t; else a twentieth of the rate (Markov's inequality, which needs nothing
    but an unbiased estimate that is never negative) and 1. trusted: the relative error is at most MOST_ERROR. repeats:
    each one's estimate. survivors: by level, mean share of distinct ancestors left (few: the estimate hangs on few
    beginnings).
    """

    rate: float
    standard_error: float
    lower95: float
    upper95: float
    repeats: tuple[float, ...]
    survivors: tuple[float, ...]
    trusted: bool


class _Words(Generic[State]):
    """One repeat."""

    def __init__(self, process: WordProcess[State], levels: Sequence[int], particles: int) -> None:
        self._process, self._levels, self._n = process, levels, particles

    def run(self, rng: np.random.Generator) -> tuple[float, list[float]]:
        process, n = self._process, self._n
        state, before, total = process.start(n), np.ones(n), 1.0
        ancestors, survivors = np.arange(n), list[float]()
        for level in self._levels:
            state = process.extend(state, level)
            now = _positive(process.score(state), n)
            rise = now / before
            total *= float(rise.mean())
            chosen = rng.choice(n, n, p=rise / rise.sum())
            state, before, ancestors = process.take(state, chosen), now[chosen], ancestors[chosen]
            survivors.append(len(np.unique(ancestors)) / n)
        return total * float((process.finish(state) / before).mean()), survivors


def _positive(scores: Floats, n: int) -> Floats:
    if scores.shape != (n,) or not (np.isfinite(scores) & (scores > 0)).all():
        raise ValueError(f"scores must be {n} finite numbers above 0: a score of 0 would drop what may still exploit")
    return scores


def split_rate(
    process: WordProcess[State], levels: Sequence[int], particles: int, repeats: int, seed: int = 0
) -> Split:
    """Estimate P(exploit) with `repeats` independent runs of `particles` beginnings.

    levels: words, ascending, at which beginnings are scored; none makes it direct sampling.
    Raises ValueError for levels that do not ascend, fewer than 2 particles or MIN_REPEATS repeats.
    """
    if list(levels) != sorted(set(levels)) or any(level < 1 for level in levels):
        raise ValueError(f"levels {list(levels)} are not ascending numbers of words")
    if particles < 2 or repeats < MIN_REPEATS:
        raise ValueError(f"{particles} particles, {repeats} repeats; at least 2 and {MIN_REPEATS}")
    streams = [np.random.default_rng([seed, i]) for i in range(repeats)]
    found = [_Words(process, levels, particles).run(rng) for rng in streams]
    values = np.array([value for value, _ in found])
    survivors = np.array([line for _, line in found]).reshape(repeats, len(levels)).mean(0)
    return summary(values, particles, tuple(float(share) for share in survivors))


def summary(values: Floats, particles: int, survivors: tuple[float, ...] = ()) -> Split:
    """The estimate that independent repeats give."""
    n, mean = len(values), float(values.mean())
    error = float(values.std(ddof=1)) / n**0.5
    repeats = tuple(values.tolist())
    if mean <= 0.0:
        # nothing was reached: all that is known is what as many direct attempts would say
        return Split(0.0, 0.0, 0.0, 1 - 0.05 ** (1 / (n * particles)), repeats, survivors, False)
    if error > MOST_ERROR * mean:
        return Split(mean, error, 0.05 * mean, 1.0, repeats, survivors, False)
    half = float(stats.t.ppf(0.975, n - 1)) * error / mean
    low, high = mean * np.exp(-half), min(1.0, mean * np.exp(half))
    return Split(mean, error, float(low), float(high), repeats, survivors, True)
