"""Words beside a program that stand inside its block, some of them valid Python: `Done`, `Complexity: O(1)`, a path."""

from __future__ import annotations

import ast
import builtins
import re

from foreshock.jobs.answers.endings import looks_like_prose
from foreshock.jobs.answers.python_text import parse, provided_names

CODE_START = re.compile(
    r"(?:async[ \t]+def[ \t]+\w|def[ \t]+\w+[ \t]*\(|class[ \t]+\w+[ \t]*[:(]"
    r"|import[ \t]+\w[\w., ]*(?:[;#].*)?$|from[ \t]+[\w.]+[ \t]+import\b|@\w[\w.]*[ \t]*(?:\(.*)?$"
    r"|type[ \t]+\w+[ \t]*(?:\[.*\])?[ \t]*="
    r"|\w+(?:[ \t]*:[ \t]*[\w.\[\], ]+|(?:,[ \t]*\w+)+)?[ \t]*=[ \t]*\S"
    r"|try:|with[ \t].*:$|if[ \t].*:$|#|[rRuU]?(?:\"\"\"|'''))"
)
"""A line with which a program may begin."""
_FIELD = re.compile(
    r"(?:file|filename|path|input|output|note|answer|time|space|complexity|explanation|result|example|ex|eg|ie|usage)\Z",
    re.I,
)
_ABBREVIATION = re.compile(r"(?:e\.g|i\.e)\.")
_FOREIGN_COMMENT = re.compile(r"(?://|/\*|<!--|--[ \t])")

_HEADINGS = re.compile(
    r"\A(?:\s*(?:#{2,6} +[^\n]*\n[ \t]*|#\+BEGIN_SRC[^\n]*)\n)+"
    r"|(?:\n[ \t]*(?:\n#{2,6} +[^\n]*|#\+END_SRC)\s*)+\Z",
    re.I,
)


def without_noise(code: str) -> str:
    """Without statements at either end that are words: they would raise NameError, and no reader takes them for code.

    `code` itself where it does not parse or holds nothing else.
    """
    tree = parse(code)
    if tree is None:
        return code
    body = tree.body
    known = provided_names(code) | frozenset(dir(builtins))
    start, end = 0, len(body)
    while end and _is_words(body[end - 1], known):
        end -= 1
    while start < end and _is_words(body[start], known):
        start += 1
    if start == end or (start == 0 and end == len(body)):
        return code
    first = 0 if start == 0 else body[start - 1].end_lineno or 0
    last = body[end].lineno - 1 if end < len(body) else None
    if (start and body[start].lineno <= first) or (last is not None and (body[end - 1].end_lineno or 0) > last):
        return code  # on one line with code
    kept = "\n".join(code.split("\n")[first:last]).strip("\n")
    return kept if parse(kept) is not None else code


def _is_words(node: ast.stmt, known: frozenset[str]) -> bool:
    if isinstance(node, ast.Expr):
        try:
            return _is_unknown(node.value, known)
        except RecursionError:
            return False  # no words nest that deep
    if not isinstance(node, ast.AnnAssign) or node.value is not None or not isinstance(node.target, ast.Name):
        return False
    name = node.target.id
    if not (name[0].isupper() or _FIELD.match(name)):
        return False
    read = {part.id for part in ast.walk(node.annotation) if isinstance(part, ast.Name)}
    plain = isinstance(node.annotation, ast.Name | ast.Attribute | ast.Subscript | ast.BinOp)
    return not plain or not read <= known


def _is_unknown(value: ast.expr, known: frozenset[str]) -> bool:
    """An expression of words none of which is known: `e.g. f({}) == {}`, `Thanks`, `Best, Bob`, `{code}`, `O(n)`."""
    if (root := _root(value)) is not None:
        return root not in known
    if isinstance(value, ast.Compare | ast.Call | ast.Subscript) and _ABBREVIATION.match(ast.unparse(value)):
        return not {"e", "i"} & known
    if isinstance(value, ast.Call):
        return isinstance(value.func, ast.Name) and value.func.id == "O" and "O" not in known
    parts: list[ast.expr] = []
    if isinstance(value, ast.Set | ast.List | ast.Tuple):
        parts = value.elts
    elif isinstance(value, ast.BoolOp):
        parts = value.values
    elif isinstance(value, ast.Compare):
        parts = [value.left, *value.comparators]
    elif isinstance(value, ast.BinOp):
        parts = [value.left, value.right]
    return bool(parts) and all(_is_unknown(one, known) for one in parts)


def _root(value: ast.expr) -> str | None:
    """The first name of a dotted name, behind dashes or not."""
    while isinstance(value, ast.Attribute | ast.UnaryOp):
        value = value.value if isinstance(value, ast.Attribute) else value.operand
    return value.id if isinstance(value, ast.Name) else None


def without_sentences(code: str) -> str:
    """Code that does not parse, without the sentences and foreign comments above it, or between its statements."""
    lines = code.split("\n")
    first = next((i for i, line in enumerate(lines) if CODE_START.match(line)), 0)
    if all(not line.strip() or parse(line.strip()) is None for line in lines[:first]):
        below = "\n".join(lines[first:])
        if parse(below) is not None:
            return below
    return "\n".join(line for line in lines if not looks_like_prose(line) and not _FOREIGN_COMMENT.match(line))


def without_headings(code: str) -> str:
    """Without headings of Markdown and marks of Org at either end, which Python takes for comments."""
    return _HEADINGS.sub("", code).strip("\n")
