"""Programs inside data: JSON, a tool call's arguments, a notebook, YAML, TOML, CSV, a literal of Python."""

from __future__ import annotations

import ast
import json
import re
import textwrap
from collections.abc import Iterator

from foreshock.jobs.answers.python_text import MOST_CHARS, parse

_MOST_TEXTS = 50
_BLOCK_SCALAR = re.compile(
    r"^([ \t]*)(?:- )?[\w\"'-]+:[ \t]*[|>][-+\d]*[ \t]*\n((?:(?:\1[ \t]+[^\n]*|[ \t]*)(?:\n|\Z))+)", re.M
)
_STRING = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*"', re.S)
_CELL = re.compile(r'(?:^|[,;\t])"((?:[^"]|"")*)"(?=[,;\t\r\n]|\Z)', re.M)
_WRITES = re.compile(r"\.write|\bfile\s*=")
_CALL = re.compile(r"<(?:tool_call|invoke\b|function[=_]|parameter[= ]|arg_key|\w+:tool_call)")
_CALL_NAME = re.compile(r"\"(?:name|tool|tool_name|action|function|recipient_name|command)\"\s*:")
_CALL_ARGUMENTS = re.compile(r"\"(?:arguments|parameters|args|kwargs|action_input|tool_input|input)\"\s*:")
_OPEN_STRING = re.compile(r':\s*"')


def is_call(data: str) -> bool:
    """Whether data reads as the call of a tool: it names one and its arguments."""
    named = _CALL_NAME.search(data) is not None and _CALL_ARGUMENTS.search(data) is not None
    return named or _CALL.search(data) is not None


def is_notebook(data: str) -> bool:
    """Whether a block of data looks like one of Jupyter's files."""
    return '"cells"' in data and '"cell_type"' in data


def quoted_texts(answer: str) -> Iterator[str]:
    """The texts in an answer that is data or holds it, outermost first."""
    if len(answer) > MOST_CHARS:
        return
    seen = 0
    for read in (_of_notebook, _of_literals, _of_json, _of_yaml, _of_csv):
        for text in read(answer):
            yield text
            seen += 1
            if seen >= _MOST_TEXTS:
                return


def written_texts(code: str) -> Iterator[str]:
    """The texts in a program that writes a file, each as it stands and without what indents all of it."""
    tree = parse(code) if _WRITES.search(code) else None
    if tree is None or not any(isinstance(node, ast.Call) and _writes(node) for node in ast.walk(tree)):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant | ast.List | ast.Tuple):
            for text in _constant_texts(node):
                yield text
                yield textwrap.dedent(text)


def _writes(call: ast.Call) -> bool:
    if isinstance(call.func, ast.Attribute):
        return call.func.attr in ("write", "writelines", "write_text", "write_bytes")
    return isinstance(call.func, ast.Name) and call.func.id == "print" and any(k.arg == "file" for k in call.keywords)


def _constant_texts(node: ast.Constant | ast.List | ast.Tuple) -> Iterator[str]:
    try:
        value = ast.literal_eval(node)
    except (ValueError, TypeError, MemoryError, RecursionError):
        return
    yield from _texts(value.decode(errors="replace") if isinstance(value, bytes) else value)


def _of_literals(answer: str) -> Iterator[str]:
    """Of Python that is nothing but literals, named or not, or calls of tools with them; TOML reads like that too."""
    tree = parse(answer.strip())
    if tree is None or not all(isinstance(node, ast.Expr | ast.Assign) for node in tree.body):
        return
    values = [node.value for node in tree.body]  # type: ignore[attr-defined]  # both kinds have one
    listed = [one for value in values for one in (value.elts if isinstance(value, ast.List) else [value])]
    calls = [one for one in listed if isinstance(one, ast.Call)]
    for value in [*values, *(one for call in calls for one in (*call.args, *(word.value for word in call.keywords)))]:
        try:
            literal = ast.literal_eval(value)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            continue
        yield from _texts(literal)


def _of_json(answer: str) -> Iterator[str]:
    for opening, closing in ("{}", "[]"):
        start, end = answer.find(opening), answer.rfind(closing)
        if 0 <= start < end:
            try:
                found = list(_texts(json.loads(answer[start : end + 1], strict=False)))
            except (ValueError, RecursionError):
                continue
            if found:  # brackets alone may be a list in the code
                yield from found
                return
    if "{" not in answer:
        return
    rest = answer
    behind = 0
    between = []
    for string in _strings(answer):
        between.append(answer[behind : string.start()])
        behind = string.end()
    if _OPEN_STRING.search("".join(between) + answer[behind:]):  # the last one was cut off
        rest = re.sub(r"\\\Z", "", answer) + '"'
    for string in _strings(rest):  # cut off, or with prose in between
        try:
            text = json.loads(string[0], strict=False)
        except (ValueError, RecursionError):
            continue
        if "\n" in text or "def " in text:
            yield text


def _strings(text: str) -> Iterator[re.Match[str]]:
    """JSON's strings. Where one never ends, none that begins behind it does: its quotation marks are all escaped."""
    at = 0
    while (start := text.find('"', at)) >= 0 and (found := _STRING.match(text, start)) is not None:
        yield found
        at = found.end()


def _of_notebook(answer: str) -> Iterator[str]:
    """A notebook as Markdown, its code cells in fences: blocks of one answer, of which some need others."""
    start, end = answer.find("{"), answer.rfind("}")
    if not (0 <= start < end and is_notebook(answer)):
        return
    try:
        cells = json.loads(answer[start : end + 1], strict=False)["cells"]
        parts = [(cell["cell_type"], "".join(cell["source"])) for cell in cells]
    except (ValueError, RecursionError, KeyError, TypeError):
        return
    yield "\n\n".join(f"```python\n{text}\n```" if kind == "code" else text for kind, text in parts)


def _of_yaml(answer: str) -> Iterator[str]:
    for match in _BLOCK_SCALAR.finditer(answer):
        yield textwrap.dedent(match[2])


def _of_csv(answer: str) -> Iterator[str]:
    """Of quoted cells of a table, where a quotation mark is written twice."""
    for match in _CELL.finditer(answer):
        if "def " in match[1] or "lambda" in match[1]:
            yield match[1].replace('""', '"')


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
        if value.lstrip().startswith("{"):  # arguments of a call, as text once more
            try:
                yield from _texts(json.loads(value, strict=False))
            except (ValueError, RecursionError):
                return
    elif isinstance(value, list | tuple) and value and all(isinstance(item, str) for item in value):
        yield "".join(value) if all(item.endswith("\n") for item in value[:-1]) else "\n".join(value)
        yield from value
    elif isinstance(value, dict | list | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)
