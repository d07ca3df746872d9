"""What a finished or submitted run says of itself."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import typer

from foreshock.batch.cli.tell import tell_notes

if TYPE_CHECKING:
    from foreshock.batch.running.run import RunResult


def show_result(result: RunResult, as_json: bool) -> None:
    """Print rows, notes, folder and report of a run, as text or as one JSON document."""

    document: dict[str, Any] = {
        "run_dir": str(result.layout.root),
        "complete": result.complete,
        "submitted": result.execution.submitted,
        "missing_shards": len(result.execution.missing),
        "rows": result.aggregate.to_json() if result.aggregate else None,
        "report": str(result.layout.report) if result.layout.report.is_file() else None,
        "notes": result.analysis.notes if result.analysis else [],
    }
    if as_json:
        typer.echo(json.dumps(document, indent=2))
        return
    if result.aggregate is not None:
        rows = result.aggregate
        typer.echo(
            f"{rows.n_eval} eval rows, {rows.n_logprob} logprob rows, {rows.n_ground_truth} ground-truth rows; "
            f"{rows.n_errors} errors, {rows.n_skipped} tasks skipped: no prefill"
        )
        if rows.n_exploit_logprob:
            typer.echo(f"{rows.n_exploit_logprob} scores of exploit code")
        if rows.n_extra:
            typer.echo(f"{rows.n_extra} further unprompted attempts in adaptive rounds")
    tell_notes(document["notes"])
    typer.echo(f"run:    {result.layout.root}")
    if document["report"]:
        typer.echo(f"report: {document['report']}")
    if result.execution.submitted:
        typer.echo(f"submitted; follow it with: foreshock status {result.layout.root} --watch")
