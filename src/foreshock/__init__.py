"""foreshock: see reward hacking coming before it shows.

import foreshock
run = foreshock.load("results/prefill_sensitivity/RUN")
run.attempts(), run.scores(), run.rates(), run.trajectory(), run.samples(verdict="exploit")
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from foreshock.analysis.opened import Run

__version__ = "0.1.0"


def load(run_dir: Path | str) -> Run:
    """A run directory as pandas frames; nothing is read yet. Raises `foreshock.errors.InputError` if absent."""
    from foreshock.analysis.opened import Run

    return Run(run_dir)
