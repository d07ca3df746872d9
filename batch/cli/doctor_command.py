"""`foreshock doctor`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from foreshock.batch.cli.options import JsonOption


def doctor(
    checkpoint: Annotated[
        str | None,
        typer.Argument(
            help="A checkpoint's directory, or org/model@revision in the Hugging Face cache: examine that instead."
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", help="Examine the checkpoint as this run configuration would use it."),
    ] = None,
    load: Annotated[bool, typer.Option("--load", help="Also load the weights, with the transformers engine.")] = False,
    slurm: Annotated[
        str | None,
        typer.Option("--slurm", help="A Slurm profile: submit small jobs with it, report what the site does."),
    ] = None,
    shared: Annotated[
        Path | None,
        typer.Option("--shared", help="With --slurm: folder that nodes see too; default: results/, else this one."),
    ] = None,
    wait: Annotated[float, typer.Option("--wait", min=1, help="With --slurm: seconds to wait at most.")] = 240,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="With --slurm: print the jobs' scripts instead.")] = False,
    allow_weak_sandbox: Annotated[
        bool, typer.Option("--allow-weak-sandbox", help="With --slurm: accept a sandbox that needs a run's consent.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what this machine offers and what is missing: packages, GPUs, sandbox, Slurm, containers.

    With a checkpoint, run its admission test alone: tokenizer, prompt format, stops, adapter, ties, positions.
    Example: foreshock doctor runs/my-run/checkpoint-100

    With --slurm, submit three small jobs (about 90 seconds once they start) and report account, partition, requeueing,
    the notice before the time limit, GPUs, sandbox, scratch, internet and shared files, and what to put into the
    profile. Ctrl-C cancels the jobs; nothing is left behind. Example: foreshock doctor --slurm mysite.yaml

    Exits with 1 if something that every run needs is missing or was not seen, or if the checkpoint is not admitted.
    """
    if slurm is not None:
        from foreshock.batch.cli.doctor_slurm import examine_profile

        if checkpoint is not None:
            raise typer.BadParameter("give a checkpoint or --slurm, not both")
        if not examine_profile(slurm, shared, wait, dry_run, as_json, allow_weak_sandbox):
            raise typer.Exit(1)
        return
    if dry_run or allow_weak_sandbox or shared is not None:
        raise typer.BadParameter("--dry-run, --shared and --allow-weak-sandbox go with --slurm PROFILE")
    if checkpoint is not None:
        from foreshock.batch.cli.doctor_checkpoint import show_admission

        if not show_admission(checkpoint, config, load, as_json):
            raise typer.Exit(1)
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from foreshock.batch.cli.doctor import examine

    findings = examine()
    if as_json:
        typer.echo(json.dumps([vars(f) for f in findings], indent=2))
    else:
        table = Table("", "what", "found", box=None, pad_edge=False)
        table.add_column("to fix it", overflow="fold")  # commands are there to be copied
        marks = {"ok": "[green]ok", "missing": "[red]missing", "absent": "[dim]absent", "weak": "[yellow]weak"}
        for finding in findings:
            # escaped, since 'foreshock[vllm]' would otherwise be taken for markup and lose its brackets
            table.add_row(marks[finding.state], *map(escape, (finding.what, finding.found, finding.fix)))
        Console(highlight=False).print(table)
    if any(finding.state == "missing" for finding in findings):
        raise typer.Exit(1)
