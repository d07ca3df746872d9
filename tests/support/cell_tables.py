"""Small cell tables with a known story."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

Story = Callable[..., pd.DataFrame]


def _cells(
    *,
    types: int = 6,
    runs: tuple[str, ...] = ("exploit", "control"),
    steps: tuple[int, ...] = (1, 4, 16, 64),
    levels: tuple[int, ...] = (0, 10, 50),
    n: int = 40,
    signal: float = 1.0,
    seed: int = 0,
) -> pd.DataFrame:
    """Half of the exploit run's types rise to a high rate; with signal 1, prefilled rates and KL say so early."""
    rng = np.random.default_rng(seed)
    rows = []
    for run in runs:
        for kind in range(types):
            rises = run == "exploit" and kind % 2 == 0
            for i, step in enumerate(steps):
                progress = i / max(len(steps) - 1, 1)
                for level in levels:
                    base = -6 + (7 if rises else 1) * progress**2
                    hint = signal * (1.5 if rises else 0.0) * (i + 1) * (level > 0)
                    rate = 1 / (1 + np.exp(-(base + hint + 0.6 * np.log1p(level))))
                    k = int(rng.binomial(n, rate))
                    kl = 0.3 * level - signal * (3.0 if rises else 0.0) * i * (level > 0) + rng.normal(0, 0.3)
                    rows.append(
                        {
                            "run": run,
                            "exploit_type": f"type_{kind}",
                            "checkpoint": step,
                            "prefill_level": level,
                            "n": n,
                            "k": k,
                            "kl_mean": kl if level else np.nan,
                            "kl_success": kl - 0.5 if level and k else np.nan,
                            "logprob_mean": -10 - kl if level else np.nan,
                        }
                    )
    return pd.DataFrame(rows)


@pytest.fixture(scope="session")
def make_cells() -> Story:
    """Function that makes a cell table; see its keywords."""
    return _cells
