"""`foreshock aggregate`: a run's final tables from its finished shards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from foreshock.batch.cli.options import JsonOption


def aggregate(
    run_dir: Annotated[Path, typer.Argument(help="Run directory.")],
    as_json: JsonOption = False,
) -> None:
    """Write a run's final tables from its finished shards. Safe at any time; says what is missing.

    Example: foreshock aggregate RUN
    """
    from foreshock.analysis.aggregate import aggregate as aggregate_run
    from foreshock.jobs.records.layout import RunLayout

    report = aggregate_run(RunLayout(run_dir))
    if as_json:
        typer.echo(json.dumps(report.to_json(), indent=2))
        return
    typer.echo(
        f"{report.files} files: {report.n_eval} eval, {report.n_logprob} logprob, "
        f"{report.n_ref_logprob} donor logprob, "
        f"{report.n_kl} KL, {report.n_ground_truth} ground-truth rows; {report.n_errors} errors"
    )
    for name in report.set_aside:
        typer.echo(f"set aside, since it cannot be read; every planned table is written anew: {name}", err=True)
    for item in report.missing:
        typer.echo(f"missing: {item['kind']} {item['checkpoint']} levels {item['levels']} shard {item['shard']}")
