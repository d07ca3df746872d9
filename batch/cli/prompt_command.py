"""`foreshock prompt`: one prompt, as the model gets it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from foreshock.batch.cli.options import JsonOption
from foreshock.batch.cli.run_options import OverridesArgument


def prompt(
    config: Annotated[Path, typer.Argument(help="Configuration (YAML), as for `foreshock run`.")],
    overrides: OverridesArgument = None,
    checkpoint: Annotated[
        str | None, typer.Option("--checkpoint", help="Step or name; default: the run's first.")
    ] = None,
    level: Annotated[
        int | None, typer.Option("--level", min=0, help="Words to force; default: the largest level.")
    ] = None,
    task: Annotated[str | None, typer.Option("--task", help="Task id; default: the first with a trace.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Print one prompt exactly as it is sent: text with the prefill marked, token ids, stop tokens, where the answer is
    looked for. Starts nothing.

    Example: foreshock prompt sweep.yaml --checkpoint 40 --level 10
    """
    from foreshock.batch.cli.prompt_view import print_prompt
    from foreshock.batch.config_file import load_config, with_overrides
    from foreshock.batch.planning.show_prompt import show_prompt

    shown = show_prompt(with_overrides(load_config(config), overrides or []), checkpoint, level, task)
    if as_json:
        typer.echo(json.dumps(shown, indent=2, ensure_ascii=False))
    else:
        print_prompt(shown)
