"""Small sweeps with a known story."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

Story = Callable[..., pd.DataFrame]


def _cells(
    *,
    types: int = 3,
    steps: tuple[int, ...] = (1, 3, 10, 30),
    levels: tuple[int, ...] = (0, 10, 40),
    n: int = 40,
    rise: float = 0.0,
    seed: int = 0,
) -> pd.DataFrame:
    """Types of two runs start near 0.2%; those of run `exploit` rise by `rise` logits by the last step."""
    rng = np.random.default_rng(seed)
    rows = []
    for run in ("exploit", "control"):
        for kind in range(types):
            for i, step in enumerate(steps):
                theta = -6.0 + (rise if run == "exploit" else 0.0) * i / max(len(steps) - 1, 1)
                for level in levels:
                    kl = 0.2 * level
                    rate = 1 / (1 + np.exp(-(theta + 0.12 * kl + 0.8 * np.log1p(kl))))
                    k = int(rng.binomial(n, rate))
                    rows.append((run, f"type_{kind}", step, level, n, k, kl if level else np.nan))
    cells = pd.DataFrame(rows, columns=["run", "exploit_type", "checkpoint", "prefill_level", "n", "k", "kl_mean"])
    return cells.assign(kl_success=cells["kl_mean"].where(cells["k"] > 0), logprob_mean=-cells["kl_mean"])


@pytest.fixture(scope="session")
def make_sweep() -> Story:
    """Function that makes a cell table; see its keywords."""
    return _cells
