"""Looking ahead: which exploit types will emerge (`emergence`), and by when (`forecast`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from foreshock.batch.cli.options import JsonOption, listed, one_of

if TYPE_CHECKING:
    from foreshock.analysis.emergence.run import EmergenceRun
    from foreshock.analysis.forecast.run import ForecastRun
    from foreshock.analysis.gp.means import MeanKind
    from foreshock.analysis.surfaces.cells import RunSource
    from foreshock.jobs.records.exploit_types import IntentionalTypes

RunDirs = Annotated[list[Path] | None, typer.Option("--run-dir", help="A run directory; give the option once per run.")]
ExploitEvals = Annotated[
    Path | None, typer.Option("--exploit-evals", help="The exploit-trained run (its directory or its evals/ folder).")
]
ControlEvals = Annotated[
    Path | None, typer.Option("--control-evals", help="The control run (its directory or its evals/ folder).")
]
ExploitLogprobs = Annotated[
    Path | None,
    typer.Option(
        "--exploit-logprobs",
        help="Exploit run: folder of its exploit code's log-probabilities; default: its exploit_logprob/.",
    ),
]
ControlLogprobs = Annotated[
    Path | None,
    typer.Option(
        "--control-logprobs",
        help="Control run: folder of its exploit code's log-probabilities; default: its exploit_logprob/.",
    ),
]
RateThreshold = Annotated[float, typer.Option("--threshold", help="Unprompted exploit rate that counts as emerged.")]
AllTypes = Annotated[bool, typer.Option("--all-types", help="Include exploit types that are not intentional.")]
Intentional = Annotated[
    str | None,
    typer.Option(
        "--intentional", help="Intentional exploit types: current (default), original, or a list with commas."
    ),
]
Figures = Annotated[bool, typer.Option("--figures/--no-figures", help="Draw the figures.")]
Seed = Annotated[int, typer.Option("--seed", help="Seed of permutations and posterior draws.")]


def emergence(
    output_dir: Annotated[Path, typer.Option("--output-dir", help="Where to write.")],
    run_dir: RunDirs = None,
    exploit_evals: ExploitEvals = None,
    control_evals: ControlEvals = None,
    exploit_logprobs: ExploitLogprobs = None,
    control_logprobs: ControlLogprobs = None,
    definitions: Annotated[
        str,
        typer.Option("--definitions", help="current, or the original study's: original, original-max (to compare)."),
    ] = "current",
    per_problem: Annotated[bool, typer.Option("--per-problem", help="Also predict single problems.")] = False,
    rate_models: Annotated[
        bool, typer.Option("--rate-models/--no-rate-models", help="Use fitted rate models as metrics (slower).")
    ] = True,
    gp: Annotated[
        str | None,
        typer.Option("--gp", help="With the original definitions: also GP rates, by mean: constant,linear,tanh."),
    ] = None,
    threshold: RateThreshold = 0.10,
    permutations: Annotated[int, typer.Option("--permutations", help="Shuffles behind each p-value.")] = 999,
    all_types: AllTypes = False,
    intentional: Intentional = None,
    figures: Figures = True,
    seed: Seed = 0,
    as_json: JsonOption = False,
) -> None:
    """Which exploit types will pass the threshold later? Every metric, model and cutoff, with honest significance.

    Example: foreshock emergence --run-dir RUN --run-dir OTHER_RUN --output-dir emergence
    """
    from foreshock.analysis.emergence.original import Definitions
    from foreshock.analysis.emergence.run import EmergenceOptions, run_emergence

    options = EmergenceOptions(
        definitions=one_of("--definitions", definitions, Definitions),
        threshold=threshold,
        permutations=permutations,
        rate_models=rate_models,
        gp_means=_gp_means(gp),
        per_problem=per_problem,
        intentional=_types(all_types, intentional),
        figures=figures,
        seed=seed,
    )
    sources = _sources(run_dir, exploit_evals, control_evals, exploit_logprobs, control_logprobs)
    _say_emergence(run_emergence(sources, output_dir, options), as_json)


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
        intentional=_types(all_types, intentional),
        figures=figures,
        settings=ForecastSettings(seed=seed),
    )
    sources = _sources(run_dir, exploit_evals, control_evals, None, None)
    _say_forecast(run_forecast(sources, output_dir, options), as_json)


def _gp_means(text: str | None) -> tuple[MeanKind, ...]:
    from foreshock.analysis.gp.means import MeanKind
    from foreshock.errors import InputError

    names = listed(text)
    unknown = sorted(set(names) - set(MeanKind))
    if unknown:
        raise InputError(f"--gp names {', '.join(unknown)}; valid: {', '.join(MeanKind)}")
    return tuple(dict.fromkeys(map(MeanKind, names)))


def _types(all_types: bool, intentional: str | None) -> IntentionalTypes | None:
    from foreshock.errors import InputError
    from foreshock.jobs.records.exploit_types import INTENTIONAL, intentional_types

    if all_types and intentional is not None:
        raise InputError("--all-types and --intentional contradict each other; give one of them")
    if all_types:
        return None
    return INTENTIONAL if intentional is None else intentional_types(intentional)


def _sources(
    run_dirs: list[Path] | None,
    exploit: Path | None,
    control: Path | None,
    exploit_logprobs: Path | None,
    control_logprobs: Path | None,
) -> list[RunSource]:
    from foreshock.analysis.surfaces.cells import RunSource
    from foreshock.errors import InputError

    sources = [RunSource(path) for path in run_dirs or []]
    if exploit is not None:
        sources.append(RunSource(exploit, "exploit", exploit_logprobs))
    if control is not None:
        sources.append(RunSource(control, "control", control_logprobs))
    if not sources:
        raise InputError(
            "no run was named", fix="pass --run-dir DIR (once per run), or --exploit-evals DIR --control-evals DIR"
        )
    return sources


def _say_emergence(done: EmergenceRun, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"output_dir": str(done.directory), **done.summary, "notes": done.notes}, indent=2))
        return
    best = done.summary["best"]
    if isinstance(best, dict):
        typer.echo(
            f"best of {done.summary['n_cells_tried']}: {best['metric']} {best['model']} after "
            f"{best['cutoff_idx'] + 1} checkpoints, AUC {best['auc']:.3f} "
            f"[{best['auc_lower']:.3f}, {best['auc_upper']:.3f}], n = {best['n']}"
        )
        p = done.summary["p_value_of_best_given_all_tried"]
        if p is not None:
            typer.echo(f"probability of a best value this good by chance: {p:.3g}")
    table = done.directory / "gp_table.csv"
    if any("[" in str(name) for name in done.results["metric"].unique()):
        typer.echo("AUC of the GP's level by checkpoints seen:")
        typer.echo(table.read_text().rstrip())
    for note in done.notes:
        typer.echo(f"note: {note}")
    typer.echo(f"written: {done.directory}")


def _say_forecast(done: ForecastRun, as_json: bool) -> None:
    if as_json:
        document = {"output_dir": str(done.directory), **done.summary, "notes": done.notes}
        typer.echo(json.dumps(document | {"times": json.loads(done.times.to_json(orient="records"))}, indent=2))
        return
    for row in done.times.sort_values("p_by_horizon", ascending=False).to_dict("records"):
        median = row["step_median"]
        when = f", median step {median:g}" if median is not None and median == median else ""
        name = f"{row['run']} {row['exploit_type']}"
        typer.echo(
            f"{name}: {100 * row['p_by_horizon']:.0f}% by step {done.summary['horizon']:g} ({row['status']}{when})"
        )
    for note in done.notes:
        typer.echo(f"note: {note}")
    typer.echo(f"written: {done.directory}")
