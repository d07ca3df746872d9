"""Importance-sampling identities by full enumeration of a two-word world, where sampling noise cannot hide an error."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import pytest

from foreshock.analysis.evidence.estimate import Status
from foreshock.analysis.importance.bootstrap import bootstrap_log_mean
from foreshock.analysis.importance.diagnostics import diagnose, effective_sample_size, generalised_pareto_k, pareto_k
from foreshock.analysis.importance.formulas import (
    balance_heuristic,
    log_mean_weighted,
    surprisal_bound,
    tilted_jensen_bound,
)


@dataclass(frozen=True)
class World:
    """Traces of two words over three symbols. p, d: [3, 3] trace probabilities of target and donor; e, e_donor: [3, 3]
    exploit probability of the finished trace."""

    p: np.ndarray
    d: np.ndarray
    e: np.ndarray
    e_donor: np.ndarray

    @property
    def truth(self) -> float:
        return float((self.p * self.e).sum())

    def first_word(self, joint: np.ndarray) -> np.ndarray:
        return joint.sum(1)

    def rate_given_first(self, joint: np.ndarray, e: np.ndarray) -> np.ndarray:
        return (joint * e).sum(1) / joint.sum(1)


def make_world(seed: int) -> World:
    rng = np.random.default_rng(seed)
    p, d = (rng.dirichlet(np.full(9, 0.7)).reshape(3, 3) for _ in range(2))
    return World(p, d, rng.random((3, 3)), rng.random((3, 3)))


def exact_mean(q: np.ndarray, log_w: np.ndarray, r: np.ndarray) -> float:
    """The estimator's value on a sample in which every prefix occurs in exact proportion to q."""
    return float(np.exp(log_mean_weighted(log_w + np.log(q) + np.log(len(q)), r)))


@pytest.mark.parametrize("seed", range(20))
def test_the_rate_is_the_weighted_mean_over_unconditioned_donor_prefixes_at_both_levels(seed: int) -> None:
    w = make_world(seed)
    first_p, first_d = w.first_word(w.p), w.first_word(w.d)
    one = exact_mean(first_d, np.log(first_p / first_d), w.rate_given_first(w.p, w.e))
    two = exact_mean(w.d.ravel(), np.log(w.p / w.d).ravel(), w.e.ravel())
    assert one == pytest.approx(w.truth, abs=1e-12)
    assert two == pytest.approx(w.truth, abs=1e-12)


@pytest.mark.parametrize("seed", range(20))
def test_a_conditioned_donor_needs_exactly_pi_over_a(seed: int) -> None:
    w = make_world(seed)
    pi = float((w.d * w.e_donor).sum())
    first_d, a = w.first_word(w.d), w.rate_given_first(w.d, w.e_donor)
    proposal = first_d * a / pi
    assert proposal.sum() == pytest.approx(1.0, abs=1e-12)
    first_p, r = w.first_word(w.p), w.rate_given_first(w.p, w.e)
    log_w = np.log(first_p / first_d) + np.log(pi) - np.log(a)
    assert exact_mean(proposal, log_w, r) == pytest.approx(w.truth, abs=1e-12)
    uncorrected = exact_mean(proposal, np.log(first_p / first_d), r)
    assert abs(uncorrected - w.truth) > 1e-6


@pytest.mark.parametrize("seed", range(20))
def test_the_balance_heuristic_is_unbiased_over_both_techniques(seed: int) -> None:
    w = make_world(seed)
    first_p, first_d = w.first_word(w.p), w.first_word(w.d)
    weight = first_p / first_d
    n_direct, n_prefilled = 7, 13
    total = 0.0
    for x, y in itertools.product(range(3), range(3)):
        one = (np.array([np.log(weight[x])]), np.array([1]), np.array([0]))
        # One sampled exploit is worth 1 / (n_direct + n_prefilled / w); drop the other samples, which are misses.
        misses = (np.zeros(n_prefilled), np.zeros(n_prefilled, dtype=int), np.ones(n_prefilled, dtype=int))
        sample = [np.concatenate(pair) for pair in zip(one, misses, strict=True)]
        value = np.exp(balance_heuristic(*sample, n_direct, n_prefilled))
        total += w.e[x, y] * value * (n_direct * w.p[x, y] + n_prefilled * w.p[x, y] / weight[x])
    assert total == pytest.approx(w.truth, abs=1e-12)


def test_the_balance_heuristic_sums_the_contributions_it_documents() -> None:
    log_w, hit, prefilled = np.log([0.5, 2.0, 0.1]), np.array([1, 0, 1]), np.array([0, 0, 1])
    expected = 1 / (2 + 1 / 0.5) + 1 / (2 + 1 / 0.1)
    assert np.exp(balance_heuristic(log_w, hit, prefilled, 2, 1)) == pytest.approx(expected, abs=1e-12)
    unreachable = balance_heuristic(np.array([np.inf]), np.array([1]), np.array([0]), 4, 0)
    assert np.exp(unreachable) == pytest.approx(0.25, abs=1e-12)


@pytest.mark.parametrize("seed", range(50))
def test_bounds_hold_exactly(seed: int) -> None:
    w = make_world(seed)
    q, r = w.d.ravel(), w.e.ravel()
    log_w = np.log(w.p / w.d).ravel()
    copies = np.round(q * 200_000).astype(int)
    sample_w, sample_r = np.repeat(log_w, copies), np.repeat(r, copies)
    assert tilted_jensen_bound(sample_w, sample_r) <= np.log(w.truth) + 1e-3
    assert surprisal_bound(np.log(w.p).ravel(), r) <= np.log(w.truth)


def test_minus_kl_plus_log_rate_can_exceed_the_truth() -> None:
    # Half the donor's prefixes carry the intent and always exploit; the target hardly ever writes those.
    log_w, hit = np.log(np.array([2.0, 1e-6])), np.array([0.0, 1.0])
    truth = np.log(0.5 * 1e-6)
    assert np.log(hit.mean()) + log_w.mean() > truth + 5
    assert tilted_jensen_bound(log_w, hit) <= truth + 1e-12


def test_weighted_means_do_not_depend_on_row_or_attempt_order() -> None:
    rng = np.random.default_rng(0)
    log_w, hit, task = rng.normal(-8, 3, 60), (rng.random(60) < 0.4).astype(float), np.repeat(np.arange(20), 3)
    order = rng.permutation(60)
    assert log_mean_weighted(log_w[order], hit[order]) == pytest.approx(log_mean_weighted(log_w, hit), abs=1e-12)
    contribution = np.where(hit > 0, log_w, -np.inf)
    a = bootstrap_log_mean(contribution, task, (0.05, 0.95))
    b = bootstrap_log_mean(contribution[order], task[order], (0.05, 0.95))
    assert np.allclose(a, b, atol=1e-12)


def test_effective_sample_size_counts_equal_contributions_and_ignores_zeros() -> None:
    assert effective_sample_size(np.array([-5.0] * 8 + [-np.inf] * 4)) == pytest.approx(8)
    assert effective_sample_size(np.array([0.0, -50.0])) == pytest.approx(1)
    assert effective_sample_size(np.array([-np.inf])) == 0.0


@pytest.mark.parametrize("k", [0.2, 0.5, 1.0])
def test_pareto_k_recovers_the_tail_index_of_a_pareto_tail(k: float) -> None:
    uniform = (np.arange(4000) + 0.5) / 4000
    excess = np.sort(np.expm1(-k * np.log(uniform)) / k)
    assert generalised_pareto_k(excess) == pytest.approx(k, abs=0.05)


def test_pareto_k_is_of_unnormalised_contributions_so_scaling_does_not_change_it() -> None:
    rng = np.random.default_rng(2)
    log_w = rng.normal(0, 2, 80)
    assert pareto_k(log_w) == pytest.approx(pareto_k(log_w - 700), abs=1e-9)
    assert pareto_k(log_w[:4]) is None


def test_an_estimate_needs_every_diagnostic_to_pass() -> None:
    rng = np.random.default_rng(3)
    near, hit = rng.normal(-0.02, 0.2, 400), (rng.random(400) < 0.6).astype(float)
    assert diagnose(near, hit).status is Status.ESTIMATE
    assert diagnose(near - 9, hit).status is Status.BOUND  # prefixes far too unlikely: KL on successes
    assert diagnose(near + 1, hit).status is Status.BOUND  # weights do not average to one
    assert diagnose(rng.normal(-4, 2.8, 400), hit).status is Status.BOUND
    assert diagnose(near, np.zeros(400)).status is Status.UNOBSERVED
