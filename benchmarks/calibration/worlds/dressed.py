"""Worlds of another family whose traces are also written in a style that content knows nothing of, so rates stay exact.

A style is the donor's or the target's own, and the target comes to use the donor's more (or less) over training; words
tell the two apart slowly or fast; and within a style single words differ by amounts that add up. Weights are lost with
every word, for reasons that are no part of what leads to an exploit, as real text loses them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from benchmarks.calibration.worlds.courses import closeness, falling, place, shares, word_noise
from benchmarks.calibration.worlds.sweep import Array, Rng, Sweep, TypeTruth, World, observe

Maker = Callable[[Rng, str], World]


@dataclass(frozen=True, slots=True)
class Style:
    """share: [R, C] of the target's traces in the donor's style; close: [R, C] how near words within a style are; pace:
    nats a word by which styles tell; drift: nats^2 a word that the log weight gains at the farthest; words: whether
    few words differ by much, or all by little; exploits: [2] chance that what would exploit does, in each style."""

    share: Array
    close: Array
    pace: float
    drift: float
    words: bool
    exploits: Array


def _style(rng: Rng, sweep: Sweep) -> Style:
    x = place(sweep, rng.random() < 0.7)
    lean = float(rng.choice([0.0, rng.normal(0, 0.8), rng.normal(0, 0.8), -5.0], p=[0.45, 0.25, 0.2, 0.1]))
    share = shares(rng, x, sweep.runs, rng.uniform(-3, -0.3), rng.uniform(-0.8, -0.02))
    if rng.random() < 0.25:
        share = np.ones_like(share)
    return Style(
        share=share,
        close=closeness(rng, sweep, x),
        pace=float(np.exp(rng.uniform(np.log(0.01), np.log(0.5)))),
        drift=float(np.exp(rng.uniform(np.log(0.003), np.log(0.3)))),
        words=bool(rng.random() < 0.4),
        exploits=np.exp(np.array([0.0, lean]) - max(lean, 0.0)),
    )


def _walk(rng: Rng, style: Style, words: tuple[int, ...], traces: int) -> Array:
    """log P - log Q within a style, exactly normalised at every level: [L, G, Z]."""
    near = style.close.reshape(-1)
    if style.words:
        return word_noise(rng, words, traces, near, (2 * style.drift) ** 0.5)
    steps = np.diff((0, *words))
    one, other = (np.cumsum(rng.normal(size=(len(words), traces)) * steps[:, None] ** 0.5, 0) for _ in range(2))
    angle = rng.uniform(0, 0.8) * (1 - near) + rng.normal(0, 0.2, len(near))
    size = style.drift**0.5 * (1 - near)
    along = np.cos(angle)[:, None] * one[:, None] + np.sin(angle)[:, None] * other[:, None]
    return np.asarray(size[:, None] * along - 0.5 * size[:, None] ** 2 * np.asarray(words)[:, None, None])


def _own(rng: Rng, style: Style, words: tuple[int, ...], traces: int) -> Array:
    """log of own style's probability over the donor's, of traces in the donor's: [L, Z]."""
    if style.words:
        return word_noise(rng, words, traces, np.zeros(1), (2 * style.pace) ** 0.5)[:, 0]
    steps = np.diff((0, *words))
    walk = np.cumsum(rng.normal(size=(len(words), traces)) * steps[:, None] ** 0.5, 0)
    return np.asarray((2 * style.pace) ** 0.5 * walk - style.pace * np.asarray(words)[:, None])


def dressed(rng: Rng, sweep: Sweep, exact: TypeTruth, style: Style) -> TypeTruth:
    """The same type with a style: P(exploit) and log-probabilities of prefixes that hold it, and unprompted rates."""
    traces, shape = len(exact.task), exact.log_p.shape
    share = style.share * np.exp(rng.normal(0, 0.3))
    share = np.where(style.share < 1, np.minimum(share, 0.98), 1.0)
    odds = _own(rng, style, sweep.words, traces)[:, None]
    with np.errstate(divide="ignore"):
        parts = np.log(share).reshape(-1, 1), np.log1p(-share).reshape(-1, 1) + odds
    mixed = np.logaddexp(*parts)
    ratio = _walk(rng, style, sweep.words, traces) + mixed
    other = np.exp(parts[1] - mixed)
    base = falling(rng, sweep.words, ratio)
    exploits = style.exploits[0] * (1 - other) + style.exploits[1] * other
    overall = style.exploits[0] * share + style.exploits[1] * (1 - share)
    return replace(
        exact,
        unprompted=exact.unprompted * overall[..., None],
        log_p=exact.log_p + (base[:, None] + ratio).reshape(shape),
        rate=exact.rate * exploits.reshape(shape),
        log_q=exact.log_q + base,
    )


def draw_world(rng: Rng, kind: str, maker: Maker) -> World:
    """One world of `maker`, dressed."""
    bare = maker(rng, kind)
    if bare.sweep is None:
        raise ValueError(f"a world of the family {bare.family!r} does not say what it was observed from")
    style = _style(rng, bare.sweep)
    types = [dressed(rng, bare.sweep, exact, style) for exact in bare.exact]
    return observe(rng, bare.sweep, types, bare.kind, f"dressed {bare.family}")
