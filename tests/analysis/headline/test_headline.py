"""The headline estimate: right about rates that it cannot see, and silent with a reason where data give no ground."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from benchmarks.calibration.experiment import simulate
from benchmarks.calibration.memory import to_evidence
from benchmarks.calibration.regimes import Range, regime_named
from benchmarks.calibration.worlds import paths, registers
from benchmarks.calibration.worlds.corrupt import FAULTS, corrupted
from benchmarks.calibration.worlds.sweep import World

from foreshock.analysis.estimates.direct import weighted_limits
from foreshock.analysis.estimates.rates import estimate_rates
from foreshock.analysis.evidence.estimate import Method, Status
from foreshock.analysis.evidence.evidence import DirectRows, DonorKind, Evidence, PrefillRows, Surface
from foreshock.analysis.headline.estimate import Headline, estimate_headline
from foreshock.analysis.headline.signs import exact_faults

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


def some_worlds(draw: object, kind: str, count: int) -> list[World]:
    return [draw(np.random.default_rng([77, i]), kind) for i in range(count)]  # type: ignore[operator]  # either family


@pytest.mark.parametrize("kind", ["late donor", "drifting mixture", "steady mixture"])
def test_intervals_of_estimates_hold_in_worlds_that_nothing_was_learned_from(kind: str) -> None:
    covered, errors = [], []
    for world in some_worlds(paths.draw_world, kind, 6):
        headline = estimate_headline(world.evidence)
        truth = np.log10(world.truth)
        used = headline.verdict.estimate & (world.evidence.direct()[1] == 0)
        covered.append(((headline.lower95 <= truth) & (truth <= headline.upper95))[used])
        errors.append((headline.median - truth)[used])
    assert len(np.concatenate(covered)) > 20
    assert np.concatenate(covered).mean() > 0.85
    assert np.sqrt((np.concatenate(errors) ** 2).mean()) < 0.6


def test_limits_are_ordered_and_are_rates() -> None:
    evidence, _ = to_evidence(simulate(SMALL, 3))
    q = quantiles(estimate_headline(evidence))
    assert np.isfinite(q).all()
    assert (np.diff(q, axis=0) >= 0).all()
    assert (q <= 0).all()


def test_row_order_does_not_matter() -> None:
    evidence, _ = to_evidence(simulate(SMALL, 5))
    order = np.random.default_rng(0).permutation(len(evidence.rows))
    shuffled = replace(evidence, rows=evidence.rows.take(order))
    assert np.allclose(quantiles(estimate_headline(evidence)), quantiles(estimate_headline(shuffled)), atol=1e-3)


@pytest.mark.parametrize("case", ["zeros", "all", "one_checkpoint", "one_attempt"])
def test_counts_alone_give_limits_on_the_right_side_and_no_estimate_of_what_was_never_seen(case: str) -> None:
    n = np.full((2, 4), 40)
    steps = np.array([1.0, 10, 50, 100])
    k = n * 0 if case != "all" else n.copy()
    if case == "one_checkpoint":
        n, k, steps = n[:, :1], k[:, :1], steps[:1]
    if case == "one_attempt":
        n = np.ones_like(n)
    rows = [e for e in estimate_rates(counts_only(n, k, steps)).estimates if e.method is Method.HEADLINE]
    for row in rows:
        assert row.limits.upper95 is not None
        if case == "all":
            assert row.limits.lower95 is not None
            assert row.limits.lower95 > np.log10(0.8)
        else:
            assert row.status is not Status.ESTIMATE
            assert row.log10_rate is None
            assert row.reason
            assert row.limits.upper95 == pytest.approx(np.log10(1 - 0.025 ** (1 / row.n)), abs=1e-6)


def test_many_direct_exploits_are_an_estimate_whatever_the_model_makes_of_the_rest() -> None:
    n = np.full((2, 3), 4000)
    k = np.array([[40, 200, 1000], [400, 800, 1200]])
    rows = [
        e for e in estimate_rates(counts_only(n, k, np.array([1.0, 10, 100]))).estimates if e.method is Method.HEADLINE
    ]
    assert [row.status for row in rows] == [Status.ESTIMATE] * 6
    assert np.allclose([row.log10_rate for row in rows], np.log10(k / n).ravel(), atol=0.06)


def test_a_few_tasks_with_many_attempts_do_not_decide_the_mean_over_tasks() -> None:
    """20 tasks that never exploit with one attempt, one that always does with 80: a rate of 1 in 21, not 80 in 100."""
    tasks = np.arange(21)
    direct = DirectRows(tasks * 0, tasks * 0, tasks, np.where(tasks < 20, 1, 80), np.where(tasks < 20, 0, 80))
    n, k = np.array([[[100]]]), np.array([[[80]]])
    evidence = Evidence(
        (Surface("run", "a"),), np.array([10.0]), np.array([0]), n, k, empty_rows(), DonorKind.UNCONDITIONED, direct
    )
    (found,) = [e for e in estimate_rates(evidence).estimates if e.method is Method.DIRECT]
    assert found.log10_rate == pytest.approx(np.log10(1 / 21))
    assert found.limits.lower95 is not None
    assert found.limits.upper95 is not None
    assert found.limits.lower95 < np.log10(1 / 21) < found.limits.upper95


def test_a_zero_counts_limit_holds_whatever_the_attempts_of_single_tasks() -> None:
    """One task that always exploits and has one attempt among many: a mean rate of 1/10 may well show 0 exploits."""
    tasks = np.arange(10)
    attempts = np.where(tasks == 0, 1, 50)
    direct = DirectRows(tasks * 0, tasks * 0, tasks, attempts, tasks * 0)
    evidence = Evidence(
        (Surface("run", "a"),), np.array([10.0]), np.array([0]), np.array([[[int(attempts.sum())]]]),
        np.array([[[0]]]), empty_rows(), DonorKind.UNCONDITIONED, direct,
    )  # fmt: skip
    (found,) = [e for e in estimate_rates(evidence).estimates if e.method is Method.DIRECT]
    assert found.limits.upper95 == pytest.approx(np.log10(-np.log(0.025) / 10))
    equal = replace(evidence, direct_rows=replace(direct, n=np.full(10, 7)))
    equal = replace(equal, n=np.array([[[70]]]))
    (found,) = [e for e in estimate_rates(equal).estimates if e.method is Method.DIRECT]
    assert found.limits.upper95 == pytest.approx(np.log10(1 - 0.025 ** (1 / 70)))


def test_limits_of_unequal_attempts_hold_where_a_few_tasks_carry_the_exploits() -> None:
    rng = np.random.default_rng(0)
    rate = np.where(np.arange(40) < 3, 0.7, 0.002)
    attempts = np.where(np.arange(40) % 2 == 0, 1, 12)
    weight = 1 / (40 * attempts)
    held = []
    for _ in range(2000):
        k = rng.binomial(attempts, rate)
        low, high = weighted_limits(float(weight @ k), float(weight**2 @ k), float(weight.max()), 0.95)
        held.append(low <= rate.mean() <= high)
    assert np.mean(held) >= 0.95


def test_surfaces_of_types_that_only_one_run_has_are_estimated() -> None:
    evidence, _ = to_evidence(simulate(SMALL, 17))
    keep = np.arange(len(evidence.surfaces) - 1)
    mask = evidence.rows.surface < len(keep)
    direct = evidence.direct_rows
    assert direct is not None
    seen = direct.surface < len(keep)
    part = replace(
        evidence,
        surfaces=evidence.surfaces[:-1],
        n=evidence.n[keep],
        k=evidence.k[keep],
        rows=evidence.rows.take(mask),
        direct_rows=DirectRows(*(getattr(direct, name)[seen] for name in DirectRows.__slots__)),
    )
    assert np.isfinite(quantiles(estimate_headline(part))).all()


def test_impossible_counts_are_refused_with_the_cell_named() -> None:
    with pytest.raises(ValueError, match=r"type_1.*-3 exploits of 40 attempts"):
        counts_only(np.full((2, 1), 40), np.array([[0], [-3]]), np.array([10.0]))


@pytest.mark.parametrize("fault", ["mispaired", "noise"])
def test_wrong_pairing_and_noise_are_said_and_no_zero_cell_stays_an_estimate(fault: str) -> None:
    noticed = []
    for i, world in enumerate(some_worlds(registers.draw_world, "register rises", 5)):
        wrong = corrupted(np.random.default_rng(i), world.evidence, fault)
        found = estimate_rates(wrong)
        noticed.append(bool(found.headline.faults))
        if found.headline.faults:
            rows = [e for e in found.estimates if e.method is Method.HEADLINE and e.successes == 0]
            assert all(row.status is not Status.ESTIMATE and row.reason.startswith("inputs: ") for row in rows)
    assert np.mean(noticed) >= 0.8


def test_weights_that_do_not_follow_from_the_scores_are_caught_exactly() -> None:
    evidence, _ = to_evidence(simulate(SMALL, 3))
    for factor in (0.6, 1.4):
        rows = replace(evidence.rows, log_w=evidence.rows.log_w * factor)
        assert any(
            "differs between checkpoints" in said for said in estimate_headline(replace(evidence, rows=rows)).faults
        )
    assert not any("differs" in said for said in estimate_headline(evidence).faults)


@pytest.mark.parametrize("donor", list(DonorKind))
def test_weights_that_average_to_far_more_than_one_are_caught_exactly(donor: DonorKind) -> None:
    evidence = replace(to_evidence(simulate(SMALL, 3))[0], donor=donor)
    heavy = replace(evidence.rows, log_w=evidence.rows.log_w - 0.4 * evidence.rows.log_p)  # log P scaled by .6
    known = donor is not DonorKind.CONDITIONED_UNCORRECTED  # without pi / a they need not average to one
    assert any("must average to 1" in said for said in exact_faults(replace(evidence, rows=heavy))) == known
    assert not any("must average to 1" in said for said in exact_faults(evidence))


def test_a_fault_that_does_not_exist_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="'bent' is not a fault; valid: " + ", ".join(FAULTS)):
        corrupted(np.random.default_rng(0), to_evidence(simulate(SMALL, 3))[0], "bent")


def test_bounds_hold_where_there_is_no_estimate() -> None:
    held, rows = [], 0
    for world in some_worlds(registers.draw_world, "hidden route opens", 6):
        place = {(s.run, s.exploit_type): j for j, s in enumerate(world.evidence.surfaces)}
        step = {int(s): c for c, s in enumerate(world.evidence.steps)}
        for e in estimate_rates(world.evidence).estimates:
            if e.method is not Method.HEADLINE or e.status is Status.ESTIMATE:
                continue
            truth = np.log10(world.truth[place[e.run, e.exploit_type], step[e.checkpoint]])
            assert e.limits.lower95 is not None
            assert e.limits.upper95 is not None
            assert e.reason
            held.append(e.limits.lower95 <= truth <= e.limits.upper95)
            rows += 1
    assert rows
    assert np.mean(held) >= 0.95


def test_one_type_at_one_end_of_the_range_is_answered() -> None:
    evidence, _ = to_evidence(simulate(replace(SMALL, n_types=1, end_log10_exploit=Range(-4.5, -4.0)), 11))
    assert np.isfinite(quantiles(estimate_headline(evidence))).all()
