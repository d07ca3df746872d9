"""Log-probabilities at a sampling temperature from the k most likely tokens at temperature 1.

What the k tokens leave out is bounded, not ignored. The mass of the tail is measured (1 - sum of the known
probabilities), no token of it is likelier than the least likely of the k, and these two facts bound the tail's share
of the tempered normaliser from both sides. The bounds come back with the value, so a caller can refuse a score that
the k tokens do not settle. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

_ROUNDING = 1e-6
"""Error of a float32 probability mass that adds up to 1."""


@dataclass(frozen=True, slots=True)
class TemperedLogprob:
    """log p(token) at the temperature, within +-`uncertainty`, in nats."""

    value: float
    uncertainty: float


def tempered_logprob(
    token: float, top: Sequence[float], others: Sequence[float], vocab_size: int, temperature: float
) -> TemperedLogprob:
    """log softmax(logits / tau) of one token from log-probabilities at tau = 1, all in nats.

    token: the token's own; top: those of the k most likely tokens; others: further known ones below the top (the
    token itself, when it is not among the top). With p_j = exp(top_j), a = 1 / tau, r the tail's mass, n its number of
    tokens and q the smallest of the top, the tail's sum of p^a lies between r^a n^(1-a) and r q^(a-1) for a > 1 (power
    means; p <= q), and between the same two in the other order for a < 1. Raises ValueError for values that are
    no log-probabilities or a temperature that is not positive.
    """
    if not temperature > 0:
        raise ValueError(f"temperature {temperature} is not above 0")
    known = [*top, *others]
    mass = math.fsum(math.exp(min(value, 1.0)) for value in known)
    if not top or mass > 1 + 1e-3 or max(top) < -math.log(vocab_size) - 1e-3:
        raise ValueError(
            f"the values are no log-probabilities: {len(known)} of a vocabulary of {vocab_size} add up to {mass:.4g}"
        )
    if temperature == 1:
        return TemperedLogprob(token, 0.0)
    a = 1 / temperature
    head = _logsumexp([a * value for value in known])
    n_tail = vocab_size - len(known)
    low, high = -math.inf, -math.inf
    if n_tail > 0:
        low, high = _tail(max(1 - mass - _ROUNDING, 0.0), max(1 - mass, 0.0) + _ROUNDING, min(top), n_tail, a)
    smallest, largest = _logsumexp([head, low]), _logsumexp([head, high])
    return TemperedLogprob(a * token - (smallest + largest) / 2, (largest - smallest) / 2)


def _tail(least: float, most: float, log_q: float, n: int, a: float) -> tuple[float, float]:
    """Log bounds of the tail's sum of p^a, for a tail mass between `least` and `most`."""
    most = min(most, n * math.exp(log_q))

    def spread(mass: float) -> float:
        return a * math.log(mass) + (1 - a) * math.log(n) if mass > 0 else -math.inf

    def packed(mass: float) -> float:
        return math.log(mass) + (a - 1) * log_q if mass > 0 else -math.inf

    return (spread(least), packed(most)) if a > 1 else (packed(least), spread(most))


def _logsumexp(values: Sequence[float]) -> float:
    top = max(values)
    return top if top == -math.inf else top + math.log(math.fsum(math.exp(value - top) for value in values))
