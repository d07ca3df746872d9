"""Code that stands in prose without a fence: between sentences, in tags, in a formula's box, in an inline span."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from foreshock.jobs.answers.endings import END_MARK_AND_SPACE, looks_like_prose, trimmed
from foreshock.jobs.answers.fences import Label, Piece, underlines
from foreshock.jobs.answers.noise import CODE_START, without_headings, without_noise
from foreshock.jobs.answers.python_text import MOST_CHARS, is_program, mentions_definition, parse

_MOST_PARSES = 400
_MOST_PARSED = 2_000_000
_LINE = 20
"""Parses, and characters of them, over the whole answer; what looking at a line counts as."""

_FENCE_LINE = re.compile(r"^[ \t]*(?:`{3,}|~{3,}).*$")
_BEGIN_MARK = re.compile(
    r"\[(?:PYTHON|CODE|ANSWER|SOLUTION|BEGIN)\]|\\begin\{\w+\*?\}(?:\[[^\]]*\]|\{[^}]*\})?|<code[^>]*>|<pre[^>]*>|<!\[CDATA\["
    r"|^(?:#\+BEGIN_SRC[^\n]*|\{(?:code|noformat)[^}\n]*\}|\{%[ \t]*highlight[^\n]*%\})[ \t]*$",
    re.I | re.M,
)
_SPAN = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", re.S)
_SPAN_LINE = re.compile(r"[ \t]*(?:(?:[-*+]|\d+[.)])[ \t]+)?`([^`]+)`")
_MARKS = (
    *("\u201c\u201d", "\u201e\u201c", "\u2018\u2019", "\u201a\u2018", "\u00ab\u00bb", "\u00bb\u00ab"),
    *("\u2039\u203a", "\u203a\u2039", "\u300c\u300d", "\u300e\u300f", '""'),
)
_QUOTED = [
    re.compile(rf"({opening})(?=(?:def|class|async)\b|\w+[ ]?=)([^\n]{{1,300}}?){closing}")
    for opening, closing in (*((pair[0], pair[1]) for pair in _MARKS), ("(?<!\\w)'", "'"), ("``", "''"))
]
"""Quotation marks of every kind around code in a sentence."""
_VERB = re.compile(r"\\(?:verb|lstinline(?:\[[^\]]*\])?)\*?([|!+/@])(.+?)\1")
_MOST_BOXES = 5
_BOX = "\\boxed{"
_LEAD = re.compile(
    r"^[ \t]*(?:[-*•][ \t]+|[a-z][\w ]{0,40}:[ \t]+(?=(?:async )?def \w|class \w|import \w|from \w)"
    r"|(?:\*\*)?(?:final|the|my|here|code|answer|solution|python|output)\b[\w ']*"
    r"(?:\*\*)?:(?:\*\*)?[ \t]+)(?=def |class |async |import |from |\w+ ?= ?lambda)",
    re.I,
)
_GLUED_TAG = re.compile(r"<\w[^<>\n]*>(?=(?:def|class|async|import|from)\b|@\w)|</\w+>[ \t]*$", re.M)


def bare_pieces(answer: str, marked: bool = True) -> list[Piece]:
    """Every stretch of Python in text without fences, in order.

    marked: tags and fence lines end a stretch; False where one may stand in a string.
    """
    if len(answer) > MOST_CHARS:
        return []
    text = answer if not marked else END_MARK_AND_SPACE.sub("\n", _GLUED_TAG.sub("\n", _BEGIN_MARK.sub("\n", answer)))
    lines = [_LEAD.sub("", line) for line in text.split("\n")]
    stretches: list[list[str]] = [[]]
    for at, line in enumerate(lines):
        if marked and _FENCE_LINE.match(line) and not underlines(lines, at):
            stretches.append([])
        else:
            stretches[-1].append(line)
    budget = _Budget()
    return [piece for stretch in stretches for piece in _stretch_pieces(stretch, budget)]


@dataclass(slots=True)
class _Budget:
    """What may still be parsed of an answer."""

    parses: int = _MOST_PARSES
    characters: int = _MOST_PARSED

    def allows(self, code: str) -> bool:
        """Whether one more parse is left, of this text."""
        self.parses -= 1
        self.characters -= len(code)
        return not self.spent

    @property
    def spent(self) -> bool:
        """Whether nothing is left."""
        return self.parses <= 0 or self.characters <= 0


def _stretch_pieces(lines: list[str], budget: _Budget) -> list[Piece]:
    pieces: list[Piece] = []
    at = 0
    while at < len(lines) and not budget.spent:
        indent = len(lines[at]) - len(lines[at].lstrip(" \t"))
        if not CODE_START.match(lines[at][indent:]):
            at += 1
            continue
        end = at
        budget.characters -= _LINE * (len(lines) - at)
        for chunk_end in reversed(_chunks(lines, at, indent)):  # the longest program
            if looks_like_prose(lines[chunk_end - 1]):
                continue
            code = _dedented(lines[at:chunk_end], indent)
            if not budget.allows(code):
                break
            if is_program(code):
                end = chunk_end
                break
        if end > at:
            code = without_headings(without_noise(trimmed(_dedented(lines[at:end], indent))))
            pieces.append(Piece(code, Label.NONE, True))
            at = end
            continue
        until = next((i for i in range(at + 1, len(lines)) if looks_like_prose(lines[i])), len(lines))
        code = trimmed(_dedented(lines[at:until], indent))
        if re.match(r"(?:async\s+)?def\s|class\s|@|import\s|from\s", code) and parse(code) is None:
            pieces.append(Piece(code, Label.NONE, until < len(lines)))
            at = until
        else:
            at += 1
    return pieces


def _chunks(lines: list[str], start: int, indent: int) -> list[int]:
    """Ends of the stretches from `start` to before each further line at the margin, and to the end."""
    ends: list[int] = []
    for number in range(start + 1, len(lines)):
        depth = len(lines[number]) - len(lines[number].lstrip(" \t"))
        if lines[number].strip() and depth <= indent:
            ends.append(number)
            if depth < indent:
                return ends[-_MOST_PARSES:]
    return [*ends[:_MOST_PARSES], len(lines)]


def _dedented(lines: list[str], indent: int) -> str:
    if not indent:
        return "\n".join(lines)
    pattern = re.compile(rf"^[ \t]{{0,{indent}}}")
    return "\n".join(pattern.sub("", line) for line in lines)


def boxed_pieces(answer: str) -> Iterator[Piece]:
    """Code in `\\boxed{...}`, whose closing brace is the last one that leaves valid Python."""
    starts = [match.start() for match in re.finditer(re.escape(_BOX), answer)]
    for at in starts[-_MOST_BOXES:]:
        inner = answer[at + len(_BOX) :]
        inner = re.sub(r"^\\(?:text|texttt|mathtt|verb)\{", "", inner)
        ends = [match.start() for match in re.finditer(r"\}", inner[:20_000])]
        for end in reversed(ends[-50:]):
            code = inner[:end].strip("\n")
            if is_program(code):
                yield Piece(code, Label.NONE, True)
                break


def span_pieces(answer: str, name: str) -> Iterator[Piece]:
    """Inline code spans, Markdown's or LaTeX's, that define `name`; one of three backticks may begin with a label."""
    quoted = [match for pattern in _QUOTED for match in pattern.finditer(answer)]
    for match in [*quoted, *_VERB.finditer(answer), *_SPAN.finditer(answer)]:
        code = match[2].strip()
        if len(match[1]) > 1:
            code = re.sub(r"^(?:python3?|py)[ \t\n]+", "", code, flags=re.I)
        if mentions_definition(code, name) and parse(code) is not None:
            yield Piece(code, Label.NONE, True)


def span_line_pieces(answer: str) -> Iterator[Piece]:
    """Programs of which every line is a span of its own, in a list or not."""
    run: list[str] = []
    for line in [*answer.split("\n"), ""]:
        if match := _SPAN_LINE.fullmatch(line):
            run.append(match[1])
            continue
        if len(run) > 1 and is_program("\n".join(run)):
            yield Piece("\n".join(run), Label.NONE, True)
        run = []
