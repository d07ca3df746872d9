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
from typing import Protocol, TypeVar

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

    rate: mean of the repeats, unbiased. standard_error: of that mean. lower95, upper95: where `trusted`, the wider of
    the delta method's on the log scale and of a log-normal mean's; else a twentieth of the rate (Markov's inequality,
    which needs nothing but an unbiased estimate that is never negative) and 1. trusted: the relative error is at most
    MOST_ERROR. repeats: each one's estimate. survivors: by level, mean share of distinct ancestors left (few: the
    estimate hangs on few beginnings).
    """

    rate: float
    standard_error: float
    lower95: float
    upper95: float
    repeats: tuple[float, ...]
    survivors: tuple[float, ...]
    trusted: bool


@dataclass(frozen=True, slots=True)
class Repeat:
    """One unbiased estimate, and by level the share of distinct ancestors left."""

    rate: float
    survivors: tuple[float, ...]


def one_repeat(process: WordProcess[State], levels: Sequence[int], n: int, rng: np.random.Generator) -> Repeat:
    """Write `n` beginnings on from level to level; `rng` draws which of them go on. Raises ValueError as
    `split_rate`."""
    state, before, total, survivors = walk(process, levels, n, rng)
    return Repeat(total * float((process.finish(state) / before).mean()), survivors)


def walk(
    process: WordProcess[State], levels: Sequence[int], n: int, rng: np.random.Generator
) -> tuple[State, Floats, float, tuple[float, ...]]:
    """A repeat up to its last level: the beginnings, their last scores, the product of mean rises, survivors."""
    require_levels(levels, n)
    state, before, total = process.start(n), np.ones(n), 1.0
    ancestors, survivors = np.arange(n), list[float]()
    for level in levels:
        state = process.extend(state, level)
        now = _positive(process.score(state), n)
        rise = now / before
        total *= float(rise.mean())
        chosen = rng.choice(n, n, p=rise / rise.sum())
        state, before, ancestors = process.take(state, chosen), now[chosen], ancestors[chosen]
        survivors.append(len(np.unique(ancestors)) / n)
    return state, before, total, tuple(survivors)


def require_levels(levels: Sequence[int], particles: int) -> None:
    """Raise ValueError for levels that do not ascend, and for fewer than two particles."""
    if list(levels) != sorted(set(levels)) or any(level < 1 for level in levels):
        raise ValueError(f"levels {list(levels)} are not ascending numbers of words")
    if particles < 2:
        raise ValueError(f"{particles} particles; at least 2")


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
    require_levels(levels, particles)
    if repeats < MIN_REPEATS:
        raise ValueError(f"{repeats} repeats; at least {MIN_REPEATS}")
    found = [one_repeat(process, levels, particles, np.random.default_rng([seed, i])) for i in range(repeats)]
    return of_repeats(found, particles)


def of_repeats(found: Sequence[Repeat], particles: int) -> Split:
    """The estimate that independent repeats give, at least MIN_REPEATS of them with the same levels."""
    survivors = np.array([one.survivors for one in found]).reshape(len(found), -1).mean(0)
    return summary(np.array([one.rate for one in found]), particles, tuple(survivors.tolist()))


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
    quantile = float(stats.t.ppf(0.975, n - 1))
    limits = [mean * np.exp(sign * quantile * error / mean) for sign in (-1, 1)]
    if (values > 0).all():
        limits += _log_normal_limits(np.log(values), quantile)
    return Split(mean, error, float(min(limits)), min(1.0, float(max(limits))), repeats, survivors, True)


def _log_normal_limits(logs: Floats, quantile: float) -> list[float]:
    """Of the mean of log-normal values (Olsson 2005, J. Stat. Educ. 13(1)): repeats are products of many factors, and
    the large ones that would raise their spread are mostly not among the few that were made."""
    n, variance = len(logs), float(logs.var(ddof=1))
    middle, half = float(logs.mean()) + variance / 2, quantile * (variance / n + variance**2 / (2 * (n - 1))) ** 0.5
    return [float(np.exp(middle - half)), float(np.exp(middle + half))]
