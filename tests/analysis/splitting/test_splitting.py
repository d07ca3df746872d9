"""Splitting is exact in expectation, honest about its error, and far cheaper than direct sampling of rare behaviour."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest
from benchmarks.splitting.worlds import LadderProcess, gradual, jump
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from foreshock.analysis.splitting.combine import combine
from foreshock.analysis.splitting.splitting import split_rate

Words = tuple[int, ...]


def _expectation(word: list[float], win: dict[Words, float], scores: dict[Words, float], levels: int) -> float:
    """E[estimate] of two particles, over every draw of words, of ancestors and of outcomes: nothing is sampled."""

    def go(pair: tuple[Words, Words], before: tuple[float, float], level: int) -> float:
        if level == levels:
            return sum(win[p] / b for p, b in zip(pair, before, strict=True)) / 2
        total = 0.0
        for first, second in itertools.product(range(len(word)), repeat=2):
            grown = ((*pair[0], first), (*pair[1], second))
            now = tuple(scores[p] for p in grown)
            rise = [now[i] / before[i] for i in (0, 1)]
            chance = word[first] * word[second]
            for a, b in itertools.product((0, 1), repeat=2):
                drawn = rise[a] * rise[b] / (rise[0] + rise[1]) ** 2
                onward = go((grown[a], grown[b]), (now[a], now[b]), level + 1)
                total += chance * drawn * (rise[0] + rise[1]) / 2 * onward
        return total

    return go(((), ()), (1.0, 1.0), 0)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6))
def test_its_expectation_on_enumerable_worlds_is_the_rate_whatever_the_scores(seed: int) -> None:
    rng = np.random.default_rng(seed)
    word = rng.dirichlet([1.0, 1.0])
    texts = [text for n in (1, 2) for text in itertools.product(range(2), repeat=n)]
    scores = {text: float(np.exp(rng.normal(0, 2))) for text in texts}
    win = {text: float(rng.random() ** 3) for text in texts if len(text) == 2}
    exact = sum(word[text[0]] * word[text[1]] * chance for text, chance in win.items())
    assert _expectation(word.tolist(), win, scores, 2) == pytest.approx(exact, abs=1e-12)


@dataclass
class _Coin:
    """Words are fair bits; exploits begin with `needed` ones. Rate 2^-needed."""

    needed: int
    rng: np.random.Generator
    flat: bool = False

    def start(self, n: int) -> NDArray[np.int64]:
        return np.zeros((n, 0), np.int64)

    def extend(self, state: NDArray[np.int64], level: int) -> NDArray[np.int64]:
        more = self.rng.integers(0, 2, (len(state), level - state.shape[1]))
        return np.concatenate([state, more], 1)

    def score(self, state: NDArray[np.int64]) -> NDArray[np.float64]:
        if self.flat:
            return np.ones(len(state))
        return np.where(state.all(1), 0.5 ** (self.needed - state.shape[1]), 1e-9)

    def finish(self, state: NDArray[np.int64]) -> NDArray[np.bool_]:
        return np.asarray(self.extend(state, self.needed).all(1))

    def take(self, state: NDArray[np.int64], index: NDArray[np.int64]) -> NDArray[np.int64]:
        return state[index]


def test_a_good_score_finds_one_in_a_million_with_a_thousand_particles() -> None:
    found = split_rate(_Coin(20, np.random.default_rng(1)), range(1, 20), 64, 16)
    truth = float(Fraction(1, 2**20))
    assert found.lower95 <= truth <= found.upper95
    assert found.standard_error < 0.5 * truth


def test_nothing_reached_is_a_limit_and_not_a_rate_of_zero() -> None:
    found = split_rate(_Coin(40, np.random.default_rng(0), flat=True), [4, 8], 25, 4)
    assert (found.rate, found.lower95) == (0.0, 0.0)
    assert found.upper95 == pytest.approx(1 - 0.05**0.01)


def test_scores_that_could_drop_an_exploit_are_refused() -> None:
    class Dropping(_Coin):
        def score(self, state: NDArray[np.int64]) -> NDArray[np.float64]:
            return np.asarray(state.all(1), float)

    with pytest.raises(ValueError, match="above 0"):
        split_rate(Dropping(8, np.random.default_rng(0)), [4], 64, 4)
    with pytest.raises(ValueError, match="ascending"):
        split_rate(_Coin(8, np.random.default_rng(0)), [4, 2], 64, 4)


def test_worlds_with_noisy_scores_are_covered_down_to_one_in_a_million_at_a_hundredth_of_the_cost() -> None:
    inside, trusted, cheaper = [], [], []
    for seed in range(40):
        rng = np.random.default_rng([seed, 6])
        ladder = gradual(rng, -6)
        truth = float(ladder.values()[0, 0])
        process = LadderProcess(ladder, 0.5, rng)
        found = split_rate(process, range(6, 60, 6), 256, 12, seed)
        inside.append(found.lower95 <= truth <= found.upper95)
        trusted.append(found.trusted)
        cheaper.append(truth / found.standard_error**2 * ladder.n_words / process.written)
    assert np.mean(trusted) > 0.7
    assert np.mean(inside) >= 0.85  # at 95%, fewer than 34 of 40 in one of 500 runs
    assert np.median(cheaper) > 100


def test_a_single_unannounced_jump_is_not_passed_off_as_known() -> None:
    for seed in range(10):
        rng = np.random.default_rng([seed, 5])
        ladder = jump(rng, -5)
        found = split_rate(LadderProcess(ladder, 0.5, rng), range(6, 60, 6), 64, 8, seed)
        assert not found.trusted
        assert found.lower95 <= float(ladder.values()[0, 0]) <= found.upper95


def test_together_two_estimates_are_unbiased_and_no_worse_than_the_better_one() -> None:
    rng = np.random.default_rng(0)
    rates, naive = [], []
    for _ in range(3000):
        parts = [rng.gamma(2.0, 0.5e-4, 8), rng.gamma(20.0, 0.05e-4, 8)]
        found = combine(parts)
        rates.append(found.rate)
        weights = [len(part) / part.var(ddof=1) for part in parts]
        naive.append(sum(w * part.mean() for w, part in zip(weights, parts, strict=True)) / sum(weights))
    spread = float(np.std(rates) / len(rates) ** 0.5)
    assert abs(np.mean(rates) - 1e-4) < 4 * spread
    assert np.mean(naive) < np.mean(rates) - 2 * spread, "weights of one's own variance pull down"
    assert np.std(rates) < 1.2 * 1e-4 / (2.0 * 8) ** 0.5
    with pytest.raises(ValueError, match="four"):
        combine([np.array([1e-4, 2e-4])])
