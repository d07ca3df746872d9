"""The diagnostics of weights, where they are degenerate too."""

from __future__ import annotations

import numpy as np
import pytest

from foreshock.analysis.importance.diagnostics import generalised_pareto_k, pareto_k


def test_a_candidate_of_the_exponential_distribution_is_no_gap_in_the_grid() -> None:
    """With the last excess three times the first quartile's, one candidate for -k/sigma is exactly 0."""
    excess = np.array([0.2, 0.5, 0.7, 1.0, 1.1, 1.2, 1.4, 1.5, 1.6, 1.8, 2.0, 2.1, 2.4, 2.6, 2.8, 3.0])
    nudged = excess.copy()
    nudged[-1] += 1e-9
    assert generalised_pareto_k(excess) == pytest.approx(generalised_pareto_k(nudged), abs=1e-6)


@pytest.mark.parametrize("shape", [0.2, 0.5, 0.9])
def test_the_shape_of_a_pareto_tail_is_found(shape: float) -> None:
    """Large sample, so that the prior, ten points at 0.5, hardly counts."""
    u = np.random.default_rng(3).random(100_000)
    log_values = np.log(np.expm1(-shape * np.log(u)) / shape)
    found = pareto_k(log_values)
    assert found is not None
    assert found == pytest.approx(shape, abs=0.1)
