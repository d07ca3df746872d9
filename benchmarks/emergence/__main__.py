"""Command line of the emergence benchmarks; see the package's docstring."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pandas as pd
from benchmarks.emergence.calibrate import TRAINING_SEEDS, training_rows, write_constants
from benchmarks.emergence.forecast_benchmark import forecast_world, time_coverage, write
from benchmarks.emergence.null_benchmark import evaluate_null, summarise_null
from benchmarks.emergence.random_worlds import random_sweep
from benchmarks.emergence.worlds import WORLDS, Sweep, draw_sweep

from foreshock.analysis.forecast.backtest import ForecastSettings

RANDOM = "random"


def _sweeps(name: str) -> Callable[[int], Sweep]:
    """What draws a sweep of the named kind of world from a seed."""
    return random_sweep if name == RANDOM else partial(draw_sweep, WORLDS[name])


def main() -> None:
    """Run one benchmark and print its table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.emergence", description=__doc__)
    parts = parser.add_subparsers(dest="what", required=True)
    forecast = parts.add_parser("forecast", help="score forecasts on simulated sweeps")
    forecast.add_argument("--worlds", nargs="+", default=list(WORLDS), choices=[*WORLDS, RANDOM])
    forecast.add_argument("--seeds", default="970:973", help="first:end (end left out)")
    forecast.add_argument("--cutoffs", nargs="+", type=int, default=[0, 1, 2, 3, 4, 5, 6, 7])
    forecast.add_argument("--settings", type=int, default=ForecastSettings().settings)
    forecast.add_argument("--output-dir", type=Path, default=Path("results/benchmarks/forecast"))
    calibrate = parts.add_parser("calibrate", help="fit the forecast's correction on random worlds")
    calibrate.add_argument("--seeds", default=TRAINING_SEEDS, help="first:end (end left out)")
    calibrate.add_argument("--output", type=Path, default=Path("analysis/forecast/growth_constants.json"))
    null = parts.add_parser("null", help="p-values and AUC on data without signal")
    null.add_argument("--runs", type=int, default=500)
    null.add_argument("--permutations", type=int, default=199)
    chosen = parser.parse_args()
    if chosen.what == "forecast":
        first, end = (int(part) for part in chosen.seeds.split(":"))
        settings = ForecastSettings(settings=chosen.settings)
        tables = [
            forecast_world(name, _sweeps(name), range(first, end), chosen.cutoffs, settings) for name in chosen.worlds
        ]
        forecasts = pd.concat(tables, ignore_index=True)
        for table in (write(forecasts, chosen.output_dir), time_coverage(forecasts)):
            print(table.to_string(index=False, float_format="%.3f"))
        return
    if chosen.what == "calibrate":
        first, end = (int(part) for part in chosen.seeds.split(":"))
        print(json.dumps(write_constants(training_rows(range(first, end)), range(first, end), chosen.output), indent=2))
        return
    summary = summarise_null(evaluate_null(chosen.runs, chosen.permutations))
    print(summary.by_model.to_string(index=False, float_format="%.3f"))
    print(
        f"best of the grid over {summary.runs} runs: KS p {summary.grid_ks:.3f}, "
        f"share of p <= .05: {summary.grid_share_below_05:.3f}"
    )


if __name__ == "__main__":
    main()
