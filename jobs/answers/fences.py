"""Fenced blocks, as models write them.

Models close a block with whatever their training data closed it with: three backticks and `END`, an end-of-turn token,
`</answer>`, a full stop, or nothing. CommonMark's rules know none of that and would read on to the end, so where a
block ends is decided by Python's parser: the first closing fence that leaves valid Python wins, and the first of all
when none does. A line of backticks inside a string literal therefore closes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from foreshock.jobs.answers.endings import cut_tail, trimmed, unindent, without_end_word
from foreshock.jobs.answers.patches import patched
from foreshock.jobs.answers.python_text import defines, parse
from foreshock.jobs.answers.shell import here_documents, written_by_commands
from foreshock.jobs.answers.undress import undressed

MOST_BLOCKS = 200
"""Blocks read of one answer; a model that writes more repeats itself."""

_MOST_LINES = 300_000
"""Lines looked at, over all blocks: each may go on to the answer's end."""

MOST_CLOSINGS = 50
"""Parses tried per block: an answer of twenty thousand fences must cost no more than one."""

_MOST_ENDS = 50
"""Parses tried to find the last whole statement."""
MOST_SENTENCES = 8
"""Closings of a block in front of which a sentence is looked for."""

_QUOTE = re.compile(r"^(?:[ \t]{0,3}>[ \t]?+)+")
_OPEN = re.compile(r"(?P<fence>`{3,}|~{3,}|(?<![`\w])``(?=[ \t]*(?i:python|py)\d?[ \t]*$))(?P<info>[^\n]*)$")
_QUOTES_OPEN = re.compile(r"^[ \t]*(?P<fence>'''|\"\"\")(?P<info>(?i:python3?|py))[ \t]*$")
_CODE_START = re.compile(
    r"(?:async[ \t]+)?def[ \t]+\w+[ \t]*\(|class[ \t]+\w+[ \t]*[:(]|import[ \t]+[\w., ]+$"
    r"|from[ \t]+[\w.]+[ \t]+import\b|@\w"
    r"|\w+[ \t]+=[ \t]+\S|(?:return|print)\b[ \t]*[\w(\[{'\"]"
)
"""Code on the fence's own line, behind the label or instead of one."""
_REOPENS = re.compile(r"[ \t]*\{?\.?(?:python|py|ipython)[ \t-]*[\d.]*\}?(?::\S+|[ \t]+\w+=.*)?[ \t]*$", re.I)
_WRITTEN_HERE = re.compile(r"\s*(?:[$#%][ ])?(?:cat|tee)\b[^\n]*<<-?[ \t]*['\"]?\w")
"""A shell's command that Python can read: `cat << EOF > f.py`."""
_PYTHON = frozenset(
    {"python", "py", "ipython", "cpython", "pypy", "pycon", "python-repl", "pyrepl", "doctest", "sage", "pyodide"}
)
_REPL = frozenset({"pycon", "python-repl", "pyrepl", "doctest"})
_MARKDOWN = frozenset({"markdown", "md", "mdx", "rst", "quarto"})
_OTHER_WORDS = """
bash sh shell zsh fish console terminal powershell bat cmd shell-session json jsonc json5 jsonl yaml yml toml
ini xml html css scss javascript js jsx typescript ts tsx java kotlin scala groovy c h cpp c++ cc cxx hpp csharp
c# cs objective-c swift go golang rust rs ruby rb perl pl php lua r julia jl matlab octave haskell hs ocaml ml
fsharp f# elixir erlang clojure lisp scheme racket prolog sql sqlite mysql postgresql graphql diff patch
makefile make cmake dockerfile docker nginx csv tsv latex tex mermaid dot graphviz pseudocode pseudo algorithm
output out stdout stderr log traceback error result dart zig nim fortran cobol pascal vb vbnet asm assembly wasm
solidity verilog vhdl tcl awk sed vim viml regex http curl gherkin proto protobuf math ebnf bnf text/html
mathematica
"""
_OTHER = frozenset(_OTHER_WORDS.split())


class Label(Enum):
    """What a fence says its block holds."""

    PYTHON = "python"
    NONE = "none"
    MARKDOWN = "markdown"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Piece:
    """Code found in an answer. `closed` is False for a block that the answer's end cut off."""

    code: str
    label: Label
    closed: bool

    @property
    def foreign(self) -> bool:
        """Whether its label says that it is no Python."""
        return self.label in (Label.OTHER, Label.MARKDOWN)


def without_cut_end(piece: Piece, name: str) -> Piece:
    """A piece that the answer's end cut off, without the statement that was cut, where the function is whole."""
    if piece.closed or piece.foreign or parse(piece.code) is not None:
        return piece
    lines = piece.code.split("\n")
    ends = [number for number in range(1, len(lines)) if lines[number][:1].strip()]
    for end in reversed(ends[-_MOST_ENDS:]):
        kept = "\n".join(lines[:end]).rstrip()
        if parse(kept) is not None:
            return replace(piece, code=kept) if defines(kept, name) else piece
    return piece


def read_label(info: str) -> tuple[Label, str, bool]:
    """(what the block holds, code that follows the label on the same line, whether it is a transcript).

    Known forms: `python`, `Python3`, `python:file.py`, `{.python .numberLines}`, `py title="a.py"`, `file.py`.
    """
    text = info.strip().strip("\ufeff\u200b\u2060")
    if not text:
        return Label.NONE, "", False
    if _CODE_START.match(text):
        return Label.NONE, text, False
    glued = re.match(r"(?:python3?|py)(?=(?:def|class|import|from) )", text)
    if glued:
        return Label.PYTHON, text[glued.end() :], False
    bare = re.sub(r"^[{<(\[]+\s*(?:code-cell\s+)?\.?|[}>)\]]+$", "", text)
    word, rest = re.match(r"^([^\s:,;{}=|(]*)(.*)$", bare, re.S).groups()  # type: ignore[union-attr]  # matches any text
    if word.lower() in ("language", "lang", "code", "source", "file", "filename", "title") and rest[:1] in ("=", ":"):
        word, rest = re.match(r"^[=:\s\"']*([^\s\"',;}]*)(.*)$", rest, re.S).groups()  # type: ignore[union-attr]  # as above
    word = re.sub(r"^language-", "", word.lower().strip("\"'.*_"))
    name = re.sub(r"[-_]?[\d.]+$", "", word) or word
    behind = rest.strip()
    code = behind if rest[:1] in (" ", "\t") and _CODE_START.match(behind) else ""
    if name in _PYTHON or re.search(r"\.(py|pyi|ipynb)\b", text):
        return Label.PYTHON, code, name in _REPL
    if name in _MARKDOWN:
        return Label.MARKDOWN, "", False
    return (Label.OTHER if name in _OTHER or word in _OTHER else Label.NONE), "", False


def fenced_pieces(lines: Sequence[str], depth: int = 0) -> Iterator[tuple[int, int, Piece]]:
    """(first line, line behind the block, piece) of every fenced block, in order, nested Markdown opened."""
    at = blocks = looked_at = 0
    while at < len(lines) and blocks < MOST_BLOCKS and looked_at < _MOST_LINES:
        opening = _opening(lines[at])
        if opening is None or underlines(lines, at):
            at += 1
            continue
        blocks += 1
        looked_at += len(lines) - at
        end, body, closed = _body(lines, at, opening)
        if opening.label is Label.MARKDOWN or (opening.label is Label.NONE and len(opening.fence) > 3):
            inner = [piece for _, _, piece in fenced_pieces(body.split("\n"), depth + 1)] if depth < 3 else []
            if _cuts_a_block(inner) and closed and opening.quote is None:
                end, inner = _longer_frame(lines, at, opening, depth) or (end, inner)
            if inner:
                yield from ((at, end, piece) for piece in inner)
                at = max(end, at + 1)
                continue
        for code in _programs(body, opening):
            if code.strip():
                yield at, end, Piece(trimmed(without_end_word(code) if parse(code) else code), opening.label, closed)
        at = max(end, at + 1)


def _longer_frame(lines: Sequence[str], at: int, opening: _Opening, depth: int) -> tuple[int, list[Piece]] | None:
    """A frame of Markdown up to the first closing that cuts no block, for one that seemed to end inside a
    block; None if there is none. (line behind the frame, its pieces)."""
    rest = lines[at + 1 :]
    for closing in list(_closings(rest, opening.fence))[1:MOST_SENTENCES]:
        inner = [piece for _, _, piece in fenced_pieces(rest[: closing.line], depth + 1)]
        if not closing.column and inner and not _cuts_a_block(inner):
            return at + 2 + closing.line, inner
    return None


def _cuts_a_block(pieces: Sequence[Piece]) -> bool:
    return any(not piece.closed and parse(piece.code) is None for piece in pieces)


def _programs(body: str, opening: _Opening) -> list[str]:
    """What a block holds: one program, or the files of a patch or a shell's commands."""
    if opening.label is Label.OTHER or "*** Begin Patch" in body:
        found = patched(body) or here_documents(body)
        if found:
            return found
    if opening.label is Label.NONE and _WRITTEN_HERE.match(body):
        found = here_documents(body)
        if found:
            return found
    plain = undressed(body, opening.transcript)
    if opening.label is Label.OTHER and parse(plain) is None:
        return written_by_commands(body) or [plain]
    return [plain]


def underlines(lines: Sequence[str], at: int) -> bool:
    """Whether a line of tildes is the rule below a heading, as documentation strings have it."""
    line = lines[at].strip()
    above = lines[at - 1].strip() if at else ""
    return len(line) > 3 and not line.strip("~") and 0 < len(above) <= len(line) + 2 and above[-1] not in ":>`~"


@dataclass(frozen=True, slots=True)
class _Opening:
    fence: str
    label: Label
    code: str
    quote: re.Pattern[str] | None
    transcript: bool


def _opening(line: str) -> _Opening | None:
    """An opening fence: at the start of a line or list item, or behind text if it carries a Python label."""
    quoted = _QUOTE.match(line)
    text = line[quoted.end() :] if quoted else line
    match = _QUOTES_OPEN.match(text)
    if match is None:
        match = _OPEN.search(text)
        if match is None:
            return None
        before, info = text[: match.start()], match["info"]
        if "`" in info and match["fence"][0] == "`":
            return None  # an inline span
        label, code, transcript = read_label(info)
        marker = re.fullmatch(
            r"[ \t]*(?:(?:[-*+•]|\d+[.):]|[a-zA-Z][.)]|#+)[ \t]+)*(?:\*\*|<\w+>|\\boxed\{)*[ \t]*", before
        )
        if marker is None and label is not Label.PYTHON and not re.search(r":[*_ \t]*$", before):
            return None
    else:
        label, code, transcript = read_label(match["info"])
    quote = None if quoted is None else _same_quote(quoted[0])
    return _Opening(match["fence"], label, code, quote, transcript)


def _quoted_lines(rest: Sequence[str]) -> int:
    """How many lines a quotation goes on; blank ones between its lines belong to it."""
    count = 0
    for number, line in enumerate(rest):
        if _QUOTE.match(line):
            count = number + 1
        elif line.strip():
            break
    return count


def _same_quote(prefix: str) -> re.Pattern[str]:
    """What begins the further lines of a quotation that `prefix` begins: as many signs, as far as a line has them."""
    space = r"[ \t]?" if prefix.endswith((" ", "\t")) else ""
    return re.compile(rf"^(?:[ \t]{{0,3}}>{space}){{1,{prefix.count('>')}}}")


def _body(lines: Sequence[str], start: int, opening: _Opening) -> tuple[int, str, bool]:
    """(index of the line behind the block, its code, whether it was closed)."""
    rest = list(lines[start + 1 :])
    if opening.quote is not None:  # the quotation's end is the block's
        quoted = _quoted_lines(rest)
        rest = [opening.quote.sub("", line) for line in rest[: quoted or len(rest)]]
    head = [opening.code] if opening.code else []
    closings = list(_closings(rest, opening.fence))

    def until(closing: _Closing) -> str:
        glued = [rest[closing.line][: closing.column]] if closing.column else []
        return unindent([*head, *rest[: closing.line], *glued])

    def closed(closing: _Closing) -> tuple[int, str, bool]:
        return start + 1 + closing.line + (not closing.reopens), until(closing), True

    def first_that_parses(closings: Sequence[_Closing]) -> tuple[int, str, bool] | None:
        for closing in closings:
            if not closing.in_comment and until(closing).strip() and parse(until(closing)) is not None:
                return closed(closing)
        for closing in [] if other else closings[:MOST_SENTENCES]:  # prose in front of the fence
            cut = "" if closing.column else unindent(cut_tail([*head, *rest[: closing.line]]))
            if cut.strip() and parse(cut) is not None:
                return closed(closing)[0], cut, True
        return None

    other = opening.label is Label.OTHER and bool(closings)  # no Python, so nothing tells where prose begins
    found = first_that_parses(closings)
    if found is not None:
        return found
    many = other or len(closings) >= MOST_CLOSINGS
    whole = "" if many else unindent(cut_tail([*head, *rest]))
    if whole.strip() and parse(whole) is not None:
        return start + 1 + len(rest), whole, False
    closings = closings or list(_other_closings(rest, opening.fence))
    found = first_that_parses(closings)
    if found is not None:
        return found
    for closing in closings:  # no Python whatever is taken; a fence behind a quotation mark is in a string
        if not closing.in_comment and not re.search(r"['\"]", rest[closing.line][: closing.column]):
            return closed(closing)
    return start + 1 + len(rest), whole, False


@dataclass(frozen=True, slots=True)
class _Closing:
    """Where a block may end; `reopens` where the line opens the next block."""

    line: int
    column: int
    reopens: bool = False
    in_comment: bool = False


def _closings(rest: Sequence[str], fence: str) -> Iterator[_Closing]:
    """Fences that begin a line first, then those glued to code, each in order."""
    glued: list[_Closing] = []
    found = 0
    for number, line in enumerate(rest):
        column = line.find(fence)
        if column < 0 or len(glued) + found >= MOST_CLOSINGS:
            continue
        if not line[:column].strip().strip("*<>"):
            found += 1
            yield _Closing(number, 0, _reopens(line[column:].lstrip(fence[0])))
            continue
        while column >= 0 and len(glued) + found < MOST_CLOSINGS:
            glued.append(_Closing(number, column, in_comment="#" in line[:column]))
            column = line.find(fence, column + len(fence))
    yield from glued


def _reopens(info: str) -> bool:
    """Whether what stands behind a fence labels the next block: a label of Python, a file's name."""
    named = len(info.split()) == 1 and read_label(info)[:2] == (Label.PYTHON, "")
    return named or _REOPENS.match(info) is not None


def _other_closings(rest: Sequence[str], fence: str) -> Iterator[_Closing]:
    """Fences of another kind or length at the start of a line: what may close a block whose own never comes again."""
    for kind in ("```", "~~~"):
        if kind[0] != fence[0] or len(kind) < len(fence):
            yield from (closing for closing in _closings(rest, kind) if not closing.column)
