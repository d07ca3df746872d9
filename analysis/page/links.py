"""Links from a number to the samples that made it, and what models wrote as text that does nothing.

A link leads to `view/index.html` beside the page: a static export (`foreshock view RUN --export view`), or what
`foreshock view RUN` answers when it serves the page itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

from markupsafe import Markup, escape

VIEW = "view/index.html"
PROBE = "view/probe.svg"
"""A file of every export: where it loads, links to samples work."""
_STRANGE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]"
)


def sample_href(where: Mapping[str, str]) -> str:
    """The address of the samples that `where` (filters of `foreshock view`) picks."""
    return f"{VIEW}#{urlencode({name: str(value) for name, value in where.items()}, errors='replace')}"


def sample_link(where: Mapping[str, str], text: object) -> Markup:
    """`text` as a link to samples."""
    return Markup('<a data-samples="" href="{}">{}</a>').format(sample_href(where), text)


@dataclass(frozen=True, slots=True)
class SampleCell:
    """A number of a table that opens the samples behind it. No text, which pandas would make plain."""

    where: Mapping[str, str]
    text: str

    def __html__(self) -> str:
        return sample_link(self.where, self.text)


@dataclass(frozen=True, slots=True)
class TableCell:
    """A number that no sample alone made: it opens the table of this page that it is computed from, by its anchor."""

    table: str
    text: str

    def __html__(self) -> str:
        return Markup('<a href="#{}">{}</a>').format(self.table, self.text)


@dataclass(frozen=True, slots=True)
class LinksCell:
    """Links or other markup in one field of a table. No text, which pandas would make plain."""

    links: tuple[Markup, ...]

    def __html__(self) -> str:
        return Markup(", ").join(self.links)


def linked_words(text: str, where: Mapping[str, Mapping[str, str]]) -> Markup:
    """`text` in which each word (or words) of `where` opens its samples."""
    if not where:
        return escape(text)
    links = {str(escape(word)): sample_link(filters, word) for word, filters in where.items()}
    longest_first = "|".join(re.escape(word) for word in sorted(links, key=len, reverse=True))
    return Markup(re.sub(rf"(?<!\w)(?:{longest_first})(?!\w)", lambda found: links[found[0]], str(escape(text))))


def without_strange(page: str) -> str:
    """A finished page (or drawing) in which control and bidirectional characters of any origin stand as code points:
    names of runs, tasks and exploit types come from files, and could else reorder or hide what stands beside them."""
    return _STRANGE.sub(lambda found: f"U+{ord(found[0]):04X}", page)


def inert_text(text: str, most: int) -> Markup:
    """At most `most` characters, with control, bidirectional and half characters shown as code points."""
    shown = text[:most]
    parts = [Markup("")]
    place = 0
    for found in _STRANGE.finditer(shown):
        parts.append(escape(shown[place : found.start()]))
        parts.append(Markup('<span class="strange">U+{:04X}</span>').format(ord(found[0])))
        place = found.end()
    parts.append(escape(shown[place:]))
    if len(text) > most:
        parts.append(Markup('<span class="strange"> … {:,} more characters</span>').format(len(text) - most))
    return Markup("").join(parts)
