"""The shipped networks: quantiles that never cross, whatever is missing or out of range, and a file that keeps them."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from foreshock.analysis.headline.learned import learned
from foreshock.analysis.headline.networks import Networks, Scaling, ascending


@given(seed=st.integers(0, 10**6), scale=st.floats(0.01, 1e6))
@settings(max_examples=40, deadline=None)
def test_quantiles_ascend_and_are_finite_for_any_features(seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    values = scale * rng.normal(size=(20, len(learned().names)))
    values[rng.random(values.shape) < rng.random()] = np.nan
    found = learned().residuals(values)
    assert np.isfinite(found).all()
    assert (np.diff(found, axis=1) >= 0).all()


def test_outputs_far_out_do_not_overflow() -> None:
    raw = ascending(np.array([[800.0, -800.0, 0.0, 800.0, -800.0]]))
    assert np.isfinite(raw).all()
    assert (np.diff(raw) >= 0).all()


def test_what_is_missing_is_an_input_of_its_own_and_columns_missing_together_share_it() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(400, 4))
    values[:150, 1:3] = np.nan
    values[:, 3] = np.nan
    scaling = Scaling.of(values)
    assert scaling.missing.tolist() == [1]
    inputs = scaling.inputs(values)
    assert inputs.shape == (400, 5)
    assert np.array_equal(inputs[:, 4], np.isnan(values[:, 1]).astype(np.float32))
    assert (inputs[:150, 1:3] == 0).all()
    assert np.array_equal(scaling.inputs(np.full((1, 4), 1e9)), scaling.inputs(np.full((1, 4), 1e12)))


def test_arrays_give_the_same_networks_back() -> None:
    networks = learned().quantiles
    values = np.random.default_rng(1).normal(size=(5, len(learned().names)))
    assert np.array_equal(Networks.of_arrays(networks.arrays()).predict(values), networks.predict(values))
