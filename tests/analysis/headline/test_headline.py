"""The headline estimate: sound on edge cases, and right about simulated rates that it cannot see."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from benchmarks.calibration.experiment import simulate
from benchmarks.calibration.memory import to_evidence
from benchmarks.calibration.regimes import Range, regime_named

from foreshock.analysis.estimates.direct import clopper_pearson
from foreshock.analysis.evidence.evidence import DonorKind, Evidence, PrefillRows, Surface
from foreshock.analysis.headline.backtest import inflation
from foreshock.analysis.headline.estimate import Headline, estimate_headline, marginal_quantiles
from foreshock.analysis.headline.fit import optimise
from foreshock.analysis.headline.model import build_blocks, fit_blocks, given_measurements
from foreshock.analysis.headline.parameters import CENTERS, WIDTHS, log_prior, unpack
from foreshock.analysis.headline.rows import measurement_rows
from foreshock.analysis.headline.sparse import with_sites

SMALL = replace(
    regime_named("early"), n_types=3, tasks=Range(20, 30), checkpoints=(1, 5, 20, 100), levels=(0, 5, 20, 60)
)


def quantiles(headline: Headline) -> np.ndarray:
    return np.stack([headline.lower95, headline.lower90, headline.median, headline.upper90, headline.upper95])


def empty_rows() -> PrefillRows:
    none = np.zeros(0, dtype=np.int64)
    return PrefillRows(none, none, none, none, none, none, np.zeros(0), np.zeros(0))


def counts_only(n: np.ndarray, k: np.ndarray, steps: np.ndarray) -> Evidence:
    surfaces = tuple(Surface("run", f"type_{i}") for i in range(len(n)))
    shape = n[:, :, None], k[:, :, None]
    return Evidence(surfaces, steps, np.array([0]), *shape, empty_rows(), DonorKind.UNCONDITIONED)


def test_rates_that_were_never_seen_lie_in_their_intervals_and_near_their_medians() -> None:
    errors, covered = [], []
    for seed in (41, 42):
        evidence, truth = to_evidence(simulate(replace(regime_named("early"), n_types=5), seed))
        headline = estimate_headline(evidence)
        zero = evidence.direct()[1] == 0
        log_truth = np.log10(truth)
        errors.append((headline.median - log_truth)[zero])
        covered.append(((headline.lower95 <= log_truth) & (log_truth <= headline.upper95))[zero])
    assert np.sqrt(np.mean(np.concatenate(errors) ** 2)) < 0.7
    assert np.mean(np.concatenate(covered)) > 0.8


def test_limits_are_ordered_and_are_rates() -> None:
    evidence, _ = to_evidence(simulate(SMALL, 3))
    q = quantiles(estimate_headline(evidence))
    assert np.isfinite(q).all()
    assert (np.diff(q, axis=0) > 0).all()
    assert (q <= 0).all()


def test_row_order_does_not_matter() -> None:
    evidence, _ = to_evidence(simulate(SMALL, 5))
    order = np.random.default_rng(0).permutation(len(evidence.rows))
    shuffled = replace(evidence, rows=evidence.rows.take(order))
    assert np.allclose(quantiles(estimate_headline(evidence)), quantiles(estimate_headline(shuffled)), atol=1e-4)


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


@pytest.mark.parametrize("case", ["zeros", "all", "one_checkpoint", "one_attempt"])
def test_counts_alone_give_finite_intervals_on_the_right_side(case: str) -> None:
    n = np.full((2, 4), 40)
    steps = np.array([1.0, 10, 50, 100])
    k = n * 0 if case != "all" else n.copy()
    if case == "one_checkpoint":
        n, k, steps = n[:, :1], k[:, :1], steps[:1]
    if case == "one_attempt":
        n = np.ones_like(n)
    headline = estimate_headline(counts_only(n, k, steps))
    assert np.isfinite(quantiles(headline)).all()
    if case == "all":
        assert (headline.median > np.log10(0.9)).all()
    if case == "zeros":
        # No looser than what each count alone says: Clopper-Pearson's limit for 0 of 40.
        assert (headline.upper95 < np.log10(clopper_pearson(0, 40, 0.95)[1])).all()


def test_the_direct_rate_wins_where_it_is_well_known() -> None:
    n = np.full((2, 3), 4000)
    k = np.array([[40, 200, 1000], [400, 800, 1200]])
    headline = estimate_headline(counts_only(n, k, np.array([1.0, 10, 100])))
    assert np.allclose(headline.median, np.log10(k / n), atol=0.06)


def test_importance_evidence_lowers_a_zero_cell_below_what_its_count_alone_says() -> None:
    evidence, truth = to_evidence(simulate(replace(SMALL, end_log10_exploit=Range(-4.5, -4.0)), 11))
    without = replace(evidence, rows=evidence.rows.take(np.zeros(0, dtype=np.int64)))
    with_it, blind = estimate_headline(evidence), estimate_headline(without)
    zero = evidence.direct()[1] == 0
    width = (with_it.upper95 - with_it.lower95)[zero].mean()
    assert width < 0.7 * (blind.upper95 - blind.lower95)[zero].mean()
    error = np.abs(with_it.median - np.log10(truth))[zero].mean()
    assert error < 0.7


def test_the_backtest_widens_a_model_whose_measurements_contradict_the_counts() -> None:
    evidence, _ = to_evidence(simulate(replace(SMALL, end_log10_exploit=Range(-0.8, -0.4)), 13))
    rows = measurement_rows(evidence)
    honest = build_blocks(evidence, rows)
    theta = optimise(honest)
    push = np.random.default_rng(0).choice([-6.0, 6.0], len(evidence.surfaces))
    wrong = build_blocks(evidence, replace(rows, y=rows.y + push[rows.surface]))
    assert inflation(wrong, theta) > inflation(honest, theta) + 0.1


def test_marginal_quantiles_without_data_are_normal_quantiles() -> None:
    none = np.zeros(2)
    mean, sd = np.array([[1.0, -2.0]]), np.array([[2.0, 0.5]])
    q = marginal_quantiles(np.ones(1), mean, sd, none, none, np.array([0.5, 0.975]))
    assert np.allclose(q, [[1, -2], [1 + 1.959964 * 2, -2 + 1.959964 * 0.5]], atol=5e-3)


def test_marginal_quantiles_undo_laplace_for_a_cell_of_its_own() -> None:
    # One cell, prior N(-3, 3^2), 0 of 30: Laplace's marginal goes in, the exact posterior's quantiles come out.
    n, k, m, s = 30.0, 0.0, -3.0, 3.0
    f = np.linspace(-25, 10, 400_001)
    log_post = k * f - n * np.logaddexp(0, f) - 0.5 * ((f - m) / s) ** 2
    mode = f[log_post.argmax()]
    p = 1 / (1 + np.exp(-mode))
    sd = 1 / np.sqrt(1 / s**2 + n * p * (1 - p))
    cdf = np.cumsum(np.exp(log_post - log_post.max()))
    exact = np.interp([0.05, 0.5, 0.975], cdf / cdf[-1], f)
    found = marginal_quantiles(
        np.ones(1), np.array([[mode]]), np.array([[sd]]), np.array([n]), np.array([k]), np.array([0.05, 0.5, 0.975])
    )
    assert np.allclose(found[:, 0], exact, atol=0.02)


def test_surfaces_of_types_that_only_one_run_has_are_estimated() -> None:
    evidence, _ = to_evidence(simulate(SMALL, 17))
    keep = np.arange(len(evidence.surfaces) - 1)
    mask = evidence.rows.surface < len(keep)
    part = replace(
        evidence,
        surfaces=evidence.surfaces[:-1],
        n=evidence.n[keep],
        k=evidence.k[keep],
        rows=evidence.rows.take(mask),
    )
    assert np.isfinite(quantiles(estimate_headline(part))).all()


def test_impossible_counts_are_refused_with_the_cell_named() -> None:
    with pytest.raises(ValueError, match=r"type_1.*-3 exploits of 40 attempts"):
        counts_only(np.full((2, 1), 40), np.array([[0], [-3]]), np.array([10.0]))


def one_prefilled_cell(hits: int, attempts: int, log_w: float = -3.0) -> Evidence:
    """One type at two checkpoints; at the second all prefixes exploit, so that their weights are known."""
    size = 2 * attempts
    checkpoint = np.repeat([0, 1], attempts)
    trace = np.tile(np.arange(attempts), 2)
    success = np.concatenate([np.arange(attempts) < hits, np.ones(attempts, dtype=bool)]).astype(np.int64)
    zero = np.zeros(size, dtype=np.int64)
    weights = log_w + 0.1 * np.sin(trace)
    rows = PrefillRows(zero, checkpoint, zero + 1, trace, trace, success, weights, weights)
    n = np.array([[[0, attempts], [0, attempts]]])
    k = np.array([[[0, hits], [0, attempts]]])
    return Evidence(
        (Surface("run", "a"),), np.array([1.0, 100.0]), np.array([0, 20]), n, k, rows, DonorKind.UNCONDITIONED
    )


def rate_without_counts(evidence: Evidence) -> tuple[float, float]:
    """Mean and sd of the first checkpoint's logit rate given prefilled attempts only, at central hyperparameters."""
    rows = measurement_rows(evidence)
    theta = CENTERS.numpy()
    blocks = with_sites(build_blocks(evidence, rows), rows, theta)
    given = given_measurements(blocks, unpack(CENTERS))
    return float(given.mean[0, 0]), float(given.root[0, 0].square().sum().sqrt())


def test_prefilled_attempts_without_an_exploit_lower_the_rate_the_more_of_them_there_are() -> None:
    few, many, some = (rate_without_counts(one_prefilled_cell(k, n))[0] for k, n in ((0, 20), (0, 400), (2, 400)))
    assert many < few - 0.3
    assert many < some


def test_a_cell_that_others_already_say_is_rare_adds_nothing() -> None:
    # Weights of e^-30 put the prefix's exploit rate where 0 of 20 is certain whatever the rate without prefill.
    rows = measurement_rows(one_prefilled_cell(0, 20))
    blocks = build_blocks(one_prefilled_cell(0, 20), rows)
    rare = replace(rows, lift=np.where(rows.sparse, 40.0, rows.lift))
    found = with_sites(blocks, rare, CENTERS.numpy())
    sparse = torch.as_tensor(rows.sparse[blocks.row])
    assert float(found.count_var[sparse].min()) > 1e3


def test_sites_of_a_lone_cell_give_the_exact_posterior_moments() -> None:
    evidence = one_prefilled_cell(1, 60)
    mean, sd = rate_without_counts(evidence)
    wide, _ = rate_without_counts(replace(evidence, rows=evidence.rows.take(evidence.rows.checkpoint == 1)))
    # 1 of 60 after a prefix of weight e^-3: below one in a thousand, and known to within a factor of ten or so.
    assert mean < wide
    assert np.log10(1 / 60 * np.exp(-3)) - 1 < mean / np.log(10) < np.log10(1 / 60 * np.exp(-3)) + 1
    assert 0.8 < sd < 3


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
