"""Calibration against rates that are known."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit

from foreshock.analysis.calibration.recalibrate import deviance, fit_map
from foreshock.analysis.calibration.run import calibrate, pair_cells, run_calibration
from foreshock.errors import InputError


def cells(a: float, b: float, n: int = 60, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray]:
    """Cells whose estimates are off by a known map, and their true rates."""
    rng = np.random.default_rng(seed)
    truth = expit(rng.uniform(-6, 0, 200))
    estimates = expit((logit(truth) - a) / b)
    frame = pd.DataFrame(
        {
            "run": "r",
            "exploit_type": [f"t{i % 10}" for i in range(200)],
            "checkpoint": np.arange(200),
            "method": "importance",
            "log10_rate": np.log10(estimates),
            "status": "estimate",
        }
    )
    counts = frame[["run", "exploit_type", "checkpoint"]].assign(n=n, k=rng.binomial(n, truth))
    return pair_cells(frame, counts), truth


@pytest.mark.parametrize(("a", "b"), [(0.0, 1.0), (1.5, 1.0), (-1.0, 0.5), (0.5, 2.0)])
def test_a_known_map_is_found(a: float, b: float) -> None:
    paired, _ = cells(a, b)
    found = fit_map(10 ** paired["log10_rate"].to_numpy(), paired["k"].to_numpy(float), paired["n"].to_numpy(float))
    assert abs(found.intercept - a) < 3 * found.intercept_se + 0.02
    assert abs(found.slope - b) < 3 * found.slope_se + 0.02


def test_a_map_helps_estimates_that_are_off_and_says_by_how_much() -> None:
    paired, truth = cells(1.5, 0.7)
    table, facts = calibrate(paired)
    assert facts["helps"]
    assert facts["deviance_recalibrated"] < facts["deviance_raw"]
    assert facts["bias_decades"] < 0
    gap = np.abs(table["log10_recalibrated"] - np.log10(truth))
    assert gap.median() < 0.5 * np.abs(table["log10_rate"] - np.log10(truth)).median()


def test_zero_counts_have_no_sampled_rate_but_count() -> None:
    paired, _ = cells(0, 1, n=3)
    zero = paired["k"] == 0
    assert zero.any()
    assert paired.loc[zero, "log10_sampled"].isna().all()
    assert np.isneginf(paired.loc[zero, "sampled_lower95"]).all()
    assert paired.loc[zero & (paired["log10_rate"] < -1), "inside"].all()


def test_deviance_is_zero_at_the_counts_own_rates() -> None:
    k, n = np.array([0.0, 3.0, 5.0]), np.array([5.0, 5.0, 5.0])
    assert deviance(k / n, k, n) == pytest.approx(0, abs=1e-9)
    assert deviance(np.full(3, 0.5), k, n) > 0.1


def test_few_cells_give_no_map() -> None:
    paired, _ = cells(0, 1)
    _, facts = calibrate(paired.head(3))
    assert (facts["map"], facts["reason"]) == (None, "fewer than 5 cells")
    _, single = calibrate(paired[paired["exploit_type"] == "t1"])
    assert single["map"] is not None
    assert single["reason"] == "one exploit type: whether the map helps is unknown"


def test_methods_that_used_the_samples_are_not_checked_by_them(factory: ModuleType, tmp_path: Path) -> None:
    toy = factory.ToyRun(types=("a", "b", "c"), checkpoints=(5, 10, 20, 40), levels=(0, 5, 20), tasks_per_type=8)
    run = factory.write_run(tmp_path / "run", toy)
    done = run_calibration([run], tmp_path / "out", conditioned=False)
    assert done.sampled == "level 0 of the sweep"
    assert not set(done.maps) & {"headline", "direct", "importance_defensive"}
    assert "surprisal_bound" in done.maps
    written = json.loads((tmp_path / "out" / "recalibration_map.json").read_text())
    assert written["methods"].keys() == done.maps.keys()
    assert len(pd.read_csv(tmp_path / "out" / "calibration.csv")) == len(done.cells)


def test_nothing_to_compare_is_refused(factory: ModuleType, tmp_path: Path) -> None:
    run = factory.write_run(tmp_path / "run", factory.ToyRun(checkpoints=(5,), levels=(0,)), logprobs=False)
    with pytest.raises(InputError, match="no cell has both"):
        run_calibration([run], tmp_path / "out")
