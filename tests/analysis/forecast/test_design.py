from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from foreshock.analysis.forecast.design import GrowthPrior, Hyper, TimeAxis, build_design, burst_gap, growth_data

PRIOR = GrowthPrior()


def hyper(**changes: float) -> Hyper:
    values = {
        "slope": 1.0,
        "wiener": 0.8,
        "burst": 4.0,
        "run_burst": 3.0,
        "memory": 0.3,
        "level": 0.5,
        "level_time": 1.0,
        "noise": 0.4,
        "warp": 0.2,
    } | changes
    return Hyper(**{name: np.array([value]) for name, value in values.items()})


def test_the_curve_at_level_zero_is_what_level_zero_cells_see(make_sweep: Callable[..., pd.DataFrame]) -> None:
    data = growth_data(make_sweep())
    design = build_design(data, hyper(), TimeAxis(1, 100), PRIOR)
    rng = np.random.default_rng(0)
    u = rng.normal(size=design.local.shape[-1])
    g = rng.normal(size=design.shared.shape[-1])
    eta = design.offset[0] + design.local[0] @ u + design.shared[0] @ g
    curve = design.curve_offset[0] + design.curve_local[0] @ u + design.curve_shared[0] @ g
    rows, columns = np.nonzero((data.words == 0) & (data.n > 0))
    assert len(rows) == 24
    assert eta[rows, columns] == pytest.approx(curve[rows, data.step_index[rows, columns]])
    assert (design.noise_sd[0][data.words == 0] == 0).all()


def test_the_prior_variance_of_a_burst_is_that_of_the_integrated_process(
    make_sweep: Callable[..., pd.DataFrame],
) -> None:
    """Over one gap d the variance of the integral of a stationary OU speed is 2 s^2 l^2 (d/l - 1 + exp(-d/l))."""
    data = growth_data(make_sweep())
    scales = hyper(slope=1e-9, wiener=1e-9, run_burst=1e-9)
    design = build_design(data, scales, TimeAxis(1, 100), GrowthPrior(surface_start_sd=1e-9))
    z = design.z[0, 0]
    for k in range(1, len(z)):
        variance = float((design.curve_local[0, 0, k] ** 2).sum())
        d = (z[k] - z[0]) / 0.3
        assert variance == pytest.approx(2 * 4.0**2 * 0.3**2 * (d - 1 + np.exp(-d)), rel=1e-9)
    assert float((design.speed_local[0, 0] ** 2).sum()) == pytest.approx(16.0)


def test_two_short_gaps_make_one_long_gap() -> None:
    scale = [np.array([v]) for v in (4.0, 0.3, 0.5)]
    first, second = burst_gap(np.array([0.1]), *scale), burst_gap(np.array([0.25]), *scale)
    whole = burst_gap(np.array([0.35]), *scale)
    transition = [np.array([[1, g.carry[0]], [0, g.keep[0]]]) for g in (first, second, whole)]
    noise = [np.array([[g.both[0], g.own[0]], [g.speed[0], 0.0]]) for g in (first, second, whole)]
    covariance = [n @ n.T for n in noise]
    assert transition[1] @ transition[0] == pytest.approx(transition[2])
    assert transition[1] @ covariance[0] @ transition[1].T + covariance[1] == pytest.approx(covariance[2])


def test_time_runs_from_zero_to_one_for_every_warp() -> None:
    axis = TimeAxis(0, 80)
    z = axis.z(np.array([0.0, 1.0, 20.0, 80.0]), np.array([0.0, 0.5, 1.0]))
    assert z[:, 0] == pytest.approx(0.0)
    assert z[:, -1] == pytest.approx(1.0)
    assert (np.diff(z, axis=1) > 0).all()
    assert z[2] == pytest.approx([0, 1 / 80, 0.25, 1])


def test_missing_kl_takes_the_levels_mean_and_order_does_not_matter(
    make_sweep: Callable[..., pd.DataFrame],
) -> None:
    cells = make_sweep()
    gone = (cells["prefill_level"] == 40) & (cells["exploit_type"] == "type_1")
    cells.loc[gone, "kl_mean"] = np.nan
    data = growth_data(cells.sample(frac=1, random_state=0))
    assert data.kl[(data.words == 40) & (data.n > 0)] == pytest.approx(8.0)
    assert growth_data(cells).surfaces == data.surfaces
    assert (growth_data(cells).k == data.k).all()


def test_runs_may_have_their_own_checkpoints(make_sweep: Callable[..., pd.DataFrame]) -> None:
    cells = make_sweep()
    cells = cells[(cells["run"] == "exploit") | (cells["checkpoint"] < 10)]
    data = growth_data(cells)
    assert data.n_steps.tolist() == [2, 2, 2, 4, 4, 4]
    assert data.steps[0].tolist() == [1, 3, 3, 3]
    design = build_design(data, hyper(), TimeAxis(1, 100), PRIOR)
    # Padding repeats the last checkpoint, so the curve stays where it is.
    assert design.curve_local[0, 0, 1] == pytest.approx(design.curve_local[0, 0, 3])
