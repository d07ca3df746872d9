"""A word before the numbers of a run that lacks tables it should have."""

from __future__ import annotations

from pathlib import Path

import typer


def tell_gaps(*runs: Path) -> None:
    """Print on standard error what each run's evals lack. Raises InputError for an archive that cannot be read."""
    from foreshock.jobs.records.table_gaps import gap_lines

    for run in runs:
        for line in gap_lines(run):
            typer.echo(f"warning: {run.resolve().name}: {line}", err=True)
