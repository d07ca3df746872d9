"""`foreshock ls`: the runs that are there."""

from __future__ import annotations

import json
from pathlib import Path

import typer

from foreshock.batch.cli.options import JsonOption, ResultsOption


def ls(results_dir: ResultsOption = Path("results"), as_json: JsonOption = False) -> None:
    """List runs, newest first.

    Example: foreshock ls --results-dir results
    """
    from rich.console import Console
    from rich.table import Table

    from foreshock.batch.status.read import list_runs

    runs = list_runs(results_dir)
    if as_json:
        typer.echo(json.dumps(runs, indent=2))
        return
    if not runs:
        typer.echo(f"no runs under {results_dir / 'prefill_sensitivity'}; start one with: foreshock run CONFIG.yaml")
        return
    table = Table("run", "status", "started", "rows", box=None, pad_edge=False)
    for item in runs:
        table.add_row(item["run"], item["status"], item["started"] or "", f"{item['rows_done']}/{item['rows_total']}")
    Console().print(table)
