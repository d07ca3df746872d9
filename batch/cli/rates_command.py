"""`foreshock rates`: estimates of the unprompted exploit rate of any run directories."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from foreshock.batch.cli.options import DonorConditionedOption, JsonOption
from foreshock.batch.cli.tell import tell_notes, tell_warnings


def rates(
    run_dir: Annotated[list[Path], typer.Option("--run-dir", help="Run directory; repeat to pool several runs.")],
    output_dir: Annotated[Path, typer.Option("--output-dir", help="Where rates.csv is written.")],
    donor_run: Annotated[
        Path | None,
        typer.Option(
            "--donor-run", help="The donor's own run: level 0 gives pi, its prefilled levels a, logprob/ log Q."
        ),
    ] = None,
    donor_conditioned: DonorConditionedOption = True,
    as_json: JsonOption = False,
) -> None:
    """The unprompted exploit rate of every run, type and checkpoint, with intervals, also where 0 of n were seen.

    Example: foreshock rates --run-dir RUN --output-dir rates --donor-run DONOR_RUN
    """
    from foreshock.analysis.estimates.rates import estimate_rates
    from foreshock.analysis.estimates.rates_file import write_rates
    from foreshock.analysis.evidence.load import load_evidence

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
            "cells_with_prefilled_exploits": found.headline.measurements,
            "status": found.counts,
            "faults": list(found.headline.faults),
            "notes": list(loaded.notes),
        }
        typer.echo(json.dumps(summary))
        return
    tell_warnings(found.headline.faults)
    tell_notes(loaded.notes, err=True)
    counted = ", ".join(f"{count} {status}" for status, count in found.counts.items())
    typer.echo(
        f"{len(loaded.evidence.surfaces)} surfaces at {len(loaded.evidence.steps)} checkpoints; "
        f"headline: {counted} (column `reason` says why a cell is not an estimate)"
    )
    typer.echo(f"rates: {target}")
