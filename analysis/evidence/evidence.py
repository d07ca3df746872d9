"""What every estimator reads: direct counts per cell, and one weighted outcome per prefilled attempt.

Evidence is parallel integer-coded arrays, not tables, so that a simulated experiment and a run directory enter the
estimators through the same door and a bootstrap is an index operation.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


class DonorKind(StrEnum):
    """How the prefill source was made, which decides the weight of a prefix (docs/methods.md)."""

    CONDITIONED = "conditioned"
    """Only traces that ended in an exploit were kept; rollouts give pi and a: weight P/Q * pi/a."""
    CONDITIONED_UNCORRECTED = "conditioned-uncorrected"
    """Only exploit traces were kept and no donor rollouts exist: P/Q is a heuristic score, never an estimate."""
    UNCONDITIONED = "unconditioned"
    """Traces were kept whatever their outcome: weight P/Q."""


@dataclass(frozen=True, slots=True, order=True)
class Surface:
    """One exploit type in one run: the unit whose rate is followed over checkpoints."""

    run: str
    exploit_type: str


@dataclass(frozen=True, slots=True)
class PrefillRows:
    """One row per prefilled attempt, arrays of equal length.

    surface, checkpoint, level: indices into the Evidence axes; task: any code unique to a task;
    trace: code of the donor trace, shared by all levels, checkpoints and runs that force a prefix of it;
    success: 1 where the attempt exploited; log_w: log of the prefix's importance weight in nats, NaN where
    the prefix was not scored; log_p: log P(prefix) under the checkpoint, NaN where unknown.
    """

    surface: Ints
    checkpoint: Ints
    level: Ints
    task: Ints
    trace: Ints
    success: Ints
    log_w: Floats
    log_p: Floats

    def __len__(self) -> int:
        return len(self.surface)

    def take(self, index: Ints | Bools) -> PrefillRows:
        """The rows selected by a mask or by positions."""
        return PrefillRows(
            self.surface[index],
            self.checkpoint[index],
            self.level[index],
            self.task[index],
            self.trace[index],
            self.success[index],
            self.log_w[index],
            self.log_p[index],
        )


@dataclass(frozen=True, slots=True)
class DirectRows:
    """Unprompted attempts task by task: one row per (surface, checkpoint, task), arrays of equal length.

    The rate that is estimated is the mean over tasks, which pooled counts are not where tasks had unequal attempts.
    surface, checkpoint: indices into the Evidence axes; task: codes as in PrefillRows; n, k: attempts and exploits.
    """

    surface: Ints
    checkpoint: Ints
    task: Ints
    n: Ints
    k: Ints


@dataclass(frozen=True, slots=True)
class Evidence:
    """Counts and prefilled outcomes of one or several runs.

    surfaces: J; steps: [C] training steps, ascending; levels: [L] words, ascending;
    n, k: [J, C, L] attempts and exploits (n = 0: the cell was not run); direct_rows: level 0 by task, None where only
    the counts are known; faults: what the files prove to be wrong with them. Raises ValueError on impossible counts.
    """

    surfaces: tuple[Surface, ...]
    steps: Floats
    levels: Ints
    n: Ints
    k: Ints
    rows: PrefillRows
    donor: DonorKind
    direct_rows: DirectRows | None = None
    faults: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        shape = (len(self.surfaces), len(self.steps), len(self.levels))
        if self.n.shape != shape or self.k.shape != shape:
            raise ValueError(f"counts have shapes {self.n.shape} and {self.k.shape}; expected {shape}")
        bad = (self.n < 0) | (self.k < 0) | (self.k > self.n)
        if bad.any():
            j, c, level = (int(i) for i in np.argwhere(bad)[0])
            raise ValueError(
                f"{self.surfaces[j]} at checkpoint {self.steps[c]:.10g}, prefill {self.levels[level]}: "
                f"{self.k[j, c, level]} exploits of {self.n[j, c, level]} attempts; valid: 0 <= exploits <= attempts"
            )

    @property
    def level0(self) -> int | None:
        """Index of prefill level 0, or None when no unprompted attempt was made."""
        found = np.flatnonzero(self.levels == 0)
        return int(found[0]) if len(found) else None

    def direct(self) -> tuple[Ints, Ints]:
        """(n, k) at level 0, each [J, C]; zeros where level 0 was not run."""
        if self.level0 is None:
            zero = np.zeros(self.n.shape[:2], dtype=np.int64)
            return zero, zero.copy()
        return self.n[:, :, self.level0], self.k[:, :, self.level0]


def type_index(evidence: Evidence) -> Ints:
    """Index of each surface's exploit type: [J]."""
    names = sorted({surface.exploit_type for surface in evidence.surfaces})
    return np.array([names.index(surface.exploit_type) for surface in evidence.surfaces], dtype=np.int64)
