"""The model by which further attempts are dealt out: exact gradients, and measurements that follow their weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from benchmarks.calibration.experiment import simulate
from benchmarks.calibration.memory import to_evidence
from benchmarks.calibration.regimes import Range, regime_named

from foreshock.analysis.adaptive.backtest import inflation
from foreshock.analysis.adaptive.fit import optimise
from foreshock.analysis.adaptive.model import build_blocks, fit_blocks
from foreshock.analysis.adaptive.parameters import CENTERS, WIDTHS, log_prior
from foreshock.analysis.adaptive.rows import measurement_rows

SMALL = replace(
    regime_named("early"), n_types=3, tasks=Range(20, 30), checkpoints=(1, 5, 20, 100), levels=(0, 5, 20, 60)
)


def test_exact_gradients_of_the_objective_agree_with_finite_differences() -> None:
    evidence, _ = to_evidence(simulate(SMALL, 7))
    blocks = build_blocks(evidence, measurement_rows(evidence))
    start = CENTERS + 0.3 * WIDTHS * torch.randn(len(CENTERS), generator=torch.Generator().manual_seed(1)).double()

    def objective(theta: torch.Tensor) -> torch.Tensor:
        return fit_blocks(blocks, theta)[1] + log_prior(theta)

    theta = start.clone().requires_grad_(True)
    objective(theta).backward()
    assert theta.grad is not None
    for i in range(len(theta)):
        step = torch.zeros_like(start)
        step[i] = 1e-5
        numeric = (objective(start + step) - objective(start - step)) / 2e-5
        assert float(theta.grad[i]) == pytest.approx(float(numeric), rel=1e-5, abs=1e-5)


def test_the_backtest_widens_a_model_whose_measurements_contradict_the_counts() -> None:
    evidence, _ = to_evidence(simulate(replace(SMALL, end_log10_exploit=Range(-0.8, -0.4)), 13))
    rows = measurement_rows(evidence)
    honest = build_blocks(evidence, rows)
    theta = optimise(honest)
    push = np.random.default_rng(0).choice([-6.0, 6.0], len(evidence.surfaces))
    wrong = build_blocks(evidence, replace(rows, y=rows.y + push[rows.surface]))
    assert inflation(wrong, theta) > inflation(honest, theta) + 0.1


def test_coverage_is_the_mean_weight_of_the_deepest_level_at_which_little_is_decided() -> None:
    plain, _ = to_evidence(simulate(SMALL, 19))
    shifted = replace(plain, rows=replace(plain.rows, log_w=plain.rows.log_w - 2.0))
    before, after = measurement_rows(plain), measurement_rows(shifted)
    judged = before.coverage != 0
    assert 0.1 < judged.mean() < 0.9
    assert np.allclose(after.coverage[judged], before.coverage[judged] - 2.0, atol=1e-9)
    assert (after.coverage[~judged] == 0).all()


def test_a_types_spread_follows_its_own_weights_where_its_successes_are_few() -> None:
    evidence, _ = to_evidence(simulate(SMALL, 23))
    rows = evidence.rows
    far = rows.surface % 3 == 0
    wider = replace(evidence, rows=replace(rows, log_w=np.where(far, 3 * rows.log_w, rows.log_w)))
    before, after = measurement_rows(evidence), measurement_rows(wider)
    mine = before.type == 0
    assert np.median(after.spread[mine] / before.spread[mine]) > 5
    assert np.median(after.spread[~mine] / before.spread[~mine]) < 2
