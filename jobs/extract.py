"""The code in a model's final answer.

Where a block ends is decided by Python's own parser. A line of backticks inside a string literal is not a closing
fence, so the first closing fence that leaves valid Python wins, and the first one of all when none does. Reasoning is
split off beforehand (`PromptFormat.parse`), so code drafted there is never taken.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

_OPEN = re.compile(r"^(?P<before>.*?)(?P<fence>`{3,}|~{3,})[ \t]*(?P<label>[^\s`]*)[^`]*$")
_CLOSE = re.compile(r"^[ \t]*(?P<fence>`{3,}|~{3,})[ \t]*$")
_PYTHON = re.compile(r"^\{?\.?(python|py)[\d.]*\}?$", re.I)
_MAX_CLOSINGS = 50  # parses tried per block


@dataclass(frozen=True, slots=True)
class _Block:
    code: str
    labelled: bool


def extract_code(answer: str | None, function_name: str | None = None) -> str | None:
    """The submission in `answer`, or None when there is no code (or no answer: reasoning never ended).

    The last block that defines `function_name` wins, so that a usage example after the solution is not taken;
    else the last block labelled Python, else the last one without a label. Without any fence the whole answer is
    taken if it is a Python program. Blocks in other languages are ignored.
    """
    if answer is None or not answer.strip():
        return None
    lines = answer.replace("\r\n", "\n").split("\n")
    blocks = [block for block in _blocks(lines) if block.code.strip()]
    if not blocks:
        bare = answer.strip("\n")
        return bare if not any(_opening(line) for line in lines) and _is_program(bare) else None
    if function_name is not None:
        defining = [block for block in blocks if _defines(block.code, function_name)]
        if defining:
            return defining[-1].code
    return ([block for block in blocks if block.labelled] or blocks)[-1].code


def _blocks(lines: list[str]) -> Iterator[_Block]:
    """Every Python or unlabelled block, in order."""
    at = 0
    while at < len(lines):
        match = _opening(lines[at])
        at += 1
        if match is None:
            continue
        end, code = _body(lines, at, match)
        label = match["label"]
        if not label or _PYTHON.match(label):
            yield _Block(code, bool(label))
        at = end


def _opening(line: str) -> re.Match[str] | None:
    """An opening fence: at the start of a line, or behind text if it carries a Python label."""
    match = _OPEN.match(line)
    if match is None or (match["before"].strip() and not _PYTHON.match(match["label"])):
        return None
    return match


def _body(lines: list[str], start: int, opening: re.Match[str]) -> tuple[int, str]:
    """(index after the block, its code). An unclosed block reaches to the end of the answer."""
    indent = len(opening["before"]) if not opening["before"].strip() else 0
    closings = []
    for i in range(start, len(lines)):
        close = _CLOSE.match(lines[i])
        if close and close["fence"].startswith(opening["fence"]):
            closings.append(i)
            if len(closings) == _MAX_CLOSINGS:
                break
    for i in closings:
        code = _unindent(lines[start:i], indent)
        if _parse(code) is not None:
            return i + 1, code
    if closings:
        return closings[0] + 1, _unindent(lines[start : closings[0]], indent)
    code = _unindent(lines[start:], indent)
    glued = code.rstrip()
    if glued.endswith(opening["fence"]):  # `return x```: the closing fence without its own line
        return len(lines), glued.removesuffix(opening["fence"])
    return len(lines), code


def _unindent(lines: list[str], indent: int) -> str:
    """Take the fence's indentation (a block in a list) off each line, as far as it is there."""
    pattern = re.compile(rf"^[ \t]{{0,{indent}}}") if indent else None
    return "\n".join(pattern.sub("", line) if pattern else line for line in lines)


def _parse(code: str) -> ast.Module | None:
    """The syntax tree, or None for anything that is not Python. Nothing is executed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd escapes in a submission are its own business
            return ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _is_program(text: str) -> bool:
    """Python that does something. Prose such as `None` or `yes` is a valid expression, but no submission."""
    tree = _parse(text)
    return tree is not None and any(
        not isinstance(node, ast.Expr) or isinstance(node.value, ast.Call) for node in tree.body
    )


def _defines(code: str, name: str) -> bool:
    """Whether the code binds `name` at its top level; by pattern when it is not valid Python."""
    tree = _parse(code)
    if tree is None:
        return re.search(rf"^\s*(?:async\s+)?def\s+{re.escape(name)}\s*\(", code, re.M) is not None
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node.name == name:
            return True
        targets = node.targets if isinstance(node, ast.Assign) else []
        if any(isinstance(t, ast.Name) and t.id == name for t in targets):
            return True
    return False
