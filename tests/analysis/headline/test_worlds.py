"""The random worlds' own exactness, and that a sweep drawn from them keeps its promises."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from benchmarks.calibration.gather import FAMILIES
from benchmarks.calibration.worlds import chains, courses, dressed, paths, phrases, register_chain, traits
from benchmarks.calibration.worlds.sweep import TypeTruth, draw_sweep
from hypothesis import given, settings
from hypothesis import strategies as st

from foreshock.analysis.evidence.evidence import DonorKind


def tiny_chain(seed: int, copies: int) -> register_chain.Chain:
    rng = np.random.default_rng(seed)
    hazard = np.repeat(rng.uniform(0, 0.6, (1, 1, 2, 2)), copies, 1)
    return register_chain.Chain(
        hazard, np.array([0.5, 0.3, 0.2]), np.array([0.4]), np.array([0.1, 0.05]),
        rng.dirichlet(np.ones(3), (1, 2, 3)), np.array([[0.02, 0.7, 0.9]]),
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(4))
def test_register_worlds_sum_to_the_unprompted_rate(seed: int) -> None:
    words = np.array(list(itertools.product(range(3), repeat=3)))
    chain = tiny_chain(seed, len(words))
    truth = chain.unprompted()[0, 0]
    levels = (1, 2, 3)
    log_p, rate = chain.score(words, levels, chain.backward(levels))
    for i, level in enumerate(levels):
        copies = 3 ** (3 - level)
        assert np.exp(log_p[i, 0]).sum() / copies == pytest.approx(1.0, abs=1e-12)
        assert (np.exp(log_p[i, 0]) * rate[i, 0]).sum() / copies == pytest.approx(truth, abs=1e-12)


def test_conditioned_samples_of_register_worlds_follow_the_chain_given_that_it_exploits() -> None:
    n = 30_000
    chain = tiny_chain(1, n)
    drawn = chain.sample(np.random.default_rng(0), conditioned=True)[:, 0]
    one = tiny_chain(1, 3)
    words = np.arange(3)[:, None].repeat(3, 1)
    log_p, rate = one.score(words, (1,), one.backward((1,)))
    expected = np.exp(log_p[0, 0]) * rate[0, 0] / one.unprompted()[0, 0]
    assert np.allclose(np.bincount(drawn, minlength=3) / n, expected, atol=4 * np.sqrt(0.25 / n))


@pytest.mark.parametrize("words", [1, 3, 6])
def test_path_worlds_give_the_unprompted_rate_by_importance_sampling(words: int) -> None:
    rng = np.random.default_rng(3)
    length, n = 6, 60_000
    lean = np.full((length, paths._DIMENSIONS), 0.2)
    mix = np.log(np.array([[0.7, 0.3]]))
    drift = 0.1 * rng.normal(size=(1, 2, length, paths._DIMENSIONS))
    target = paths._Model(mix, drift, np.array([[0.8]]), lean, 0.3)
    donor = paths._Model(np.log(np.array([[0.5, 0.5]])), drift + 0.05, np.array([[0.4]]), lean, 0.3)
    task = np.zeros(n, dtype=np.int64)
    path = donor.sample(rng, task)
    log_p, rate = target.score(path, task, words)
    log_q, _ = donor.score(path, task, words)
    value = np.exp(log_p - log_q)[0] * rate[0]
    assert value.mean() == pytest.approx(target.unprompted()[0, 0], abs=4 * value.std() / np.sqrt(n))


def style_of(words: bool) -> dressed.Style:
    share = np.array([[0.6, 0.3]])
    return dressed.Style(share, np.array([[0.5, 0.0]]), 0.02, 0.02, words, np.array([1.0, 0.4]))


@pytest.mark.parametrize(
    ("family", "draw_type", "style"),
    [
        ("traits", traits._type, None),
        ("chains", chains._type, None),
        ("phrases", phrases._type, None),
        ("phrases", phrases._type, style_of(words=False)),
        ("phrases", phrases._type, style_of(words=True)),
    ],
)
@pytest.mark.parametrize("donor", [DonorKind.UNCONDITIONED, DonorKind.CONDITIONED])
def test_weights_and_rates_of_a_type_give_its_unprompted_rate_after_short_prefixes(
    family: str, draw_type: Callable[..., TypeTruth], style: dressed.Style | None, donor: DonorKind
) -> None:
    """r and weights are exact, so importance sampling over thousands of prefixes finds the rate of every task."""
    rng = np.random.default_rng(4)
    sweep = replace(
        draw_sweep(rng), runs=1, steps=(1, 10), levels=(0, 2, 5), tasks=(3,), prefixes=3000, donor=donor, apart=False
    )
    shares = np.full((1, 2), 0.6)
    grown = np.stack([shares, 0.3 + 0 * shares, 0.1 + 0 * shares], -1) if family == "traits" else shares
    exact = draw_type(rng, sweep, f"{family}: any", 3, grown, np.full((1, 2), 0.9))
    if style is not None:
        exact = dressed.dressed(rng, sweep, exact, style)
    log_w = exact.log_p - exact.log_q[:, None, None]
    if donor is DonorKind.CONDITIONED:
        log_w = log_w + (np.log(exact.donor_unprompted)[exact.task] - np.log(exact.donor_rate))[:, None, None]
    value = np.exp(log_w) * exact.rate
    for task in range(3):
        mine = value[..., exact.task == task]
        error = mine.mean(-1) - exact.unprompted[None, ..., task]
        assert (np.abs(error) < 5 * mine.std(-1) / np.sqrt(mine.shape[-1]) + 1e-9).all()


@given(seed=st.integers(0, 10**6), form=st.sampled_from(courses.FORMS), n=st.integers(1, 12))
@settings(max_examples=40, deadline=None)
def test_courses_are_finite_and_task_effects_average_to_one(seed: int, form: str, n: int) -> None:
    rng = np.random.default_rng(seed)
    curve = courses.course(rng, np.linspace(0, 1, n), form)
    assert curve.shape == (n,)
    assert ((curve >= -1e-9) & (curve <= 1 + 1e-9)).all()
    assert np.exp(courses.task_logits(rng, "heavy", n)).mean() == pytest.approx(1.0)


@given(seed=st.integers(0, 10**6), kind=st.sampled_from(["any", "few checkpoints", "many checkpoints", "few tasks"]))
@settings(max_examples=30, deadline=None)
def test_sweeps_are_within_what_the_prior_promises(seed: int, kind: str) -> None:
    sweep = draw_sweep(np.random.default_rng(seed), kind)
    assert 1 <= len(sweep.steps) <= 40
    assert all(1 <= n <= 200 for n in sweep.tasks)
    assert 1 <= sweep.prefixes * sweep.attempts <= 64
    assert list(sweep.steps) == sorted(set(sweep.steps))
    assert list(sweep.levels) == sorted(set(sweep.levels))


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_world_is_the_same_for_the_same_seed_and_its_evidence_is_whole(family: str) -> None:
    draw, _ = FAMILIES[family]
    for seed in range(2):
        world, again = draw(np.random.default_rng(seed), "any"), draw(np.random.default_rng(seed), "any")
        assert np.array_equal(world.truth, again.truth)
        evidence = world.evidence
        assert np.array_equal(evidence.rows.log_w, again.evidence.rows.log_w)
        assert np.isfinite(evidence.rows.log_w).all()
        assert ((world.truth > 0) & (world.truth < 1)).all()
        assert evidence.direct_rows is not None
        n, k = evidence.direct()
        size = n.shape[1]
        cell = evidence.direct_rows.surface * size + evidence.direct_rows.checkpoint
        assert np.array_equal(np.bincount(cell, evidence.direct_rows.n, n.size).reshape(n.shape), n)
        assert np.array_equal(np.bincount(cell, evidence.direct_rows.k, n.size).reshape(n.shape), k)


def test_the_first_words_weights_average_to_one_where_the_donor_is_not_conditioned() -> None:
    means = []
    for seed in range(12):
        world = paths.draw_world(np.random.default_rng(seed), "steady mixture")
        if world.evidence.donor is not DonorKind.UNCONDITIONED:
            continue
        rows = world.evidence.rows
        means.append(np.exp(rows.log_w[rows.level == rows.level.min()]).mean())
    assert np.median(means) == pytest.approx(1.0, abs=0.15)
