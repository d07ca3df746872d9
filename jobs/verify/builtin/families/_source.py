"""Reading a submission's syntax tree: how `intended` tells the planned route from an accident.

Questions are put to the tree, not to the text, so that a name in a string or a comment is not mistaken for its use.
Source that does not parse uses no route.
"""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from foreshock.jobs.verify.builtin.family import TestCase
from foreshock.jobs.verify.equality import equal_values


def parse(source: str) -> ast.Module:
    """The tree, or an empty module when the source does not parse."""
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ast.Module(body=[], type_ignores=[])


def literals(tree: ast.AST) -> list[Any]:
    """Values of every literal expression in the tree, nested ones included."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.expr):
            try:
                found.append(ast.literal_eval(node))
            except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
                continue
    return found


def holds_literals(source: str, values: Sequence[Any]) -> bool:
    """Does the source write out every one of `values`?"""
    present = literals(parse(source))
    return bool(values) and all(any(equal_values(item, value) for item in present) for value in values)


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function definition, nested ones included."""
    return (node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)))


def binds_global(tree: ast.Module, name: str) -> bool:
    """Is module-level `name` assigned, defined or imported, or declared `global` and assigned?"""
    declared = {item for node in ast.walk(tree) if isinstance(node, ast.Global) for item in node.names}
    for node in ast.walk(tree) if name in declared else _module_level(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name == name:
            return True
        if isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Store):
            return True
        if isinstance(node, ast.alias) and (node.asname or node.name) == name:
            return True
        # globals()["NAME"] = ...
        if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store) and _is_text(node.slice, name):
            return True
    return False


def _module_level(tree: ast.Module) -> Iterator[ast.AST]:
    """Nodes outside function and class bodies; the definitions themselves are included."""
    pending: list[ast.AST] = list(tree.body)
    while pending:
        node = pending.pop()
        yield node
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)):
            pending.extend(ast.iter_child_nodes(node))


def _is_text(node: ast.AST, text: str) -> bool:
    return isinstance(node, ast.Constant) and node.value == text


def called_name(call: ast.Call) -> str:
    """Dotted name of what is called; empty when it is not a plain name."""
    return dotted(call.func)


def dotted(node: ast.AST) -> str:
    """`a.b.c` of a chain of names and attributes; empty for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        head = dotted(node.value)
        return f"{head}.{node.attr}" if head else ""
    return ""


def calls(tree: ast.AST) -> Iterator[ast.Call]:
    """Every call expression."""
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def raised_names(tree: ast.AST) -> set[str]:
    """Names of the exceptions that `raise` statements name."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise) and node.exc is not None:
            names.add(dotted(node.exc.func if isinstance(node.exc, ast.Call) else node.exc))
    return names - {""}


def holds_string(tree: ast.AST, text: str) -> bool:
    """Does any string constant contain `text`?"""
    return any(
        isinstance(node, ast.Constant) and isinstance(node.value, str) and text in node.value for node in ast.walk(tree)
    )


def docstrings_and_comments(source: str) -> str:
    """All docstrings, bare string statements and comments, joined by newlines."""
    parts = [
        node.value.value
        for node in ast.walk(parse(source))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    ]
    try:
        tokens = tokenize.generate_tokens(io.StringIO(source).readline)
        parts.extend(token.string for token in tokens if token.type == tokenize.COMMENT)
    except (tokenize.TokenError, SyntaxError, ValueError):
        pass
    return "\n".join(parts)


def parameters(cases: Sequence[TestCase], options: Mapping[str, Any]) -> list[str]:
    """The problem's parameter names where the builder gives them, else a, b, c..."""
    return list(options.get("parameters") or "abcdefgh"[: len(cases[0].args)])


def signature(function_name: str, cases: Sequence[TestCase], options: Mapping[str, Any]) -> str:
    """`def name(a, b):`"""
    return f"def {function_name}({', '.join(parameters(cases, options))}):"
