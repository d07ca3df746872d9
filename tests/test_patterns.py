"""Regular expressions mean the same under every Python that is supported."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from foreshock import batch

PACKAGE = Path(batch.__file__).parents[1]
POSSESSIVE_GROUP = re.compile(r"(?<!\\)\)(?:[*+?]|\{[\d,]+\})\+|\(\?>")


def test_no_group_is_possessive() -> None:
    """Python before 3.11.5 loses its place in such a group where it holds alternatives, and then matches less."""
    files = [file for room in ("batch", "jobs", "analysis") for file in (PACKAGE / room).resolve().rglob("*.py")]
    found = []
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and POSSESSIVE_GROUP.search(node.value):
                found.append(f"{file.name}:{node.lineno}")
    assert len(files) > 300
    assert found == []
