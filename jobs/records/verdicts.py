"""Words that rows, plans and analyses share about verdicts."""

from __future__ import annotations

from enum import StrEnum


class SandboxTier(StrEnum):
    """Isolation in force; recorded on every row. See docs/sandbox.md."""

    FULL = "full"
    NO_USERNS = "no-userns"
    RLIMITS_ONLY = "rlimits-only"
