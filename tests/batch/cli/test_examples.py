"""Every command's help has an example, and the example is one that the command accepts."""

from __future__ import annotations

import re
import shlex
from typing import Any

import pytest
import typer

from foreshock.batch.cli.app import app


def commands() -> dict[str, Any]:
    """Every command by how it is called."""
    found: dict[str, Any] = {}

    def walk(command: Any, name: str) -> None:
        below = getattr(command, "commands", None)
        if below is None:
            found[name] = command
        for part, own in (below or {}).items():
            walk(own, f"{name} {part}")

    walk(typer.main.get_command(app), "foreshock")
    return found


@pytest.mark.parametrize("name", sorted(commands()))
def test_help_has_an_example_that_parses(name: str) -> None:
    command = commands()[name]
    found = re.search(rf"Example: ({name}\b.*)", command.help or "")
    assert found is not None, f"{name} has no example"
    arguments = shlex.split(found[1].partition("&&")[0])[len(name.split()) :]
    command.make_context(name, arguments)
