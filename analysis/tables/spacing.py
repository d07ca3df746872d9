"""Some of very many checkpoints: evenly spaced, with the first and the last."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np


def evenly_spaced(steps: Iterable[float], most: int) -> list[float]:
    """Of distinct steps, ascending: all, or `most` (2 or more) of them."""
    known = sorted(set(steps))
    if len(known) <= most:
        return known
    places = np.linspace(0, len(known) - 1, most).round().astype(int)
    return [known[place] for place in places]
