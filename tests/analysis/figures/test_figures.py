"""Style helpers and intervals: exact where they claim to be, legible where they are drawn."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from PIL import Image
from scipy.stats import binom

from foreshock.analysis.figures import house_style, new_figure, save_figure
from foreshock.analysis.figures.rates import rate_surface_figure, wilson
from foreshock.analysis.figures.runs import clopper_pearson
from foreshock.analysis.figures.save import inline_svg
from foreshock.analysis.figures.style import _apart, checkpoint_axis, ordered_colours


@given(n=st.integers(1, 400), share=st.floats(0, 1))
def test_exact_interval_solves_its_defining_equations(n: int, share: float) -> None:
    k = round(share * n)
    lower, upper = (float(bound[0]) for bound in clopper_pearson(np.array([k]), np.array([n])))
    if k > 0:
        assert binom.sf(k - 1, n, lower) == pytest.approx(0.025, rel=1e-6)
    else:
        assert lower == 0.0
    if k < n:
        assert binom.cdf(k, n, upper) == pytest.approx(0.025, rel=1e-6)
    else:
        assert upper == 1.0


@given(n=st.integers(1, 400), share=st.floats(0, 1))
def test_wilson_interval_holds_the_observed_rate(n: int, share: float) -> None:
    k = round(share * n)
    lower, upper = wilson(np.array([k]), np.array([n]))
    assert 0 <= lower[0] <= k / n + 1e-12
    assert k / n - 1e-12 <= upper[0] <= 1


@given(
    heights=st.lists(st.floats(0, 100), min_size=1, max_size=8),
)
def test_labels_are_moved_apart_and_stay_inside(heights: list[float]) -> None:
    placed = _apart(sorted(heights), 10.0, 0.0, 100.0)
    assert all(b - a >= 10.0 - 1e-9 for a, b in pairwise(placed))
    assert max(placed) <= 100.0 + 1e-9
    assert min(placed) >= -1e-9


def test_drawing_leaves_matplotlibs_settings_alone() -> None:
    before = dict(mpl.rcParams)
    with house_style():
        assert mpl.rcParams["axes.spines.top"] is False
    assert dict(mpl.rcParams) == before


def test_later_checkpoints_are_darker() -> None:
    lightness = [0.3 * r + 0.6 * g + 0.1 * b for r, g, b, _ in ordered_colours(9)]
    assert lightness == sorted(lightness, reverse=True)
    assert min(a - b for a, b in pairwise(lightness)) > 0.02


@pytest.mark.parametrize(
    ("steps", "scale", "last"),
    [
        ([1, 10, 90], "log", "90"),
        ([50, 60, 90], "linear", "90"),
        ([0, 10, 90], "log", "90"),
        ([0, 10, 20], "linear", "20"),
        ([5, np.inf], "linear", "final"),
        ([7], "linear", "7"),
        ([np.inf], "linear", "final"),
    ],
)
def test_checkpoint_axis_fits_the_steps(steps: list[float], scale: str, last: str) -> None:
    with house_style():
        figure, axis = new_figure()
        positions = checkpoint_axis(axis, steps)
        assert axis.get_xscale() == scale
        assert axis.get_xticklabels()[-1].get_text() == last
        assert positions == sorted(positions)
        assert np.isfinite(positions).all()
        mpl.pyplot.close(figure)


def test_saved_figures_carry_title_and_caption_and_the_report_copy_does_not(tmp_path: Path) -> None:
    with house_style():
        figure, axis = new_figure()
        axis.plot([0, 1], [0.01, 1])
        axis.set_yscale("log")
        axis.set_ylabel(r"$\frac$ cost $5_$")
        saved = save_figure(figure, pd.DataFrame({"x": [0, 1]}), tmp_path, "line", "A title", "A caption. " * 20)
    assert saved.pdf.read_bytes().startswith(b"%PDF")
    with Image.open(saved.png) as whole:
        assert whole.height > 3.7 * 180 + 60
    drawn = saved.svg.read_text()
    assert "A title" not in drawn
    assert "A caption" not in drawn
    assert "<text" in drawn
    assert r">$\frac$ cost $5_$<" in drawn  # names from files are no mathematics,
    assert r">$\mathdefault" not in drawn  # but powers of ten are
    assert saved.csv.read_text() == "x\n0\n1\n"


def test_the_same_data_give_the_same_bytes(tmp_path: Path) -> None:
    cells = pd.DataFrame({"exploit_type": ["a"], "checkpoint": [1], "prefill_level": [0], "n": [9], "k": [2]})
    first, second = (rate_surface_figure(cells, tmp_path / name, "toy") for name in ("one", "two"))
    assert first.svg.read_bytes() == second.svg.read_bytes()
    assert first.png.read_bytes() == second.png.read_bytes()
    assert first.pdf.read_bytes() == second.pdf.read_bytes()


def test_a_figure_is_laid_out_once_for_both_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    laid_out: list[object] = []
    execute = ConstrainedLayoutEngine.execute

    def counted(engine: ConstrainedLayoutEngine, figure: Figure) -> object:
        laid_out.append(figure)
        return execute(engine, figure)

    monkeypatch.setattr(ConstrainedLayoutEngine, "execute", counted)
    with house_style():
        figure, axis = new_figure()
        axis.plot([1, 2, 3])
        save_figure(figure, pd.DataFrame({"a": [1]}), tmp_path, "some", "A title", "A caption")
    assert laid_out == [figure]


def test_surface_numbers_are_the_counts(tmp_path: Path) -> None:
    cells = pd.DataFrame(
        {
            "exploit_type": ["a", "b", "a"],
            "checkpoint": [1, 1, 2],
            "prefill_level": [0, 0, 10],
            "n": [10, 30, 5],
            "k": [1, 3, 5],
            "n_tasks": [2, 3, 1],
        }
    )
    saved = rate_surface_figure(cells, tmp_path, "toy")
    data = pd.read_csv(saved.csv)
    assert data[["checkpoint", "prefill_level", "n", "k", "rate"]].values.tolist() == [
        [1, 0, 40, 4, 0.1],
        [2, 10, 5, 5, 1],
    ]
    page = inline_svg(saved.svg.read_text(), "f0", "a figure")
    assert "<image" not in page  # the colour bar turns with the cells
    assert 'style="fill: none"' in page  # the figure has the page's background
    assert set(re.findall(r"(?<!, )#[0-9a-f]{6}", page.rpartition("<style>")[0])) == set()
    assert set(re.findall(r"var\((--[\w-]+), #", page)) == set(re.findall(r"(--[\w-]+):#", page))
