"""`foreshock prefetch`: what a run takes from the internet, fetched where there is some."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from foreshock.batch.cli.options import JsonOption


def prefetch(
    config: Annotated[Path, typer.Argument(help="Run configuration in YAML (docs/configuration.md).")],
    as_json: JsonOption = False,
) -> None:
    """Fetch what a run takes from the internet: its problems' data set, and base models that adapters name.

    Run it on a login node or wherever there is internet. Planning and jobs then find everything in the Hugging Face
    cache and need none. What is there already is not fetched again.

    Example: foreshock prefetch sweep.yaml
    """
    from contextlib import nullcontext

    from rich.console import Console

    from foreshock.batch.config_file import load_config
    from foreshock.batch.planning.prefetch import prefetch as fetch

    console = Console(stderr=True)
    found = []
    with console.status("fetching") if console.is_terminal else nullcontext():
        for item in fetch(load_config(config)):
            found.append({"what": item.what, "name": item.name, "path": str(item.path), "was_here": item.was_here})
            if not as_json:
                state = "here already" if item.was_here else "fetched"
                typer.echo(f"{item.what} {item.name}: {state}, {item.path}")
    if as_json:
        typer.echo(json.dumps(found, indent=2))
    elif not found:
        typer.echo("nothing to fetch: problems and models of this run are all on this machine")
