"""`foreshock forecast`: by when the unprompted rate passes a threshold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from foreshock.batch.cli.options import JsonOption
from foreshock.batch.cli.outlook_options import (
    AllTypes,
    ControlEvals,
    ExploitEvals,
    Figures,
    Intentional,
    RateThreshold,
    RunDirs,
    Seed,
    chosen_types,
    run_sources,
)
from foreshock.batch.cli.tell import tell_notes, visible

if TYPE_CHECKING:
    from foreshock.analysis.forecast.run import ForecastRun


def forecast(
    output_dir: Annotated[Path, typer.Option("--output-dir", help="Where to write.")],
    run_dir: RunDirs = None,
    exploit_evals: ExploitEvals = None,
    control_evals: ControlEvals = None,
    by_step: Annotated[
        float | None, typer.Option("--by-step", help="Forecast up to this step; default: twice the last checkpoint.")
    ] = None,
    threshold: RateThreshold = 0.10,
    score: Annotated[
        bool, typer.Option("--score/--no-score", help="Score forecasts made as of each earlier checkpoint.")
    ] = True,
    sensitivity: Annotated[
        bool,
        typer.Option("--sensitivity/--no-sensitivity", help="Also fit with other priors and without each level."),
    ] = True,
    all_types: AllTypes = False,
    intentional: Intentional = None,
    figures: Figures = True,
    seed: Seed = 0,
    as_json: JsonOption = False,
) -> None:
    """P(unprompted rate passes the threshold by a step), time to threshold, and how good such forecasts were.

    Example: foreshock forecast --run-dir RUN --output-dir forecast --by-step 500
    """
    from foreshock.analysis.forecast.backtest import ForecastSettings
    from foreshock.analysis.forecast.run import ForecastOptions, run_forecast

    options = ForecastOptions(
        threshold=threshold,
        horizon=by_step,
        score=score,
        sensitivity=sensitivity,
        intentional=chosen_types(all_types, intentional),
        figures=figures,
        settings=ForecastSettings(seed=seed),
    )
    sources = run_sources(run_dir, exploit_evals, control_evals, None, None)
    _say_forecast(run_forecast(sources, output_dir, options), as_json)


def _say_forecast(done: ForecastRun, as_json: bool) -> None:

    if as_json:
        document = {"output_dir": str(done.directory), **done.summary, "notes": done.notes}
        typer.echo(json.dumps(document | {"times": json.loads(done.times.to_json(orient="records"))}, indent=2))
        return
    for row in done.times.sort_values("p_by_horizon", ascending=False).to_dict("records"):
        median = row["step_median"]
        when = f", median step {median:.0f}" if median is not None and median == median else ""
        name = visible(f"{row['run']} {row['exploit_type']}")
        typer.echo(
            f"{name}: {100 * row['p_by_horizon']:.0f}% by step {done.summary['horizon']:.0f} ({row['status']}{when})"
        )
    tell_notes(done.notes)
    typer.echo(f"written: {done.directory}")
