"""What stands in a block beside its program: prompts of a session, line numbers, a diff's signs, markup, shell."""

from __future__ import annotations

import ast
import html
import json
import re
from collections.abc import Iterator
from itertools import pairwise

from foreshock.jobs.answers.python_text import MOST_CHARS, parse

_PROMPT = re.compile(r"[ \t]*(?:>>>|In \[\d+\]:)[ ]?(.*)")
_CONTINUED = re.compile(r"[ \t]*(?:\.\.\.:?)[ ]?(.*)")
_NUMBERED = re.compile(r"[ \t]*(\d{1,5})[ \t]*(?:[|:.)\u2502]|(?=[ \t]{2}|\t))[ ]?(.*)")
_DIFF_HEAD = re.compile(r"(?:diff |index |@@|--- |\+\+\+ |new file|deleted file|similarity |rename |\\ No newline)")
_HERE_DOCUMENT = re.compile(r"<<-?[ \t]*(['\"]?)(\w+)\1[^\n]*\n(.*?)\n[ \t]*\2[ \t]*(?:\n|\Z)", re.S)
_ENTITY = re.compile(r"&(?:lt|gt|amp|quot|apos|nbsp|#\d+|#x[\da-fA-F]+);")
_MOST_STRINGS = 50


def undressed(body: str, transcript: bool) -> str:
    """A block's program, as far as that can be told; `body` itself where it is Python or nothing is recognised."""
    if transcript or _PROMPT.match(body.lstrip("\n")):
        body = transcript_code(body)
    body = re.sub(r"\A\s*(?:python3?|py)[ \t]*\n", "", body, flags=re.I)
    if parse(body) is not None:
        return body
    for reading in (_without_notebook_lines, _without_line_numbers, _without_heading, unescaped):
        plain = reading(body)
        if plain != body and parse(plain) is not None:
            return plain
    return body


def transcript_code(body: str) -> str:
    """The definitions of an interactive session: its input without prompts, calls and output left out."""
    entries: list[list[str]] = []
    for line in body.split("\n"):
        text = line.strip("\r")
        if match := _PROMPT.match(text):
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
    """Without numbers that count the lines up by one; all lines that hold something must have theirs."""
    found = [_NUMBERED.fullmatch(line) for line in code.split("\n") if line.strip()]
    numbers = [int(match[1]) for match in found if match]
    if len(numbers) < max(2, len(found)) or any(b <= a for a, b in pairwise(numbers)):
        return code
    return "\n".join(match[2] for match in found if match)


def _without_heading(code: str) -> str:
    """Without a first line of words and a colon."""
    return re.sub(r"\A\s*[A-Za-z][\w ]{1,30}:[ \t]*\n", "", code)


def unescaped(code: str) -> str:
    """Without HTML's and Markdown's escapes, neither of which Python has outside strings."""
    code = html.unescape(code) if _ENTITY.search(code) else code
    return code.replace("\\_", "_")


def patched(body: str) -> str | None:
    """The new side of a diff, if that is a program of its own; None for a fragment."""
    lines = [line for line in body.split("\n") if not _DIFF_HEAD.match(line)]
    if not any(line.startswith("+") for line in lines):
        return None
    new = "\n".join(line[1:] for line in lines if not line.startswith("-"))
    return new if new.strip() and parse(new) is not None else None


def here_document(body: str) -> str | None:
    """The Python that a shell block writes into a file; None where it writes none."""
    found = [match[3] for match in _HERE_DOCUMENT.finditer(body) if parse(match[3]) is not None]
    return found[-1] if found else None


def quoted_texts(answer: str) -> Iterator[str]:
    """The texts in an answer that is a JSON object, as a tool call is, or one string literal."""
    if len(answer) > MOST_CHARS:
        return
    start, end = answer.find("{"), answer.rfind("}")
    tree = parse(answer.strip())
    if tree is not None and len(tree.body) == 1 and isinstance(tree.body[0], ast.Expr):
        value = tree.body[0].value
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            yield value.value
    if 0 <= start < end:
        try:
            yield from list(_texts(json.loads(answer[start : end + 1])))[:_MOST_STRINGS]
        except (ValueError, RecursionError):
            return


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
        if value.lstrip().startswith("{"):  # arguments of a call, as text once more
            try:
                yield from _texts(json.loads(value))
            except (ValueError, RecursionError):
                return
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)
