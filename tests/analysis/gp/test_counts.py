"""The counts that a Gaussian process is fitted to."""

from __future__ import annotations

import numpy as np
import pytest

from foreshock.analysis.evidence.evidence import DonorKind, Evidence, PrefillRows, Surface
from foreshock.analysis.gp.counts import MOST_CELLS, surface_counts
from foreshock.errors import InputError


@pytest.mark.parametrize("too_many", [False, True])
def test_more_cells_than_can_be_fitted_are_refused_by_number(too_many: bool) -> None:
    steps, levels, none = MOST_CELLS // 2 + too_many, np.array([0, 10]), np.zeros(0, dtype=np.int64)
    counts = np.zeros((1, steps, 2), dtype=np.int64)
    rows = PrefillRows(none, none, none, none, none, none, none.astype(float), none.astype(float))
    surface = (Surface("run", "type"),)
    evidence = Evidence(surface, np.arange(steps) * 1.0, levels, counts, counts, rows, DonorKind.UNCONDITIONED)
    if not too_many:
        assert surface_counts(evidence).shape == (steps, 2)
        return
    with pytest.raises(InputError, match=r"1,001 checkpoints at 2 levels are 2,002 cells"):
        surface_counts(evidence)
