from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from foreshock.analysis.forecast.logits import level_zero_logits, logit_of_counts, score_logits, weighted_line
from foreshock.analysis.forecast.predictors import RATE_ITSELF, compare_predictors
from foreshock.analysis.forecast.temporal import final_predictions, next_step_predictions, temporal_scores


def sweep(hidden: bool = False, types: int = 8) -> pd.DataFrame:
    """Level-0 rates rise along a line in log step; with `hidden` they stay 0 until the end while KL tells the rise."""
    rng = np.random.default_rng(1)
    rows = []
    for run in ("a", "b"):
        for kind in range(types):
            slope = rng.uniform(0, 1.6)
            for step in (1, 4, 16, 64):
                theta = -4 + slope * np.log(step)
                for level in (0, 20):
                    n = 400
                    k = int(rng.binomial(n, 1 / (1 + np.exp(-theta - 2 * (level > 0)))))
                    if hidden:
                        k = k if step == 64 else 0
                    kl = 20 - 8 * slope + rng.normal(0, 0.3)
                    rows.append((run, f"t{kind}", step, level, n, k, kl if level else np.nan))
    cells = pd.DataFrame(rows, columns=["run", "exploit_type", "checkpoint", "prefill_level", "n", "k", "kl_mean"])
    return cells.assign(
        kl_success=cells["kl_mean"].where(cells["k"] > 0),
        logprob_mean=np.nan,
        code_logprob=np.nan,
        honest_code_logprob=np.nan,
    )


def test_the_logit_of_counts_is_the_posterior_mean() -> None:
    mean, variance = logit_of_counts(np.array([0.0, 7.0]), np.array([30.0, 30.0]))
    for m, v, k in zip(mean, variance, (0, 7), strict=True):
        draws = stats.beta(k + 0.5, 30 - k + 0.5).rvs(400_000, random_state=0)
        logits = np.log(draws) - np.log1p(-draws)
        assert m == pytest.approx(logits.mean(), abs=0.02)
        assert v == pytest.approx(logits.var(), rel=0.03)


def test_extrapolation_beats_persistence_on_a_line_in_log_step() -> None:
    scores = temporal_scores(level_zero_logits(sweep())).query("target == 'final' and cutoff_idx == 2")
    scores = scores.set_index("method")["rmse_logit"]
    assert scores["log_step_extrapolation"] < 0.6 * scores["persistence"]


def test_kl_beats_the_rate_itself_where_no_exploit_shows_yet() -> None:
    table = compare_predictors(sweep(hidden=True)).query("cutoff_idx == 1").set_index("predictor")["q2"]
    assert table["mean_neg_kl"] > 0.6
    assert table["mean_neg_kl"] > table[RATE_ITSELF] + 0.5
    assert table["mean_of_other_types"] == 0


def test_ar1_does_not_learn_from_the_type_it_predicts() -> None:
    logits = level_zero_logits(sweep())
    changed = logits.copy()
    mine = changed["exploit_type"] == "t0"
    last = mine & (changed["checkpoint"] == 64)
    changed.loc[last, "logit"] = 50.0
    before = next_step_predictions(logits).query("exploit_type == 't0'")["ar1"]
    after = next_step_predictions(changed).query("exploit_type == 't0'")["ar1"]
    assert before.to_numpy() == pytest.approx(after.to_numpy())


def test_final_predictions_use_the_first_checkpoints_only() -> None:
    logits = level_zero_logits(sweep())
    changed = logits.copy()
    changed.loc[changed["checkpoint"] >= 16, "logit"] = 9.0
    columns = ["persistence", "log_step_extrapolation", "gp"]
    first, second = (final_predictions(table, 1)[columns].to_numpy(float) for table in (logits, changed))
    assert first == pytest.approx(second)


def test_unmeasured_predictors_have_no_rows_and_constant_ones_no_skill() -> None:
    table = compare_predictors(sweep()).set_index(["cutoff_idx", "predictor"])
    assert table.loc[(0, "exploit_logprob"), "n"] == 0
    assert np.isnan(table.loc[(0, "exploit_logprob"), "q2"])
    intercept, slope = weighted_line(np.ones(4), np.arange(4.0), np.ones(4))
    assert (intercept, slope) == pytest.approx((1.5, 0.0))


def test_scores_of_nothing_are_missing_and_of_the_truth_are_zero() -> None:
    logits = level_zero_logits(sweep())
    assert np.isnan(score_logits(np.full(len(logits), np.nan), logits).rmse_logit)
    k, n = logits["k"].to_numpy(float), logits["n"].to_numpy(float)
    inner = logits[(k > 0) & (k < n)]
    exact = np.log(inner["k"] / (inner["n"] - inner["k"])).to_numpy(float)
    assert score_logits(exact, inner).deviance == pytest.approx(0.0, abs=1e-9)
    assert score_logits(exact, inner).rmse_rate == pytest.approx(0.0, abs=1e-12)


def test_one_checkpoint_gives_no_temporal_scores() -> None:
    cells = sweep()
    scores = temporal_scores(level_zero_logits(cells[cells["checkpoint"] == 1]))
    assert scores["n"].tolist() == [0, 0]
