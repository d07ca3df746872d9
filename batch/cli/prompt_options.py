"""How commands on single files say what `prompt` says in a configuration."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from foreshock.errors import InputError

TemplateArgOption = Annotated[
    list[str] | None,
    typer.Option(
        "--template-arg",
        metavar="KEY=VALUE",
        help="An argument of the chat template, such as enable_thinking=false or reasoning_effort=low; repeatable.",
    ),
]
OpeningOption = Annotated[
    str | None,
    typer.Option(
        "--opening", help="Text that opens the reasoning; default: the chat template's. In bash: $'<think>\\n'."
    ),
]
ClosingOption = Annotated[
    str | None, typer.Option("--closing", help="Text that ends the reasoning; default: the chat template's.")
]
SystemOption = Annotated[str | None, typer.Option("--system", help="System message; default: none.")]
StopTokenOption = Annotated[
    list[int] | None,
    typer.Option("--stop-token-id", min=0, help="Token that ends a continuation beside the derived ones; repeatable."),
]


def parse_template_args(given: Sequence[str] | None) -> dict[str, Any]:
    """KEY=VALUE pairs; a value that reads as JSON (false, 3, "3") is that, any other is text. Raises InputError."""
    arguments: dict[str, Any] = {}
    for text in given or ():
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise InputError(
                f"--template-arg {text!r} is not KEY=VALUE", fix="e.g. --template-arg enable_thinking=false"
            )
        if key in arguments:
            raise InputError(f"--template-arg {key} is given twice")
        try:
            arguments[key] = json.loads(value)
        except ValueError:
            arguments[key] = value
    return arguments
