"""What adaptive attempts saved: the uniform design that would have given the same interval width.

Both designs are judged by the same fitted model. Its covariance given the prefilled attempts, with the information of
n unprompted attempts added in every cell, gives the mean width of the intervals for any design; the uniform design's
attempts are raised until its width is the adaptive one's. Widths that happened to come out would compare one design's
luck with the other's expectation.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from scipy.special import expit

from foreshock.analysis.adaptive.allocate import observed
from foreshock.analysis.adaptive.backtest import inflation
from foreshock.analysis.adaptive.fit import optimise
from foreshock.analysis.adaptive.model import build_blocks, fit_blocks, given_measurements
from foreshock.analysis.adaptive.parameters import unpack
from foreshock.analysis.adaptive.rows import measurement_rows
from foreshock.analysis.evidence.evidence import Evidence, Floats, Ints

_Z95 = 1.959964
_MOST = 2.0**20


@dataclass(frozen=True, slots=True)
class Savings:
    """Widths are means over cells of the expected 95% interval, in decades. `uniform_attempts` more attempts for
    every problem at every checkpoint (`uniform_samples` in all) give the width that `samples` adaptive ones gave;
    None where not even a million would. The same number of samples spread evenly gives `width_even`."""

    samples: int
    width_before: float
    width: float
    width_even: float
    uniform_attempts: float | None
    uniform_samples: int | None

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def savings(evidence: Evidence, extra: Ints, tasks: Ints) -> Savings:
    """Compare a design with uniform ones. evidence: with all attempts; extra: [J, C] the adaptive samples among
    those at level 0; tasks: [J] problems of each surface."""
    design = _Design(evidence)
    n, _ = evidence.direct()
    base = n - extra
    everywhere = np.where(base > 0, tasks[:, None], 0)
    width = design.width(n)
    even = float(extra.sum()) / max(int(everywhere.sum()), 1)
    low, high = 0.0, 1.0
    while high < _MOST and design.width(base + high * everywhere) > width:
        high *= 2
    attempts: float | None = None
    if extra.sum() == 0:
        attempts = 0.0
    elif high < _MOST:
        for _ in range(40):
            middle = (low + high) / 2
            low, high = (middle, high) if design.width(base + middle * everywhere) > width else (low, middle)
        attempts = high
    return Savings(
        int(extra.sum()),
        design.width(base),
        width,
        design.width(base + even * everywhere),
        attempts,
        None if attempts is None else round(attempts * int(everywhere.sum())),
    )


class _Design:
    """The fitted model, asked how wide intervals would be."""

    def __init__(self, evidence: Evidence) -> None:
        blocks = build_blocks(evidence, measurement_rows(evidence))
        theta = optimise(blocks)
        widened = inflation(blocks, theta)
        with torch.no_grad():
            fit, _ = fit_blocks(blocks, torch.as_tensor(theta), inflation=widened)
            root = widened * given_measurements(blocks, unpack(torch.as_tensor(theta))).root
            self._cov = (root @ root.mT).numpy()
        self._p = expit(fit.mode.numpy())
        self._where = (np.maximum(blocks.surface, 0), np.maximum(blocks.checkpoint, 0))
        self._real = (blocks.surface >= 0) & (evidence.direct()[0][self._where] > 0)

    def width(self, n: Floats | Ints) -> float:
        """Mean expected width of the 95% interval of the log10 rate with n [J, C] attempts."""
        information = np.where(self._real, n[self._where], 0) * self._p * (1 - self._p)
        sd = np.stack([np.sqrt(np.diag(observed(cov, info))) for cov, info in zip(self._cov, information, strict=True)])
        return float((2 * _Z95 * sd * (1 - self._p) / np.log(10.0))[self._real].mean())
