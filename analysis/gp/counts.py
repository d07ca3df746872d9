"""Counts of all surfaces as one padded batch, with the inputs that the kernels see.

The level enters the kernel as log(1 + N / 5). A stationary kernel on N itself cannot be smooth from 20 to 100 words
and still allow the jump between 0 and 20.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import torch
from torch import Tensor

from foreshock.analysis.evidence.evidence import Evidence, Floats, Ints, Surface
from foreshock.errors import InputError

_WARP_WORDS = 5.0
MOST_CELLS = 2000
"""Of one surface."""


class LevelScale(StrEnum):
    """How the prefill level enters the kernel: WARPED log(1 + N/5), or LINEAR N/100 as in the original code."""

    WARPED = "warped"
    LINEAR = "linear"


@dataclass(frozen=True, slots=True)
class SurfaceCounts:
    """B surfaces on a common grid of C checkpoints and L levels, flattened to N = C L cells, checkpoint-major.

    steps: [C]; levels: [L], level 0 always among them; n, k: [B, N] attempts and exploits (n = 0 where not run);
    kl: [B, N] mean of log Q - log P over prefixes in nats (0 at level 0, NaN where not scored); kl_var: [B, N] the
    variance of the single terms.
    """

    surfaces: tuple[Surface, ...]
    steps: Floats
    levels: Ints
    n: Tensor
    k: Tensor
    kl: Tensor
    kl_var: Tensor

    @property
    def shape(self) -> tuple[int, int]:
        """(C, L)."""
        return len(self.steps), len(self.levels)

    @property
    def level0(self) -> int:
        """Index of level 0."""
        return int(np.flatnonzero(self.levels == 0)[0])

    def up_to(self, last: int) -> SurfaceCounts:
        """Only the first `last` checkpoints: what a feature at that cutoff may see."""
        keep = last * len(self.levels)
        parts = (t[:, :keep] for t in (self.n, self.k, self.kl, self.kl_var))
        return SurfaceCounts(self.surfaces, self.steps[:last], self.levels, *parts)


def time_scale(steps: Floats, reference: Floats) -> Tensor:
    """Log step mapped so that `reference` spans [-1, 1]; 0 for a single checkpoint.

    Step 0 counts as half the smallest positive step.
    """
    positive = reference[reference > 0]
    floor = positive.min() / 2 if len(positive) else 1.0
    log, ends = np.log(np.maximum(steps, floor)), np.log(np.maximum(reference, floor))
    width = ends.max() - ends.min()
    scaled = (log - ends.min()) / width * 2 - 1 if width > 0 else np.zeros_like(log)
    return torch.as_tensor(scaled, dtype=torch.float64)


def level_scale(levels: Floats | Ints, scale: LevelScale) -> Tensor:
    """The kernel's second coordinate."""
    words = np.asarray(levels, dtype=np.float64)
    values = np.log1p(words / _WARP_WORDS) if scale is LevelScale.WARPED else words / 100.0
    return torch.as_tensor(values, dtype=torch.float64)


def grid_inputs(steps: Floats, levels: Floats | Ints, reference: Floats, scale: LevelScale) -> Tensor:
    """Kernel inputs of all (step, level) pairs: [C L, 2], checkpoint-major."""
    t, w = time_scale(steps, reference), level_scale(levels, scale)
    return torch.stack([t.repeat_interleave(len(w)), w.repeat(len(t))], dim=-1)


def surface_counts(evidence: Evidence) -> SurfaceCounts:
    """Counts and mean KL of every cell. Level 0 is added, unobserved, where no run has it.

    Raises InputError for more than `MOST_CELLS` cells.
    """
    levels = np.union1d(evidence.levels, [0])
    n_cells = len(evidence.steps) * len(levels)
    if n_cells > MOST_CELLS:
        raise InputError(
            f"{len(evidence.steps):,} checkpoints at {len(levels)} levels are {n_cells:,} cells of each type; a "
            f"Gaussian process is fitted to {MOST_CELLS:,} at most, since its time grows with their number's cube",
            fix="`foreshock rates` and `foreshock forecast` take any number",
        )
    column = np.searchsorted(levels, evidence.levels)
    shape = (len(evidence.surfaces), len(evidence.steps), len(levels))
    n, k = np.zeros(shape), np.zeros(shape)
    n[:, :, column], k[:, :, column] = evidence.n, evidence.k
    rows = evidence.rows.take(np.isfinite(evidence.rows.log_w))
    cell = np.ravel_multi_index((rows.surface, rows.checkpoint, column[rows.level]), shape)
    size = int(np.prod(shape))
    count = np.bincount(cell, minlength=size)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.bincount(cell, weights=-rows.log_w, minlength=size) / count
        square = np.bincount(cell, weights=(-rows.log_w - mean[cell]) ** 2, minlength=size)
        variance = np.where(count > 1, square / np.maximum(count - 1, 1), np.nan)
    mean, variance = mean.reshape(shape), variance.reshape(shape)
    mean[:, :, levels == 0], variance[:, :, levels == 0] = 0.0, 0.0
    flat = (torch.as_tensor(a.reshape(shape[0], -1)) for a in (n, k, mean, variance))
    return SurfaceCounts(evidence.surfaces, evidence.steps, levels, *flat)
