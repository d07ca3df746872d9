"""The cut-down font draws what the whole one draws, and what it lacks comes from the whole one."""

from __future__ import annotations

import io
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from fontTools import subset
from fontTools.ttLib import TTFont
from matplotlib import font_manager
from PIL import Image

from foreshock.analysis.figures import fonts
from foreshock.analysis.figures.style import house_style

WHOLE = {"font.family": "sans-serif", "font.sans-serif": ["DejaVu Sans"], "mathtext.fontset": "dejavusans"}
TEXT = "Rate ≥ 10⁻² at step 64 → “kick” of α words, Łódź · Ж"  # the last letter is not in the cut


def drawn(settings: dict[str, object]) -> np.ndarray:
    with house_style(), plt.rc_context(settings):
        figure, axis = plt.subplots()
        axis.set_title(TEXT)
        axis.set_yscale("log")
        axis.plot([1, 2], [1e-3, 1])
        stream = io.BytesIO()
        figure.savefig(stream, format="png")
        plt.close(figure)
    return np.asarray(Image.open(stream).convert("L"))


def test_the_picture_is_the_same() -> None:
    cut = fonts.font_settings(["DejaVu Sans"])
    assert cut["font.family"] == ["DejaVu Sans for figures", "sans-serif"]
    one, other = drawn(cut), drawn(dict(WHOLE))
    assert one.shape == other.shape
    assert (np.abs(one.astype(int) - other) > 64).mean() < 0.001  # letters may lie a fraction of a pixel apart


def test_the_copy_is_small_and_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fonts.mpl, "get_cachedir", lambda: str(tmp_path))
    whole = Path(font_manager.findfont("DejaVu Sans"))
    copy = fonts._cut(whole)
    with TTFont(copy) as small, TTFont(whole) as large:
        assert len(small.getGlyphOrder()) < len(large.getGlyphOrder()) / 3
    monkeypatch.setattr(subset, "load_font", lambda *_: pytest.fail("made again"))
    assert fonts._cut(whole) == copy
    assert list(tmp_path.iterdir()) == [copy]


def test_a_font_that_cannot_be_cut_is_used_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Path) -> Path:
        raise ValueError("not a font that anyone understands")

    monkeypatch.setattr(fonts, "_cut", fail)
    assert fonts.font_settings(["DejaVu Sans", "Arial"]) == {
        "font.family": "sans-serif",
        "font.sans-serif": ["DejaVu Sans", "Arial"],
    }
