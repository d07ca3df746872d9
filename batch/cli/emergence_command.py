"""`foreshock emergence`: which exploit types will emerge."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from foreshock.batch.cli.options import JsonOption, listed, one_of
from foreshock.batch.cli.outlook_options import (
    AllTypes,
    ControlEvals,
    ControlLogprobs,
    ExploitEvals,
    ExploitLogprobs,
    Figures,
    Intentional,
    RateThreshold,
    RunDirs,
    Seed,
    chosen_types,
    run_sources,
)
from foreshock.batch.cli.tell import tell_notes

if TYPE_CHECKING:
    from foreshock.analysis.emergence.run import EmergenceRun
    from foreshock.analysis.gp.means import MeanKind


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
        intentional=chosen_types(all_types, intentional),
        figures=figures,
        seed=seed,
    )
    sources = run_sources(run_dir, exploit_evals, control_evals, exploit_logprobs, control_logprobs)
    _say_emergence(run_emergence(sources, output_dir, options), as_json)


def _gp_means(text: str | None) -> tuple[MeanKind, ...]:
    from foreshock.analysis.gp.means import MeanKind
    from foreshock.errors import InputError

    names = listed(text)
    unknown = sorted(set(names) - set(MeanKind))
    if unknown:
        raise InputError(f"--gp names {', '.join(unknown)}; valid: {', '.join(MeanKind)}")
    return tuple(dict.fromkeys(map(MeanKind, names)))


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
    tell_notes(done.notes)
    typer.echo(f"written: {done.directory}")
