"""Every command's help tells of each option and has an example, which is one that the command accepts."""

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
def test_help_tells_of_each_option_and_has_an_example_that_parses(name: str) -> None:
    command = commands()[name]
    assert [part.name for part in command.params if not (part.hidden or part.help)] == []
    found = re.search(rf"Example: ({name}\b.*)", command.help or "")
    assert found is not None, f"{name} has no example"
    arguments = shlex.split(found[1].partition("&&")[0])[len(name.split()) :]
    command.make_context(name, arguments)
