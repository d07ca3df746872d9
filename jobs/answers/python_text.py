"""What Python's own parser says about a text: does it parse, what does it bind, what does it need.

Nothing is executed. Every function takes text that a model wrote, so each answers instead of raising.
"""

from __future__ import annotations

import ast
import builtins
import re
import symtable
import sys
import warnings
from functools import lru_cache

MOST_CHARS = 1_000_000
"""Longer texts count as not Python: no answer is that long, and the parser's time grows with the text."""

_ELIDED = re.compile(
    r"^[ \t]*#[ \t]*(?:existing code\b"
    r"|(?:\.\.\.|\u2026)[ \t]*\(?(?:existing|rest|same|remaining|previous|other|unchanged|original)\b"
    r"|\(?(?:the )?(?:rest|remainder) of (?:the |this )?(?:code|function|implementation|class|body|file|program)\b"
    r"|same as (?:before|above)\b|\(?unchanged\)?[ \t]*$)",
    re.I | re.M,
)
"""A comment that stands for code that the reader knows."""
_TEMPLATE = re.compile(
    r"#[ \t]*(?:to-?do\b"
    r"|(?:write |add |put |insert )?your (?:code|solution|implementation)\b|implement\b|fill in\b)",
    re.I,
)
"""A comment that asks for the body of a function."""
_FAILURES = (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError)
_MOCKS = ("Mock", "MagicMock", "AsyncMock")
_BUILTINS = frozenset(dir(builtins))


@lru_cache(maxsize=1024)
def parse(code: str) -> ast.Module | None:
    """The syntax tree, or None for anything that is not Python."""
    if len(code) > MOST_CHARS:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd escapes in a submission are its own business
            return ast.parse(code)
    except _FAILURES:
        return None


def compiles(code: str) -> bool:
    """Whether Python would run the text at all; stricter than `parse` (a `return` outside a function, say)."""
    if len(code) > MOST_CHARS:
        return False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compile(code, "submission.py", "exec", dont_inherit=True)
    except _FAILURES:
        return False
    return True


def is_program(code: str) -> bool:
    """Python that does something. Prose such as `None` or `yes` is a valid expression, but no submission."""
    tree = parse(code)
    return tree is not None and any(_acts(node) for node in tree.body)


def _acts(node: ast.stmt) -> bool:
    if isinstance(node, ast.AnnAssign):
        return node.value is not None  # "Answer: 42" is an annotation
    if isinstance(node, ast.Pass | ast.Break | ast.Continue | ast.Return):
        return False  # words of English too
    return not isinstance(node, ast.Expr) or isinstance(node.value, ast.Call | ast.Await | ast.NamedExpr)


def defines(code: str, name: str) -> bool:
    """Whether the module binds `name` itself, under `if`, `try` or `with` too; an import of it does not count.

    By pattern where the text is not valid Python.
    """
    if parse(code) is None:
        return mentions_definition(code, name)
    return (name in bound_names(code) and not _is_only_a_value(code, name)) or sets_global(code, name)


def _is_only_a_value(code: str, name: str) -> bool:
    """Whether the module's only binding of `name` is to a literal, its own result or a mock: an example or a test."""
    tree = parse(code)
    values = [
        node.value
        for node in (tree.body if tree is not None else ())
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in node.targets)
    ]
    if len(values) != 1 or re.search(rf"(?:def|class) {re.escape(name)}\b", code):
        return False
    value = values[0]
    literals = (ast.Constant, ast.List, ast.Tuple, ast.Dict, ast.Set, ast.UnaryOp)
    called = value.func if isinstance(value, ast.Call) else None
    return isinstance(value, literals) or (isinstance(called, ast.Name) and called.id in (name, *_MOCKS))


def sets_global(code: str, name: str) -> bool:
    """Whether a statement at the margin binds `name` without naming it as Python's grammar would."""
    word = re.escape(name)
    return (
        re.search(
            rf"^(?:(?:globals|locals|vars)\(\)(?:\[(['\"]){word}\1\]\s*=[^=]|\.update\(.*\b{word}\b)"
            rf"|setattr\([^,\n]+,\s*(['\"]){word}\2\s*,|exec\(.*\b{word}\b|(?:__)?builtins(?:__)?\.{word}\s*=[^=])",
            code,
            re.M,
        )
        is not None
    )


@lru_cache(maxsize=1024)
def imports_as(code: str, name: str) -> bool:
    """Whether the module takes `name` from the standard library, the only one that a submission can import."""
    tree = parse(code)
    return any(
        (alias.asname or alias.name) == name
        for node in (tree.body if tree is not None else ())
        if isinstance(node, ast.Import)
        or (isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in sys.stdlib_module_names)
        for alias in node.names
        if isinstance(node, ast.ImportFrom) or alias.name.split(".")[0] in sys.stdlib_module_names
    )


def mentions_definition(code: str, name: str) -> bool:
    """Whether a line reads like a definition of `name`, at any depth."""
    word = re.escape(name)
    return (
        re.search(rf"^[^\w\n]*(?:async\s+)?(?:def|class)\s+{word}\b|^{word}\s*(?::[^\n=]*)?=[^=]", code, re.M)
        is not None
    )


@lru_cache(maxsize=1024)
def bound_names(code: str) -> frozenset[str]:
    """Names that the module binds otherwise than by importing them; empty when it does not parse."""
    table = _symbols(code)
    return frozenset() if table is None else frozenset(s.get_name() for s in table.get_symbols() if s.is_assigned())


@lru_cache(maxsize=1024)
def provided_names(code: str) -> frozenset[str]:
    """Names that the module binds in any way; empty when it does not parse."""
    table = _symbols(code)
    if table is None:
        return frozenset()
    return frozenset(s.get_name() for s in table.get_symbols() if s.is_assigned() or s.is_imported())


@lru_cache(maxsize=1024)
def needed_names(code: str) -> frozenset[str]:
    """Global names that the text reads and neither binds nor has from Python; empty when it does not parse."""
    table = _symbols(code)
    if table is None:
        return frozenset()
    found: set[str] = set()
    waiting: list[symtable.SymbolTable] = [table]
    while waiting:
        scope = waiting.pop()
        module = scope is table
        found.update(s.get_name() for s in scope.get_symbols() if s.is_referenced() and (module or s.is_global()))
        waiting += scope.get_children()
    return frozenset(found - provided_names(code) - _BUILTINS | _read_before_bound(code))


def _read_before_bound(code: str) -> frozenset[str]:
    """Names that a top-level statement reads to bind anew, as in `solve = cache(solve)`."""
    tree = parse(code)
    seen: set[str] = set()
    early: set[str] = set()
    for node in tree.body if tree is not None else ():
        if isinstance(node, ast.Assign) and all(isinstance(target, ast.Name) for target in node.targets):
            names = {target.id for target in node.targets if isinstance(target, ast.Name)}
            read = {part.id for part in ast.walk(node.value) if isinstance(part, ast.Name)}
            early |= (names & read) - seen
            seen |= names
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            seen.add(node.name)
    return frozenset(early)


def is_elided(code: str) -> bool:
    """Whether a function's last definition holds a bare `...`, a comment that stands for code, or nothing but `pass`.

    A docstring or a comment may be the whole point of a submission, so `pass` beside one is a body, unless the comment
    asks for one.
    """
    asked = _TEMPLATE.search(code) is not None
    empty = asked or "#" not in code
    return _ELIDED.search(code) is not None or any(
        any(_is_dots(statement) for statement in node.body)
        or (empty and all(isinstance(one, ast.Pass) for one in (_below_docstring(node) if asked else node.body)))
        for node in _last_functions(code)
    )


def is_unwritten(code: str, name: str) -> bool:
    """Whether the last definition of `name` only says that it is not implemented, below a docstring or not."""
    body = _body_of(code, name)
    return "#" not in code and len(body) == 1 and _is_not_implemented(body[0])


def is_stub(code: str, name: str) -> bool:
    """Whether the last definition of `name` does nothing, whatever its docstring and comments say."""
    return all(
        isinstance(one, ast.Pass) or _is_dots(one) or _is_not_implemented(one) for one in _body_of(code, name)
    ) and any(node.name == name for node in _last_functions(code))


def _body_of(code: str, name: str) -> list[ast.stmt]:
    return next((_below_docstring(node) for node in _last_functions(code) if node.name == name), [])


def _is_not_implemented(statement: ast.stmt) -> bool:
    raised = statement.exc if isinstance(statement, ast.Raise) else None
    kind = raised.func if isinstance(raised, ast.Call) else raised
    return isinstance(kind, ast.Name) and kind.id == "NotImplementedError"


def _last_functions(code: str) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    """The last definition of each function at the margin."""
    tree = parse(code)
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    found = {node.name: node for node in (tree.body if tree is not None else ()) if isinstance(node, functions)}
    return list(found.values())


def _below_docstring(node: ast.FunctionDef | ast.AsyncFunctionDef) -> list[ast.stmt]:
    return node.body[ast.get_docstring(node, clean=False) is not None :]


def _is_dots(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant) and statement.value.value is ...
    )


def imports_everything(code: str) -> bool:
    """Whether the module imports every name of another one (`from math import *`)."""
    tree = parse(code)
    return tree is not None and any(
        isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names) for node in tree.body
    )


def only_sets_attributes_of(code: str, name: str) -> bool:
    """Whether the text does nothing but set attributes of `name`: `solve.checked = True`."""
    tree = parse(code)
    return bool(tree and tree.body) and all(
        isinstance(node, ast.Assign)
        and all(
            isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name) and target.value.id == name
            for target in node.targets
        )
        for node in (tree.body if tree is not None else ())
    )


def _symbols(code: str) -> symtable.SymbolTable | None:
    if parse(code) is None:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return symtable.symtable(code, "submission.py", "exec")
    except _FAILURES:
        return None
