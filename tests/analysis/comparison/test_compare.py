"""Comparisons hold their error rate, cover true differences, and say what they leave out."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from benchmarks.compare.__main__ import WORLDS, draw
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from foreshock.analysis.comparison.compare import Comparison, Side, compare, compare_counts
from foreshock.analysis.comparison.gate import Gate
from foreshock.analysis.comparison.page import side_label
from foreshock.analysis.comparison.paired import Interval, holm, interval_difference, paired_difference, sign_flip_p
from foreshock.batch.cli.app import app
from foreshock.errors import InputError

RATES = st.lists(st.sampled_from([0.0, 1 / 3, 2 / 3, 1.0]), min_size=1, max_size=40)


@given(RATES, st.randoms())
def test_exchanging_the_sides_turns_the_sign(a: list[float], random: object) -> None:
    first, second = np.array(a), np.array(a[::-1])
    there, back = paired_difference(first, second), paired_difference(second, first)
    assert there.difference == pytest.approx(-back.difference)
    assert there.lower == pytest.approx(-back.upper)
    assert there.p == pytest.approx(back.p, abs=0.02)
    assert there.lower <= there.difference * len(a) / (len(a) + 2) <= there.upper


def test_no_differing_task_is_no_certainty() -> None:
    found = paired_difference(np.zeros(30), np.zeros(30))
    assert (found.p, found.difference) == (1.0, 0.0)
    assert found.lower < -0.02
    assert found.upper > 0.02


def test_exact_and_drawn_p_values_agree() -> None:
    d = np.random.default_rng(3).normal(0.4, 1, 14)  # no ties, which the next line would break
    more = np.concatenate([d, [1e-9]])  # one difference more: drawn instead of counted
    assert sign_flip_p(more) == pytest.approx(sign_flip_p(d), abs=0.01)


@pytest.mark.parametrize(("n", "rate"), [(24, 0.01), (24, 0.3), (88, 0.05)])
def test_identical_sides_differ_in_at_most_five_percent(n: int, rate: float) -> None:
    rng = np.random.default_rng(7)
    rejected = 0
    for _ in range(400):
        tasks = rng.beta(0.5, 0.5 * (1 - rate) / rate, n)
        a, b = rng.binomial(3, tasks) / 3, rng.binomial(3, tasks) / 3
        rejected += sign_flip_p(b - a) < 0.05
    assert rejected / 400 <= 0.08  # 5% and three standard errors


def test_more_attempts_on_one_side_are_no_difference() -> None:
    """Min prefill falls with attempts, and a mean over 30 is not exchangeable with one of 1."""
    world = next(world for world in WORLDS if world.attempts == (1, 30))
    said = []
    for number in range(8):
        rates, prefills = compare_counts(*draw(world, np.random.default_rng([1, number])), [(0.0, 0.0), (1.0, 1.0)])
        assert all(one.thinned for one in (*rates, *prefills))
        said.append(Comparison(rates, prefills, (), 0, 0).differs)
    assert sum(said) <= 2  # before, all 8 differed; by chance 5%


@pytest.mark.parametrize(("low", "high"), [(0.0, 0.1), (0.02, 0.05), (0.3, 0.4)])
def test_intervals_cover_true_differences(low: float, high: float) -> None:
    rng = np.random.default_rng(11)
    covered = 0
    for _ in range(400):
        a, b = rng.binomial(1, low, 60).astype(float), rng.binomial(1, high, 60).astype(float)
        found = paired_difference(a, b)
        covered += found.lower <= high - low <= found.upper
    assert covered / 400 >= 0.92


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_only_raises_and_keeps_order(p: list[float]) -> None:
    adjusted = holm(p)
    assert all(b >= a for a, b in zip(p, adjusted, strict=True))
    assert all(adjusted[i] <= adjusted[j] for i in range(len(p)) for j in range(len(p)) if p[i] < p[j])


def test_limits_of_a_difference_are_wider_than_either() -> None:
    d = interval_difference(Interval(-3, -4, -2.5), Interval(-2, -2.4, -1))
    assert d.point == 1
    assert d.lower < 1 - 0.4
    assert d.upper > 1 + 1


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, factory: ModuleType) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("results")
    toy = replace(factory.ToyRun(), tasks_per_type=12)
    return factory.write_run(root / "exploit", toy), factory.write_run(root / "control", replace(toy, exploit=False))


def test_a_run_differs_from_its_control_and_not_from_itself(runs: tuple[Path, Path]) -> None:
    exploit, control = runs
    assert not compare(Side(exploit), Side(exploit)).differs
    found = compare(Side(control), Side(exploit))
    assert found.differs
    last = [rate for rate in found.rates if rate.exploit_type == "all types"][-1]
    assert last.found.lower > 0
    assert found.prefills[-1].n_fewer > found.prefills[-1].n_more


def test_two_checkpoints_of_one_run(runs: tuple[Path, Path]) -> None:
    found = compare(Side.parse(f"{runs[0]}@5"), Side.parse(f"{runs[0]}@80"))
    assert {(rate.checkpoint_a, rate.checkpoint_b) for rate in found.rates} == {("5", "80")}
    assert found.values()["rate.increase"] > 0


@pytest.mark.parametrize("place", ["@7", "@x"])
def test_a_checkpoint_that_is_not_there_is_said(runs: tuple[Path, Path], place: str) -> None:
    with pytest.raises(InputError, match=r"no checkpoint 7 here; there are 5, 10|no training step"):
        compare(Side.parse(f"{runs[0]}{place}"), Side(runs[1]))


def test_runs_with_nothing_to_compare_are_refused_and_never_alike(factory: ModuleType, tmp_path: Path) -> None:
    rows = {
        "a": (0, {}),
        "other_type": (0, {"exploit_type": "leak"}),
        "other_level": (10, {}),
        "no_verdict": (0, {"exploit_success": None, "insecure_pass": None}),
    }
    for name, (level, extra) in rows.items():
        path = tmp_path / name / "evals" / f"checkpoint-1_prefill{level}.jsonl"
        factory.write_rows(path, [factory.eval_row("t", 0, True) | extra])
    a = Side(tmp_path / "a")
    with pytest.raises(InputError, match="task 't' is of 'hardcoding' and of 'leak'"):
        compare(a, Side(tmp_path / "other_type"))
    for name in ("other_level", "no_verdict"):
        with pytest.raises(InputError, match=r"no attempts at one task|no usable row|share no"):
            compare(a, Side(tmp_path / name))


@pytest.mark.parametrize("text", ["rate.increase", "rate > 1", "rate.increase > x", "__import__ > 1"])
def test_gates_take_one_form_alone(text: str) -> None:
    with pytest.raises(InputError, match=r"names: p, rate\.a"):
        Gate.parse(text)


@pytest.mark.parametrize(("at", "shown"), [(None, "run"), (1234567.0, "run@1234567"), (math.inf, "run@final")])
def test_a_page_names_each_side_as_the_command_line_does(at: float | None, shown: str) -> None:
    assert side_label(Side(Path("run"), at)) == shown


def test_an_unknown_value_passes_no_gate() -> None:
    with pytest.raises(InputError, match="do not give that value"):
        Gate.parse("headline.increase > 1").fires({"p": 0.5})


def test_the_command_prints_gates_and_writes_a_page(runs: tuple[Path, Path], tmp_path: Path) -> None:
    exploit, control = map(str, runs)
    shown = CliRunner().invoke(app, ["compare", control, exploit, "--fail-if", "rate.increase.lower > 0"])
    assert shown.exit_code == 3
    assert "difference shown" in shown.output
    assert "fails: rate.increase.lower > 0" in shown.output
    html = tmp_path / "it's.html"
    same = CliRunner().invoke(
        app, ["compare", exploit, exploit, "--json", "--fail-if", "rate.increase > 0.02", "--html", str(html)]
    )
    page = html.read_text()
    assert 'id="tasks"' in page
    assert 'href="#tasks"' in page  # differences and p-values lead to the tasks,
    assert "&amp;level=0&amp;task=" in page  # these to their samples
    assert page.count(f"/{Path(exploit).name} --report ") == 1  # each run once
    assert same.exit_code == 0
    assert json.loads(same.output)["differs"] is False
