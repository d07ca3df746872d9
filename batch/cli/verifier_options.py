"""How commands name a verifier and its own options."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperOption

from foreshock.errors import InputError

VerifierOption = Annotated[str, typer.Option("--verifier", help="What judges the code.")]
VerifierOptionsOption = Annotated[
    list[str] | None,
    typer.Option("--verifier-option", metavar="KEY=VALUE", help="An option of the verifier's own; repeatable."),
]


class VerifierCommand(TyperCommand):
    """A command whose help names the verifiers that are here, looked for only when the help is shown."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Complete the help of --verifier, then show it all."""
        from foreshock.jobs.verify.registry import VERIFIERS

        for option in self.params:
            if isinstance(option, TyperOption) and option.name == "verifier":
                option.help = f"What judges the code: {', '.join(VERIFIERS.names())}."
        super().format_help(ctx, formatter)


VerifierWorkersOption = Annotated[
    int | None, typer.Option("--workers", min=1, help="Submissions at a time; default: one a usable core.")
]
AllowWeakSandboxOption = Annotated[
    bool, typer.Option("--allow-weak-sandbox", help="Run even where the full sandbox does not work.")
]
TimeoutOption = Annotated[float, typer.Option("--timeout", min=0.1, help="Seconds for each of the two verifiers.")]


def parse_options(given: Sequence[str] | None) -> dict[str, str]:
    """KEY=VALUE pairs; the verifier's own options model gives values their types. Raises InputError."""
    options: dict[str, str] = {}
    for text in given or ():
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise InputError(
                f"--verifier-option {text!r} is not KEY=VALUE", fix="e.g. --verifier-option package=~/djinn"
            )
        if key in options:
            raise InputError(f"--verifier-option {key} is given twice")
        options[key] = value
    return options
