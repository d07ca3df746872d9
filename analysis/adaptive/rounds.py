"""Which checkpoints get their further attempts in which round."""

from __future__ import annotations

from collections.abc import Sequence


def rounds_of(steps: Sequence[float], n_rounds: int) -> list[list[float]]:
    """Which checkpoints belong to which round: every `n_rounds`-th from the last one backwards, the last in round 1.

    Late checkpoints exploit most, so the first round shows how wrong each type's prefill traces are; interleaving
    puts neighbours of every checkpoint into an earlier round.
    """
    backwards = sorted(steps, reverse=True)
    return [group for r in range(n_rounds) if (group := backwards[r::n_rounds])]
