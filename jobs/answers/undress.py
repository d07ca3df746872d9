"""What stands in a block beside its program: prompts of a session, line numbers, a frame, markup, signs of a diff."""

from __future__ import annotations

import ast
import html
import io
import re
import tokenize
from collections.abc import Iterator
from itertools import pairwise

from foreshock.jobs.answers.endings import unindent
from foreshock.jobs.answers.noise import without_noise, without_sentences
from foreshock.jobs.answers.patches import added, merged
from foreshock.jobs.answers.python_text import is_program, parse

PROMPT = re.compile(r"[ \t]*(?:>{3,4}|In \[\d+\]:)[ ]?(.*)")
_CONTINUED = re.compile(r"[ \t]*(?:\.{3,4}:?)[ ]?(.*)")
_NUMBERED = re.compile(r"[ \t]*(?:\[|L|[Ll]ine )?(\d{1,5})\]?(?:[ \t]*[|:.)\u2502\u2192])?(.*)")
_FRAME = re.compile(r"[ \t]*[\u2502\u2503\u2551|](.*?)[\u2502\u2503\u2551|]?[ \t]*")
_FRAME_EDGE = re.compile(r"[ \t]*[\u2500-\u257f+=-]{3,}[ \t]*")
_MARKDOWN_ESCAPE = re.compile(r"\\([_*+\-#\[\](){}<>.!|`~=&^%$])")
_ENTITY = re.compile(r"&(?:lt|gt|amp|quot|apos|nbsp|#\d+|#x[\da-fA-F]+);")
_MARKUP = re.compile(r"</[a-z][\w:-]*>|<br ?/?>", re.I)
_INVISIBLE = re.compile(r"^[\ufeff\u200b-\u200f\u2060]+|[\ufeff\u200b\u200e\u200f\u2060]+$", re.M)
_SHELL_LINE = re.compile(
    r"^(?:(?:\([\w.-]+\)[ ])?[\w.-]+@[\w.-]+[^\n$#%]*[$#%][ ]|(?:PS )?[A-Za-z]:\\[^>\n]*>|[$%\u276f\u279c][ ])"
    r"[^\n]*\n?",
    re.M,
)
"""A prompt with its command: of a shell without or with the machine's name, of Windows."""
_CELL = re.compile(r"<jupyter_(\w+)>")
_READ_AS_AND = frozenset(("lt", "gt", "amp", "quot", "apos", "nbsp"))


def plain_lines(answer: str) -> str:
    """With one kind of line end, and without byte order marks and zero-width characters around lines.

    The space that some tokenizers leave in front of the first word goes too, where the second line does not share it.
    """
    answer = answer.replace("\r\n", "\n").replace("\r", "\n")
    answer = _without_first_space(answer)
    if "\n" not in answer:
        answer = re.sub("[\u0085\u2028\u2029]", "\n", answer)
    return _INVISIBLE.sub("", answer)


def _without_first_space(answer: str) -> str:
    start = len(answer) - len(answer.lstrip("\n"))
    if answer[start : start + 1] != " " or answer[start + 1 : start + 2].isspace():
        return answer
    behind = answer.find("\n", start)
    second = re.compile(r"[ \t]*(?=[^\s])").search(answer, behind) if behind >= 0 else None
    return answer if second is not None and len(second[0]) % 2 else answer[:start] + answer[start + 1 :]


def fenced_cells(answer: str) -> str:
    """With the cells of a notebook in StarCoder's tokens as fenced blocks, and without their output."""
    parts = _CELL.split(answer)  # the text before the first token, then kind and text in turns
    kept = [parts[0]]
    for kind, text in zip(parts[1::2], parts[2::2], strict=True):
        if kind in ("code", "script"):
            text = f"```python\n{text}\n```" if text.strip() else ""
        kept.append("" if kind in ("output", "error") else text)
    return "\n".join(kept)


def undressed(body: str, transcript: bool, sentences: bool = True) -> str:
    """A block's program, as far as that can be told; `body` itself where it is Python or nothing is recognised.

    sentences: whether lines that read as prose may go too.
    """
    if transcript or PROMPT.match(body.lstrip("\n")):
        body = transcript_code(body)
    body = re.sub(r"\A\s*(?:python3?|py)[ \t]*\n", "", body, flags=re.I)
    if parse(body) is not None:
        plain = unescaped(body) if holds_entities(body) else body
        return without_noise(plain if parse(plain) is not None else body)
    undone = body
    for reading in (*_READINGS, without_sentences) if sentences else _READINGS:
        plain, undone = reading(body), reading(undone)
        for text in (plain, undone):
            if text != body and parse(text) is not None:
                return without_noise(text)
    return body


def transcript_code(body: str) -> str:
    """The definitions of an interactive session: its input without prompts, calls and output left out."""
    entries: list[list[str]] = []
    for line in body.split("\n"):
        text = line.strip("\r")
        if match := PROMPT.match(text):
            entries.append([match[1]])
        elif (match := _CONTINUED.match(text)) and entries:
            entries[-1].append(match[1])
    if not entries:
        return body
    texts = ["\n".join(entry).rstrip() for entry in entries]
    kept = [text for text in texts if not _is_expression(text)]
    return "\n".join(kept or texts)


def _is_expression(text: str) -> bool:
    tree = parse(text)
    return tree is not None and all(isinstance(node, ast.Expr) for node in tree.body)


def _without_notebook_lines(code: str) -> str:
    return re.sub(r"^(?:%{1,2}|!)\w[^\n]*\n?", "", code, flags=re.M)


def _without_line_numbers(code: str) -> str:
    """Without numbers that count the lines up; all lines that hold something must have theirs."""
    found = [_NUMBERED.fullmatch(line) for line in code.split("\n") if line.strip()]
    numbers = [int(match[1]) for match in found if match]
    if len(numbers) < max(2, len(found)) or any(b <= a for a, b in pairwise(numbers)):
        return code
    return unindent([match[2] for match in found if match])


def numbered_programs(text: str) -> Iterator[str]:
    """What stands in runs of lines that are numbered one by one, anywhere in a text."""
    run: list[str] = []
    last = 0
    for line in [*text.split("\n"), ""]:
        match = _NUMBERED.fullmatch(line)
        if match and run and int(match[1]) == last + 1:
            run.append(line)
        else:
            if len(run) > 1:
                yield _without_line_numbers("\n".join(run))
            run = [line] if match else []
        last = int(match[1]) if match else 0


def _without_frame(code: str) -> str:
    """Without a frame of lines around the text."""
    lines = [line for line in code.split("\n") if line.strip() and not _FRAME_EDGE.fullmatch(line)]
    found = [match for line in lines if (match := _FRAME.fullmatch(line))]
    return code if not found or len(found) < len(lines) else unindent([match[1].rstrip() for match in found])


def _without_shell(code: str) -> str:
    """What a shell's commands printed, where that is a program."""
    printed = _SHELL_LINE.split(code)
    programs = [part for part in printed if is_program(part)] if len(printed) > 1 else []
    return "\n".join(programs or printed)


def _without_heading(code: str) -> str:
    """Without a first line of words and a colon."""
    return re.sub(r"\A\s*[A-Za-z][\w ]{1,30}:[ \t]*\n", "", code)


def unescaped(code: str) -> str:
    """Without HTML's and Markdown's escapes, neither of which Python has outside strings."""
    for _ in range(2):  # some are escaped twice
        code = html.unescape(code.replace("&nbsp;", " ")) if _ENTITY.search(code) else code
    return _MARKDOWN_ESCAPE.sub(r"\1", code)


def without_markup(answer: str) -> str:
    """Without what HTML and Markdown write for signs of Python: their escapes and spans."""
    if (_ENTITY.search(answer) and _MARKUP.search(answer)) or re.search(r"\b(?:def|class) \w+\\_", answer):
        answer = unescaped(answer)
    return re.sub(r"</?span\b[^<>]*>", "", answer)


def holds_entities(code: str) -> bool:
    """Whether valid Python holds `&lt;` and the like outside strings, where it reads as "and lt"."""
    if not _ENTITY.search(code):
        return False
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(code).readline))
    except (tokenize.TokenError, SyntaxError, IndentationError):
        return False
    return any(
        sign.string == "&" and word.string in _READ_AS_AND and end.string == ";" and sign.end == word.start
        for sign, word, end in zip(tokens, tokens[1:], tokens[2:], strict=False)
    )


_READINGS = (
    merged,
    added,
    _without_notebook_lines,
    _without_shell,
    _without_line_numbers,
    _without_frame,
    _without_heading,
    unescaped,
)
"""What makes Python of a block, each by itself and behind those before it."""
