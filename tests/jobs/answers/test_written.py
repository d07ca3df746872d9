"""Answers as models write them, from a table in the format of the field's, and real modules in every dress."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from foreshock.jobs.answers.extract import extract, extract_code
from foreshock.jobs.answers.text_to_read import text_to_read

TABLE = Path(__file__).parents[2] / "support" / "answers.jsonl"
MODULES = ["bisect", "colorsys", "fnmatch", "graphlib", "reprlib", "shlex", "string", "textwrap", "copy", "html"]


def block(code: str, fence: str = "```", end: str = "") -> str:
    return f"{fence}python\n{code}\n{fence}{end}"


DRESSES: dict[str, Callable[[str], str]] = {
    "END": lambda code: f"Sure.\n{block(code, end='END')}\nIt works.",
    "open": lambda code: f"```python\n{code}\n\nThis function is right because it follows the definition.",
    "token": lambda code: f"```\n{code}<|im_end|>",
    "bare": lambda code: f"Here is the code:\n\n{code}\n\nIt works well.",
    "tildes": lambda code: block(code, fence="~~~"),
    "quotation": lambda code: "\n".join(f"> {line}" for line in block(code).split("\n")),
    "list": lambda code: "1. Code:\n\n" + "\n".join(f"   {line}" if line else "" for line in block(code).split("\n")),
    "tag": lambda code: f"<answer>\n{code}\n</answer>",
    "windows": lambda code: block(code, end="END").replace("\n", "\r\n"),
    "JSON": lambda code: json.dumps({"code": code}, indent=1),
    "patch": lambda code: "*** Begin Patch\n*** Add File: s.py\n+" + code.replace("\n", "\n+") + "\n*** End Patch",
}


def _text(row: dict[str, str]) -> str | None:
    """An answer, or what is read of a `response` behind a forced beginning, `prefill`."""
    forced = "prefill" in row
    return text_to_read(row["prefill"], row["response"], "", row["response"]) if forced else row["text"]


def test_a_careful_reader_and_the_parser_take_the_same() -> None:
    rows = [json.loads(line) for line in TABLE.read_text(encoding="utf-8").splitlines()]
    wrong = [row["name"] for row in rows if extract_code(_text(row), row["function_name"]) != row["code"]]
    assert len(rows) > 600
    assert wrong == []


@pytest.mark.parametrize("dress", DRESSES.values(), ids=DRESSES)
def test_real_modules_come_out_whole(dress: Callable[[str], str]) -> None:
    for module in map(importlib.import_module, MODULES):
        code = "\n".join(line.rstrip() for line in inspect.getsource(module).strip("\n").split("\n"))
        name = [node.name for node in ast.parse(code).body if isinstance(node, ast.FunctionDef | ast.ClassDef)][-1]
        assert extract(dress(code), name).code == code, module.__name__
