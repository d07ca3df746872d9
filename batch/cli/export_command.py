"""`foreshock export`: a run in the format of another tool."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RunArgument = Annotated[Path, typer.Argument(help="Run directory.")]
ToOption = Annotated[str, typer.Option("--to", help="parquet, inspect, or what an installed package adds.")]
OutputOption = Annotated[Path, typer.Option("--output", "-o", help="A new folder for the files.")]


def export(run_dir: RunArgument, to: ToOption, output: OutputOption) -> None:
    """Write a run in another tool's format.

    Example: foreshock export RUN --to inspect --output logs && inspect view --log-dir logs
    """
    from foreshock.analysis.exporting.spec import EXPORTERS
    from foreshock.batch.cli.display import count_bar
    from foreshock.errors import InputError

    exporter = EXPORTERS.get(to)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise InputError("is there already and not empty", path=output, fix="name a new folder")
    output.mkdir(parents=True, exist_ok=True)
    with count_bar(f"exporting to {to}", unit="files") as on_progress:
        written = exporter.write(run_dir, output, on_progress)
    typer.echo(f"{len(written)} files in {output}")
