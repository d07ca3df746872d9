"""Which (exploit type, checkpoint) gets how many further unprompted attempts.

A cell's number of attempts never depends on its own unprompted outcomes. Its round is decided from the prefilled
attempts of all checkpoints and from the unprompted attempts of *earlier* rounds' checkpoints only, each checkpoint
belonging to exactly one round. Given everything that decided it, n is then a constant and the exploits of the cell
are Binomial(n, rate): k/n is exactly unbiased, Clopper-Pearson limits keep their coverage and the likelihood is the
usual one, whatever rule picks the cells. Rules that look at a cell's own zero count and give it more attempts double
the expectation of k/n for rare exploits (docs/methods.md, section 9).

The rule itself: Laplace posterior of the allocation model; expected shrinkage of the standard deviations of all log
rates by one more batch of attempts in a cell, per sample; greedy.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.special import expit, logit, ndtr

from foreshock.analysis.adaptive.backtest import inflation
from foreshock.analysis.adaptive.fit import optimise
from foreshock.analysis.adaptive.model import Blocks, build_blocks, fit_blocks
from foreshock.analysis.adaptive.rows import measurement_rows
from foreshock.analysis.evidence.evidence import Bools, Evidence, Floats, Ints

_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(5)
_NEAR = 1.0
"""Logits around the threshold within which a cell counts double: which side it is on is what people ask."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a round may spend. tasks: [J] problems of each surface; batch: attempts a problem given at a time; most:
    attempts a problem at most; budget: samples (attempts times problems)."""

    tasks: Ints
    batch: int
    most: int
    budget: int
    threshold: float = 0.10


@dataclass(frozen=True, slots=True)
class Belief:
    """Gaussian belief about the logit rates, one block a type. mean: [T, B]; cov: [T, B, B]; surface, checkpoint:
    [T, B], -1 where padded."""

    mean: Floats
    cov: Floats
    surface: Ints
    checkpoint: Ints


def hide_outcomes(evidence: Evidence, informed: Bools) -> Evidence:
    """The evidence without the unprompted outcomes of checkpoints that are not `informed`: [C]."""
    if evidence.level0 is None:
        return evidence
    n, k = evidence.n.copy(), evidence.k.copy()
    n[:, ~informed, evidence.level0] = 0
    k[:, ~informed, evidence.level0] = 0
    return replace(evidence, n=n, k=k)


def belief_of(evidence: Evidence) -> Belief:
    """Laplace posterior of the allocation model at its optimum, widened by its backtest."""
    blocks, theta, widened = _fitted(evidence)
    with torch.no_grad():
        fit, _ = fit_blocks(blocks, torch.as_tensor(theta), inflation=widened)
        cov = (fit.posterior_root @ fit.posterior_root.mT).numpy()
    return Belief(fit.mode.numpy(), cov, blocks.surface, blocks.checkpoint)


def _fitted(evidence: Evidence) -> tuple[Blocks, Floats, float]:
    blocks = build_blocks(evidence, measurement_rows(evidence))
    theta = optimise(blocks)
    return blocks, theta, inflation(blocks, theta)


def observed(cov: Floats, information: Floats) -> Floats:
    """Covariance after independent observations of each value with the given Fisher information.

    cov: [B, B]; information: [B]. S - S h (1 + h S h)^-1 h S with h the square root of the information.
    """
    root = np.sqrt(information)
    inner = np.eye(len(root)) + root[:, None] * cov * root
    return np.asarray(cov - (cov * root) @ np.linalg.solve(inner, (root[:, None] * cov)))


def allocate(evidence: Evidence, informed: Bools, candidates: Bools, request: Request) -> Ints:
    """Further attempts a problem: [J, C], zero outside `candidates` [C].

    Of the checkpoints that are not `informed`, the number of unprompted attempts is used and their outcomes are not.
    """
    n0, _ = evidence.direct()
    belief = belief_of(hide_outcomes(evidence, informed))
    planned = np.where(informed[None, :], 0, n0)
    types = [_TypeGreedy(belief, t, planned, n0, candidates, request) for t in range(len(belief.mean))]
    out = np.zeros_like(n0)
    left = request.budget
    while True:
        offers = [(offer, t) for t, greedy in enumerate(types) if (offer := greedy.best(left)) is not None]
        if not offers:
            return out
        # Six digits and the order of names: equal gains are decided alike on every machine.
        (_, cell, cost), t = min(offers, key=lambda item: (-float(f"{item[0][0]:.6g}"), item[1]))
        types[t].take(cell)
        out[belief.surface[t, cell], belief.checkpoint[t, cell]] += request.batch
        left -= cost


class _TypeGreedy:
    """One exploit type's covariance, and what a batch in each of its cells would gain."""

    def __init__(self, belief: Belief, t: int, planned: Ints, n0: Ints, candidates: Bools, request: Request) -> None:
        surface, checkpoint = belief.surface[t], belief.checkpoint[t]
        self._real = surface >= 0
        where = (np.maximum(surface, 0), np.maximum(checkpoint, 0))
        self._mean = belief.mean[t]
        p = expit(self._mean)
        self._information = p * (1 - p)
        self._tasks = np.where(self._real, request.tasks[where[0]], 0)
        self._request = request
        self._cov = observed(belief.cov[t], np.where(self._real, planned[where], 0) * self._information)
        self._open = self._real & candidates[where[1]] & (n0[where] > 0) & (self._tasks > 0)
        self._given = np.zeros(len(surface), dtype=np.int64)
        self._run = self._real & (n0[where] > 0)
        self._gain: Floats | None = None

    def best(self, budget: int) -> tuple[float, int, int] | None:
        """(gain a sample, cell, cost) of the best affordable batch that gains anything."""
        cost = self._tasks * self._request.batch
        usable = self._open & (cost <= budget) & (self._given + self._request.batch <= self._request.most)
        if not usable.any():
            return None
        if self._gain is None:
            self._gain = self._gains()
        value = np.where(usable, self._gain / np.maximum(cost, 1), -np.inf)
        cell = int(value.argmax())
        return None if value[cell] <= 0 else (float(value[cell]), cell, int(cost[cell]))

    def take(self, cell: int) -> None:
        """Count on a batch in `cell`."""
        information = np.zeros(len(self._cov))
        information[cell] = self._request.batch * self._tasks[cell] * self._information[cell]
        self._cov = observed(self._cov, information)
        self._given[cell] += self._request.batch
        self._gain = None

    def _gains(self) -> Floats:
        """Expected fall of the weighted sum of standard deviations of the log rates, by candidate cell: [B]."""
        variance = np.diag(self._cov)
        sd = np.sqrt(variance)
        limit = float(logit(self._request.threshold))
        near = ndtr((limit + _NEAR - self._mean) / sd) - ndtr((limit - _NEAR - self._mean) / sd)
        # The log rate moves by 1 - p times the logit.
        weight = np.where(self._run, (1 - expit(self._mean)) * (1 + near), 0.0)
        gains = np.zeros(len(sd))
        for cell in np.flatnonzero(self._open):
            p = expit(self._mean[cell] + sd[cell] * _NODES)
            h = self._request.batch * self._tasks[cell] * p * (1 - p)
            removed = self._cov[:, cell, None] ** 2 * (h / (1 + h * variance[cell]))[None, :]
            after = np.sqrt(np.maximum(variance[:, None] - removed, 0.0))
            gains[cell] = (weight[:, None] * (sd[:, None] - after)).sum(0) @ (_WEIGHTS / _WEIGHTS.sum())
        return gains
