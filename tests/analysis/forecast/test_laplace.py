from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import optimize

from foreshock.analysis.forecast import laplace
from foreshock.analysis.forecast.design import Design, GrowthPrior, Hyper, TimeAxis, build_design, growth_data
from foreshock.analysis.forecast.growth_model import _PRIOR_MEAN, _PRIOR_SD, _hyper
from foreshock.analysis.forecast.laplace import find_mode

AXIS = TimeAxis(1, 100)


def random_hyper(count: int, seed: int) -> Hyper:
    rng = np.random.default_rng(seed)
    return _hyper(_PRIOR_MEAN + 2 * _PRIOR_SD * rng.standard_normal((count, len(_PRIOR_MEAN))))


def log_posterior(design: Design, k: np.ndarray, n: np.ndarray, x: np.ndarray) -> float:
    """The objective with everything stacked, for setting 0."""
    _, surfaces, cells, width = design.local.shape
    u = x[: surfaces * width].reshape(surfaces, width)
    g = x[surfaces * width : surfaces * width + design.shared.shape[-1]]
    e = x[surfaces * width + len(g) :].reshape(surfaces, cells)
    eta = design.offset[0] + np.einsum("jdp,jp->jd", design.local[0], u) + design.shared[0] @ g
    eta = eta + design.noise_sd[0] * e
    return float((k * eta - n * np.logaddexp(0, eta)).sum() - 0.5 * (x**2).sum())


def test_the_gradient_vanishes_at_the_mode_of_many_settings(make_sweep: Callable[..., pd.DataFrame]) -> None:
    data = growth_data(make_sweep(rise=5))
    mode = find_mode(data, build_design(data, random_hyper(60, 0), AXIS, GrowthPrior()))
    assert mode.gradient.max() < 1e-6
    assert np.isfinite(mode.log_evidence).all()


def test_few_steps_lead_from_observed_rates_to_the_mode(
    make_sweep: Callable[..., pd.DataFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(laplace, "MAX_STEPS", 8)  # from zero it takes ten
    data = growth_data(make_sweep(rise=5))
    assert find_mode(data, build_design(data, random_hyper(60, 0), AXIS, GrowthPrior())).gradient.max() < 1e-6


def test_the_mode_is_the_maximum_a_general_optimiser_finds(make_sweep: Callable[..., pd.DataFrame]) -> None:
    data = growth_data(make_sweep(types=1, steps=(1, 10), rise=4))
    design = build_design(data, random_hyper(1, 3), AXIS, GrowthPrior())
    size = data.k.size + design.local.shape[1] * design.local.shape[-1] + design.shared.shape[-1]
    found = optimize.minimize(lambda x: -log_posterior(design, data.k, data.n, x), np.zeros(size), tol=1e-9)
    mode = find_mode(data, design)
    reference_local = found.x[: mode.local[0].size]
    assert mode.local[0].ravel() == pytest.approx(reference_local, abs=2e-3)


def test_the_evidence_equals_the_dense_laplace_formula(make_sweep: Callable[..., pd.DataFrame]) -> None:
    data = growth_data(make_sweep(types=1, steps=(1, 10), rise=4))
    design = build_design(data, random_hyper(1, 4), AXIS, GrowthPrior())
    mode = find_mode(data, design)
    surfaces, cells, width = design.local.shape[1:]
    jacobian = np.zeros((surfaces * cells, surfaces * width + design.shared.shape[-1] + surfaces * cells))
    for j in range(surfaces):
        rows = slice(j * cells, (j + 1) * cells)
        jacobian[rows, j * width : (j + 1) * width] = design.local[0, j]
        jacobian[rows, surfaces * width : surfaces * width + design.shared.shape[-1]] = design.shared[0, j]
        start = surfaces * width + design.shared.shape[-1] + j * cells
        jacobian[rows, start : start + cells] = np.diag(design.noise_sd[0, j])
    found = optimize.minimize(
        lambda x: -log_posterior(design, data.k, data.n, x), np.zeros(jacobian.shape[1]), tol=1e-10
    )
    eta = design.offset[0].ravel() + jacobian @ found.x
    p = 1 / (1 + np.exp(-eta))
    hessian = (jacobian.T * (data.n.ravel() * p * (1 - p))) @ jacobian + np.eye(jacobian.shape[1])
    dense = -found.fun - 0.5 * np.linalg.slogdet(hessian)[1]
    assert mode.log_evidence[0] == pytest.approx(dense, abs=1e-4)


def test_without_data_the_mode_is_the_prior_and_the_evidence_is_zero(
    make_sweep: Callable[..., pd.DataFrame],
) -> None:
    data = growth_data(make_sweep())
    empty = replace(data, k=np.zeros_like(data.k), n=np.zeros_like(data.n))
    mode = find_mode(empty, build_design(empty, random_hyper(5, 1), AXIS, GrowthPrior()))
    assert np.abs(mode.local).max() == 0
    assert mode.log_evidence == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("extreme", [0.0, 1.0])
def test_all_zeros_and_all_successes_converge(make_sweep: Callable[..., pd.DataFrame], extreme: float) -> None:
    data = growth_data(make_sweep())
    data = replace(data, k=extreme * data.n)
    mode = find_mode(data, build_design(data, random_hyper(10, 2), AXIS, GrowthPrior()))
    assert mode.gradient.max() < 1e-6


def test_modes_far_out_are_found_in_few_steps(
    make_sweep: Callable[..., pd.DataFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Heavy noise on many cells: whole Newton steps leap between the flat tails, and took 101 where 12 suffice."""
    monkeypatch.setattr(laplace, "MAX_STEPS", 20)
    data = growth_data(make_sweep(rise=5))
    hyper = random_hyper(100, 5)
    heavy = replace(hyper, noise=np.linspace(2.0, 8.0, 100))
    mode = find_mode(data, build_design(data, heavy, AXIS, GrowthPrior()))
    assert mode.gradient.max() < 1e-6
