"""One mapping of colours, order and markers for every figure, and colours that can be read."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_hex

from foreshock.analysis.figures.palette import OTHER, RUNS, RunLooks, contrast
from foreshock.analysis.figures.scheme import DARK_PAPER, in_the_dark
from foreshock.analysis.figures.style import INK, SEQUENTIAL, SOFT_INK, readable_on


@pytest.mark.parametrize("colour", [*RUNS, *OTHER, INK, SOFT_INK])
def test_colours_can_be_text_on_white_and_in_the_dark(colour: str) -> None:
    assert contrast(colour) >= 4.5
    assert contrast(in_the_dark(colour), DARK_PAPER) >= 4.5


def test_contrast_is_that_of_the_standard() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21.0)
    assert contrast("#777777") == pytest.approx(4.48, abs=0.01)


def test_numbers_in_a_heat_map_can_be_read_on_every_shade() -> None:
    for i in range(101):
        shade = to_hex(SEQUENTIAL(i / 100))
        assert contrast(readable_on(shade), shade) >= 4.5
        ink, cell = (in_the_dark(colour, "#000000") for colour in (readable_on(shade), shade))
        assert contrast(ink, cell) >= 4.4  # a colour has 256 steps of lightness


@given(st.integers(0, 0xFFFFFF))
def test_a_dark_page_keeps_a_colours_contrast(number: int) -> None:
    colour = f"#{number:06x}"
    wanted = min(contrast(colour), contrast("#ffffff", DARK_PAPER))
    assert contrast(in_the_dark(colour), DARK_PAPER) == pytest.approx(wanted, rel=0.04)


def test_colours_of_runs_mean_runs_alone() -> None:
    assert not set(RUNS) & set(OTHER)


def test_a_run_looks_the_same_by_label_and_by_name() -> None:
    looks = RunLooks.of([Path("/r/b-1"), Path("/r/a-1")], ("zeta", "alpha"))
    assert looks.colour("zeta") == looks.colour("b-1") == RUNS[0]
    assert looks.ordered(["alpha", "zeta"]) == ["zeta", "alpha"]
    assert looks.name("alpha") == "a-1"
    assert looks.label("a-1") == "alpha"
    assert looks.ordered(["stranger", "alpha"]) == ["alpha", "stranger"]
