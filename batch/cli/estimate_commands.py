"""Estimates of the unprompted exploit rate on any run directories: rates."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def rates(
    run_dir: Annotated[list[Path], typer.Option("--run-dir", help="Run directory; repeat to pool several runs.")],
    output_dir: Annotated[Path, typer.Option("--output-dir", help="Where rates.csv is written.")],
    donor_run: Annotated[
        Path | None,
        typer.Option(
            "--donor-run", help="The donor's own run: level 0 gives pi, its prefilled levels a, logprob/ log Q."
        ),
    ] = None,
    donor_conditioned: Annotated[
        bool,
        typer.Option(
            "--donor-conditioned/--donor-unconditioned",
            help="Whether the prefill source kept only traces that ended in an exploit.",
        ),
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")] = False,
) -> None:
    """The unprompted exploit rate of every run, type and checkpoint, with intervals, also where 0 of n were seen."""
    from foreshock.analysis.estimates.load import load_evidence
    from foreshock.analysis.estimates.rates import estimate_rates, write_rates

    loaded = load_evidence(run_dir, donor_run, donor_conditioned)
    found = estimate_rates(loaded.evidence)
    target = output_dir / "rates.csv"
    write_rates(found.estimates, target)
    if as_json:
        summary = {
            "rates": str(target),
            "rows": len(found.estimates),
            "surfaces": len(loaded.evidence.surfaces),
            "checkpoints": len(loaded.evidence.steps),
            "importance_measurements": found.headline.measurements,
            "backtest_widening": round(found.headline.inflation, 4),
            "notes": list(loaded.notes),
        }
        typer.echo(json.dumps(summary))
        return
    for note in loaded.notes:
        typer.echo(f"note: {note}", err=True)
    typer.echo(
        f"{len(loaded.evidence.surfaces)} surfaces at {len(loaded.evidence.steps)} checkpoints, "
        f"{found.headline.measurements} importance-sampling measurements, "
        f"backtest widening {found.headline.inflation:.2f}"
    )
    typer.echo(f"rates: {target}")
