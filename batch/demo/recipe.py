"""Every number that decides what the demo's training produces, and their digest.

A finished run is recognised by this digest, so whatever changes the weights must be here or raise `VERSION`;
resources (threads aside) must not.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field

from foreshock.batch.demo.corpus import DRAFT_SHARE, EXPLOIT_SHARES, Phase
from foreshock.batch.demo.schedule import BATCH, Schedule

VERSION = 4
"""Raise it when the corpus, the tokenizer or the model changes."""

FINE_TUNE_SAVES = (0, 1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True, slots=True)
class Recipe:
    """Sizes and schedules of the three phases. The tests train a shorter one."""

    seed: int = 0
    base_items: int = 6000
    base: Schedule = field(default_factory=lambda: Schedule(steps=700, peak_lr=3e-3, warmup=40, final=0.02))
    fine_tune: Schedule = field(default_factory=lambda: Schedule(steps=64, peak_lr=6e-5, warmup=1, final=1.0))
    saves: tuple[int, ...] = FINE_TUNE_SAVES
    threads: int = 2

    def schedule(self, phase: Phase) -> Schedule:
        """The schedule of a phase; exploit, control and donor share theirs."""
        return self.base if phase is Phase.BASE else self.fine_tune

    def n_items(self, phase: Phase) -> int:
        """Training examples of a phase; fine-tuning sees each once."""
        return self.base_items if phase is Phase.BASE else self.fine_tune.steps * BATCH

    def n_steps(self) -> int:
        """Optimiser steps of all phases, for a progress bar's total."""
        return sum(self.schedule(phase).steps for phase in Phase)

    def sha256(self) -> str:
        """Digest of everything above and of the corpus's shares; 64 hex digits."""
        content = asdict(self) | {
            "version": VERSION,
            "batch": BATCH,
            "draft_share": DRAFT_SHARE,
            "exploit_shares": EXPLOIT_SHARES,
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
