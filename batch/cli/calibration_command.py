"""Estimates against sampled rates: calibration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from foreshock.batch.cli.options import DonorConditionedOption, JsonOption
from foreshock.batch.cli.tell import tell_gaps


def calibration(
    run_dir: Annotated[list[Path], typer.Option("--run-dir", help="Run directory; repeat for several runs.")],
    output_dir: Annotated[
        Path, typer.Option("--output-dir", help="Where calibration.csv and recalibration_map.json are written.")
    ],
    donor_run: Annotated[Path | None, typer.Option("--donor-run", help="The donor's own run.")] = None,
    donor_conditioned: DonorConditionedOption = True,
    as_json: JsonOption = False,
) -> None:
    """Set estimates of the unprompted rate against sampled rates, and fit a map that corrects each method.

    Sampled rates are ground_truth/'s, else the sweep's level 0 (then methods that use level 0 are left out). Whether a
    map helps is judged on exploit types that it has not seen.

    Example: foreshock calibration --run-dir results/prefill_sensitivity/RUN --output-dir results/calibration
    """
    from foreshock.analysis.calibration.run import method_table, run_calibration

    tell_gaps(*run_dir)
    done = run_calibration(run_dir, output_dir, donor_run, donor_conditioned)
    if as_json:
        typer.echo(json.dumps({"output_dir": str(output_dir), "sampled": done.sampled, "methods": done.maps}, indent=2))
        return
    typer.echo(f"sampled rates: {done.sampled}")
    for row in method_table(done).to_dict("records"):
        map_text = f"a {row['a']}, b {row['b']}" if row["a"] else "no map"
        typer.echo(
            f"{row['method']}: {row['cells']} cells, bias {row['bias']}, RMSE {row['rmse']} decades, "
            f"{row['inside']} inside sampled limits; {map_text}; map helps: {row['map_helps']}"
        )
    typer.echo(f"written: {output_dir}")
