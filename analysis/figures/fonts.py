"""The figures' font, cut down to the letters that figures use.

A PDF embeds the glyphs it draws, and cutting them out of a font of thousands of glyphs took longer than everything
else about a figure. So that cut is made once, into matplotlib's cache folder; letters that it lacks still come from
the whole font.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import tempfile
from collections.abc import Sequence
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import matplotlib as mpl
from fontTools import subset
from matplotlib import font_manager

_LETTERS = (
    range(0x20, 0x250),  # Latin with its extensions
    range(0x370, 0x400),  # Greek
    range(0x2010, 0x20A0),  # dashes, quotes, super- and subscripts
    range(0x2190, 0x2300),  # arrows, mathematical operators
    range(0x25A0, 0x2600),  # geometric shapes
)
_VERSION = 2


def font_settings(families: Sequence[str]) -> dict[Any, Any]:
    """matplotlib's settings for the first of `families` that this machine has, cut down where that is possible."""
    settings: dict[Any, Any] = {"font.family": "sans-serif", "font.sans-serif": list(families)}
    cut = _register_cut(tuple(families))
    if cut is not None:
        settings["font.family"] = [cut, "sans-serif"]  # the second for letters that the first lacks
        settings["mathtext.fontset"] = "custom"  # numbers on logarithmic axes
        settings |= {f"mathtext.{style}": cut for style in ("rm", "it", "cal", "sf", "tt")}
        settings["mathtext.bf"] = f"{cut}:bold"
    return settings


@cache
def _register_cut(families: tuple[str, ...]) -> str | None:
    """The name of the cut-down family, which matplotlib knows from now on; None if there is none."""
    try:
        for weight in ("normal", "bold"):
            whole = font_manager.findfont(font_manager.FontProperties(family=list(families), weight=weight))
            path = _cut(Path(whole))
            font_manager.fontManager.addfont(path)
        return font_manager.get_font(path).family_name
    except Exception as error:  # noqa: BLE001 - fonts fail in every way; with the whole font figures are only slower
        logging.getLogger(__name__).debug("the figures' font is used whole: %r", error)
        return None


def _cut(whole: Path) -> Path:
    """The cut-down copy of a font file, made unless it is there."""
    content = whole.read_bytes()
    name = hashlib.sha256(content + f"{_VERSION}".encode()).hexdigest()[:16]
    path = Path(mpl.get_cachedir()) / f"foreshock-{name}.ttf"
    if path.is_file():
        return path
    options = subset.Options(
        layout_features=[], legacy_kern=True, glyph_names=True, name_IDs=["*"], recalc_timestamp=False
    )
    options.drop_tables += ["GSUB", "GPOS", "GDEF", "FFTM"]  # matplotlib uses none of them
    font = subset.load_font(io.BytesIO(content), options)  # read lazily, so not from an open file
    cutter = subset.Subsetter(options)
    cutter.populate(unicodes=list(chain(*_LETTERS)))
    cutter.subset(font)
    for record in font["name"].names:
        if record.nameID in (1, 16):  # family, typographic family
            record.string = f"{record.toUnicode()} for figures"
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    os.close(descriptor)
    subset.save_font(font, temporary, options)
    Path(temporary).replace(path)
    return path
