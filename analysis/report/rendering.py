"""What the page's template draws with: figures as part of the page, tables to download, links to samples."""

from __future__ import annotations

import base64
import hashlib
import os
import shlex
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import jinja2
from markupsafe import Markup

from foreshock import __version__
from foreshock.analysis.figures import SavedFigure
from foreshock.analysis.figures.palette import RunLooks
from foreshock.analysis.figures.save import VALUES, inline_svg, natural_width, value_markup, with_values
from foreshock.analysis.page.links import inert_text, linked_words, sample_href, without_strange
from foreshock.analysis.page.sections import html_table

_HERE = Path(__file__).parent
_EMBED_BYTES = 1 << 20
_WIDE = 560.0
"""Points beyond which a figure is not set beside another."""


def whole_page(template: str, run_dirs: Sequence[Path], output: Path, looks: RunLooks, **values: object) -> str:
    """A page that will lie at `output`: with its style and its one script inside, and the command that serves the
    samples of `run_dirs` beside it."""
    script = (_HERE / "report.js").read_text()
    page = _environment(looks).get_template(template)
    text = page.render(
        style=Markup((_HERE / "style.css").read_text()),  # our own files
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        file=shlex.quote(output.name),
        view=_view_command(run_dirs, output),
        version=__version__,
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        **values,
    )
    return without_strange(text)


def _view_command(run_dirs: Sequence[Path], output: Path) -> str:
    """What serves these runs' samples to the page, in the page's folder: paths are relative, so that they hold where
    the whole was copied to and name nobody's home."""
    folder = output.resolve().parent
    paths = [os.path.relpath(path.resolve(), folder) for path in run_dirs]
    return shlex.join(["foreshock", "view", *(f"./{path}" if path.startswith("-") else path for path in paths)])


def _environment(looks: RunLooks) -> jinja2.Environment:
    """The template's environment: what it gets is escaped, and its filters draw figures, tables and links."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    numbers = count()
    environment.filters["svg"] = lambda figure: _svg(figure, f"f{next(numbers)}", looks)
    environment.filters["is_wide"] = _is_wide
    environment.filters["csv_link"] = _csv_link
    environment.filters["html_table"] = html_table
    environment.filters["sample_href"] = sample_href
    environment.filters["linked_words"] = linked_words
    environment.filters["inert"] = lambda text: inert_text(text, len(text))
    environment.filters["body"] = Markup
    return environment


def _is_wide(figure: SavedFigure) -> bool:
    """Whether a figure needs a row for itself."""
    return natural_width(figure.svg.read_text()) > _WIDE


def _svg(figure: SavedFigure, prefix: str, looks: RunLooks) -> Markup:
    """A figure's drawing as part of the page, its values linked to their samples or to the table of them."""
    drawn = figure.svg.read_text()
    bare = drawn[: drawn.index(VALUES)] + "</svg>" if VALUES in drawn else drawn
    marks = []
    for value in figure.values:
        where = dict(value.where)
        if where:
            where["run"] = looks.name(where["run"])
        link = sample_href(where) if where else f"#{value.table}" if value.table else None
        marks.append(value_markup(value, link))
    # matplotlib escapes the texts it draws, and what is laid on top is escaped here.
    return Markup(inline_svg(with_values(bare, marks), prefix, f"{figure.title}. {figure.caption}"))


def _csv_link(path: Path) -> Markup:
    """A download link that carries the file, or its path where the file is large."""
    size = path.stat().st_size
    if size > _EMBED_BYTES:
        return Markup("<span>{} ({:.0f} MB, beside the run)</span>").format(path.name, size / 1e6)
    data = base64.b64encode(path.read_bytes()).decode()
    return Markup('<a download="{}" href="data:text/csv;base64,{}">{}</a>').format(path.name, data, path.name)
