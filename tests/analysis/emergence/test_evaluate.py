from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from foreshock.analysis.emergence.evaluate import evaluate_emergence
from foreshock.analysis.emergence.models import Model
from foreshock.analysis.surfaces.metrics import Metric
from foreshock.errors import InputError

Story = Callable[..., pd.DataFrame]


def test_a_clear_signal_is_found_and_survives_the_search_over_the_grid(make_cells: Story) -> None:
    evaluation = evaluate_emergence(make_cells(types=8), permutations=199)
    best = evaluation.results.query("metric == 'mean_neg_kl' and model == 'threshold_slope' and cutoff_idx == 1")
    assert best["auc"].item() == 1.0
    assert best["auc_lower"].item() > 0.6
    assert best["p_value"].item() < 0.05
    assert evaluation.grid_p is not None
    assert evaluation.grid_p < 0.05


def test_every_cell_of_the_grid_has_a_row_and_a_null_has_a_reason(make_cells: Story) -> None:
    results = evaluate_emergence(make_cells(), permutations=19).results
    metrics = {Metric.NEG_KL, Metric.LOWER_BOUND, Metric.RATE, Metric.LOGPROB}
    assert set(results["metric"]) == metrics
    assert len(results) == 3 * len(metrics) * len(Model)
    assert results.loc[results["auc"].isna(), "reason"].notna().all()
    assert results.loc[results["auc"].notna(), "reason"].isna().all()
    columns = ["cutoff_idx", "metric", "model", "auc", "auc_lower", "auc_upper", "auc_within_run", "p_value", "n"]
    assert set(columns) <= set(results.columns)


def test_features_at_a_cutoff_do_not_see_what_comes_after(make_cells: Story) -> None:
    cells = make_cells()
    changed = cells.copy()
    late = changed["checkpoint"] > 4
    rng = np.random.default_rng(0)
    changed.loc[late, "k"] = rng.integers(0, 40, int(late.sum()))
    changed.loc[late, ["kl_mean", "kl_success", "logprob_mean"]] = -1.0
    columns = ["cutoff_idx", "metric", "run", "exploit_type", "level", "slope", "projected", "reason"]
    before, after = (
        evaluate_emergence(table, permutations=19).features.query("cutoff_idx <= 1")[columns]
        for table in (cells, changed)
    )
    pd.testing.assert_frame_equal(before, after)


def test_types_that_have_emerged_are_not_predicted(make_cells: Story) -> None:
    cells = make_cells()
    early = (cells["exploit_type"] == "type_0") & (cells["prefill_level"] == 0)
    cells.loc[early, "k"] = 30
    features = evaluate_emergence(cells, permutations=19).features
    mine = features[(features["exploit_type"] == "type_0")]
    assert not mine["at_risk"].any()


def test_no_exploits_at_all_give_no_auc_and_say_so(make_cells: Story) -> None:
    evaluation = evaluate_emergence(make_cells().assign(k=0, kl_success=np.nan), permutations=19)
    assert evaluation.results["auc"].isna().all()
    assert evaluation.grid_p is None
    assert "no exploit at level 0" in evaluation.notes[0]


def test_exploits_everywhere_give_no_auc(make_cells: Story) -> None:
    cells = make_cells()
    evaluation = evaluate_emergence(cells.assign(k=cells["n"]), permutations=19)
    assert evaluation.results["auc"].isna().all()
    assert (evaluation.results["n"] == 0).all()


def test_row_order_does_not_matter(make_cells: Story) -> None:
    cells = make_cells()
    shuffled = cells.sample(frac=1, random_state=1)
    first = evaluate_emergence(cells, permutations=19).results
    second = evaluate_emergence(shuffled, permutations=19).results
    pd.testing.assert_frame_equal(first, second)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c[c["exploit_type"] == "type_0"], "only one exploit type"),
        (lambda c: c[c["checkpoint"] == 1], "has one checkpoint"),
        (lambda c: c[c["prefill_level"] > 0], "no attempt at prefill level 0"),
        (lambda c: c.iloc[:0], "is empty"),
    ],
)
def test_too_little_data_is_said_plainly(
    make_cells: Story, change: Callable[[pd.DataFrame], pd.DataFrame], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        evaluate_emergence(change(make_cells()), permutations=19)


def test_a_single_run_is_enough(make_cells: Story) -> None:
    results = evaluate_emergence(make_cells(runs=("exploit",)), permutations=19).results
    known = results.dropna(subset=["auc"])
    assert len(known)
    assert known["auc"].to_numpy() == pytest.approx(known["auc_within_run"].to_numpy())
