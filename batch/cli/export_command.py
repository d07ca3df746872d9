"""`foreshock export`: a run in the format of another tool."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from foreshock.batch.cli.tell import tell_gaps

if TYPE_CHECKING:
    from foreshock.analysis.exporting.spec import ExporterSpec

RunArgument = Annotated[Path, typer.Argument(help="Run directory.")]
ToOption = Annotated[
    str, typer.Option("--to", help="parquet, inspect, hub, mlflow, wandb, files, or what an installed package adds.")
]
OutputOption = Annotated[
    Path | None, typer.Option("--output", "-o", help="A new folder for the files; needed without --dry-run.")
]
UploadOption = Annotated[
    str | None,
    typer.Option("--upload", help="Also send it: hub: USER/NAME (made private); mlflow: a tracking server's URI."),
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="List the files and where they would go; keep and send nothing.")
]


def export(
    run_dir: RunArgument,
    to: ToOption,
    output: OutputOption = None,
    upload: UploadOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """Write a run in another tool's format. Nothing leaves this machine without --upload.

    Example: foreshock export RUN --to inspect --output logs && inspect view --log-dir logs
    """
    from foreshock.analysis.exporting.spec import EXPORTERS
    from foreshock.errors import InputError

    exporter = EXPORTERS.get(to)
    if upload is not None and exporter.send is None:
        raise InputError(f"--upload: {to} is files alone", fix=f"leave it out; {exporter.summary}")
    tell_gaps(run_dir)
    if dry_run:
        with tempfile.TemporaryDirectory(prefix="foreshock-export-") as folder:
            _list(_write(exporter, run_dir, Path(folder)), Path(folder))
        typer.echo(f"would send to {exporter.target_name} {upload}" if upload else "would be sent nowhere")
        return
    if output is None:
        raise InputError("no folder was named", fix="--output FOLDER, or --dry-run to see the files")
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise InputError("is there already and not empty", path=output, fix="name a new folder")
    made = not output.exists()
    output.mkdir(parents=True, exist_ok=True)
    try:
        written = _write(exporter, run_dir, output)
    except InputError:
        if made and not any(output.iterdir()):
            output.rmdir()  # nothing was written, and the same command is to work once its cause is gone
        raise
    typer.echo(f"{len(written)} files in {output}")
    if upload is not None:
        assert exporter.send is not None
        typer.echo(f"sent: {exporter.send(run_dir, output, upload)}")


def _write(exporter: ExporterSpec, run_dir: Path, folder: Path) -> list[Path]:
    from foreshock.batch.cli.display import count_bar

    with count_bar(f"exporting to {exporter.name}", unit="files") as on_progress:
        return exporter.write(run_dir, folder, on_progress)


def _list(files: list[Path], folder: Path) -> None:
    for path in files:
        typer.echo(f"{path.stat().st_size:>12,} bytes  {path.relative_to(folder)}")
