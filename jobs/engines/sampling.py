"""Draw tokens so that a row's draws depend on its seed and its own distribution only.

Each request owns a counter-based generator (Philox keyed by its seed) that gives one uniform a step, and the token is
the inverse CDF of that uniform in float64. Neighbours in the batch, the batch's size and the order of requests cannot
shift the draws, as they would with one generator for the batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

_BLOCK = 256


class UniformStreams:
    """Per-request uniforms in [0, 1), made in blocks so that a limit of 32k tokens costs nothing up front."""

    def __init__(self, seeds: Sequence[int]) -> None:
        self._generators = [np.random.Generator(np.random.Philox(key=seed)) for seed in seeds]
        self._block = np.empty((len(seeds), 0))
        self._step = 0

    def next(self, rows: np.ndarray) -> np.ndarray:
        """The next uniform of each of `rows` (indices into the seeds), shape [len(rows)]; all streams advance."""
        column = self._step % _BLOCK
        if column == 0:
            self._block = np.zeros((len(self._generators), _BLOCK))
            for row in np.unique(rows):  # a finished row is never asked again
                self._block[row] = self._generators[row].random(_BLOCK)
        self._step += 1
        uniforms: np.ndarray = self._block[rows, column]
        return uniforms


def pick_tokens(
    logits: torch.Tensor, temperature: torch.Tensor, top_p: torch.Tensor, uniforms: torch.Tensor
) -> torch.Tensor:
    """Sample one token a row by inverse CDF.

    logits: [rows, vocab], any float type; temperature, top_p, uniforms: [rows], float64. Temperature 0 is greedy.
    Returns token ids [rows]. Probabilities are softmax(logits / temperature) in float64; with top_p < 1 the
    smallest set of most likely tokens whose mass reaches top_p is kept and renormalised.
    """
    greedy = temperature <= 0
    scaled = logits.double() / torch.where(greedy, torch.ones_like(temperature), temperature)[:, None]
    best = scaled.argmax(-1)
    if bool(greedy.all()):
        return best
    probabilities = scaled.softmax(-1)
    if bool((top_p < 1).any()):
        probabilities = _nucleus(probabilities, top_p)
    cumulative = probabilities.cumsum(-1)
    target = uniforms[:, None] * cumulative[:, -1:]
    # right=True finds the first entry above the target, so a token of probability zero is never drawn
    token = torch.searchsorted(cumulative, target, right=True).squeeze(-1)
    token = torch.where(token < logits.shape[-1], token, best)  # only if rounding lifts the target to the total
    return torch.where(greedy, best, token)


def _nucleus(probabilities: torch.Tensor, top_p: torch.Tensor) -> torch.Tensor:
    """Zero what lies outside each row's nucleus; a token is kept while the mass before it is below top_p."""
    ordered, index = probabilities.sort(dim=-1, descending=True, stable=True)
    before = ordered.cumsum(-1) - ordered
    kept = torch.where(before < top_p[:, None], ordered, torch.zeros_like(ordered))
    return torch.zeros_like(probabilities).scatter(-1, index, kept)
