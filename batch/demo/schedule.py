"""How long and how fast each phase of the demo's training goes.

Fine-tuning uses a far smaller learning rate than base training. With a larger one the exploit rate jumps from nothing
to saturation between two checkpoints, and there is no foreshock to measure.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

BATCH = 16


@dataclass(frozen=True, slots=True)
class Schedule:
    """Steps and learning rate of one phase; the rate warms up linearly, then falls to `final` of its peak."""

    steps: int
    peak_lr: float
    warmup: int
    final: float

    def lr(self, step: int) -> float:
        """Learning rate of optimiser step `step` (0-based)."""
        if step < self.warmup:
            return self.peak_lr * (step + 1) / self.warmup
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.peak_lr * (self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * done)))
