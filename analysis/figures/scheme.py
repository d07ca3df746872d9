"""A figure in the colours of its page: light as drawn, dark where the reader's screen is.

A colour's dark form keeps its hue, and its contrast with the dark page is what it had with white. Heat maps are turned
against black instead, so that the black or white numbers in their cells change sides and lose nothing.
"""

from __future__ import annotations

import colorsys
import re
from functools import cache

from foreshock.analysis.figures.palette import luminance
from foreshock.analysis.figures.style import MISSING

DARK_PAPER = "#14181c"
"""`--paper` of the page's dark colours (style.css)."""
_DARK_MISSING = "#3b4148"
"""Cells that were not measured stand out from those at 0, which are nearly black there."""
_FLARE = 0.05
"""What WCAG 2.2 adds to a luminance before it takes the ratio of two."""
_BACKGROUND = re.compile(r'(<g id="patch_\d+">\s*<path d="[^"]*" style="fill: )#ffffff("/>)')
_CELLS = re.compile(r'<g id="QuadMesh_\d+">.*?</g>', re.DOTALL)
_TEXT = re.compile(r"<text .*?>", re.DOTALL)
_STYLE = re.compile(r'style="[^"]*"')
_COLOUR = re.compile(r"(?<=: )#[0-9a-f]{6}\b")
_BLACK_TEXT = re.compile(r'(<text style="(?:(?!fill:)[^"])*)(")')


def follow_the_page(svg: str) -> str:
    """A drawing of ours whose colours are CSS variables, with a style element that sets them on dark screens."""
    dark: dict[str, str] = {}

    def named(paper: str, kind: str, text: str) -> str:
        def variable(found: re.Match[str]) -> str:
            dark[f"--{kind}-{found[0][1:]}"] = _DARK_MISSING if found[0] == MISSING else in_the_dark(found[0], paper)
            return f"var(--{kind}-{found[0][1:]}, {found[0]})"

        return _STYLE.sub(lambda style: _COLOUR.sub(variable, style[0]), text)

    def text(found: re.Match[str]) -> str:
        # Numbers in cells are pure black or white, and no other text is.
        in_cell = "fill: #ffffff" in found[0] or "fill: #000000" in found[0]
        return named("#000000", "cell", found[0]) if in_cell else named(DARK_PAPER, "ink", found[0])

    drawn = _BACKGROUND.sub(r"\1none\2", svg)
    drawn = _BLACK_TEXT.sub(r"\1; fill: #000000\2", drawn)  # black is SVG's own default, which matplotlib leaves out
    drawn = _CELLS.sub(lambda found: named("#000000", "cell", found[0]), drawn)
    drawn = _TEXT.sub(text, drawn)
    drawn = named(DARK_PAPER, "ink", drawn)
    if not dark:
        return drawn
    values = ";".join(f"{name}:{colour}" for name, colour in sorted(dark.items()))
    style = f"<style>@media screen and (prefers-color-scheme:dark){{:root{{{values}}}}}</style>"
    end = drawn.rindex("</svg>")
    return f"{drawn[:end]}{style}{drawn[end:]}"


@cache
def in_the_dark(colour: str, paper: str = DARK_PAPER) -> str:
    """The colour of the same hue that has the contrast with `paper` that `colour` has with white; hex colours."""
    if colour == "#ffffff":
        return paper
    wanted = 1.05 * (luminance(paper) + _FLARE) / (luminance(colour) + _FLARE) - _FLARE
    hue, _, saturation = colorsys.rgb_to_hls(*(int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)))
    low, high = 0.0, 1.0
    for _ in range(24):
        middle = (low + high) / 2
        low, high = (middle, high) if luminance(_hex(hue, middle, saturation)) < wanted else (low, middle)
    return _hex(hue, high, saturation)


def _hex(hue: float, lightness: float, saturation: float) -> str:
    channels = colorsys.hls_to_rgb(hue, lightness, saturation)
    return "#" + "".join(f"{round(255 * channel):02x}" for channel in channels)
