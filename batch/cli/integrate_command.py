"""`foreshock integrate`: words needed against how natural they are to the model."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from foreshock.batch.cli.analysis_folders import results_of, run_context
from foreshock.batch.cli.analysis_options import FiguresOption, RunContextOption, ThresholdOption
from foreshock.batch.cli.options import JsonOption, listed

if TYPE_CHECKING:
    from foreshock.analysis.integration import IntegrationRun


def integrate(
    trajectory_csv: Annotated[
        Path, typer.Option("--trajectory-csv", help="trajectory_analysis.csv, or the folder that holds it.")
    ],
    logprob_dirs: Annotated[
        list[Path],
        typer.Option("--logprob-dirs", help="Run directories or their logprob/ folders; several may follow."),
    ],
    more: Annotated[list[str] | None, typer.Argument(hidden=True)] = None,
    prefill_levels: Annotated[
        list[str] | None, typer.Option("--prefill-levels", help="Join only these levels: 5,10,20 (default: all).")
    ] = None,
    logprob_threshold: Annotated[
        float | None,
        typer.Option(
            "--logprob-threshold",
            help="Nats, e.g. -55.39; default: mean log-probability of the 10-word prefix at the last checkpoint.",
        ),
    ] = None,
    threshold: ThresholdOption = 10,
    threshold_checkpoint: Annotated[
        int | None, typer.Option("--threshold-checkpoint", help="Checkpoint of the computed log-probability threshold.")
    ] = None,
    output_dir: Annotated[
        Path | None, typer.Option("--output-dir", help="Where to write; default: integrated/ beside the CSV.")
    ] = None,
    use_run_context: RunContextOption = False,
    figures: FiguresOption = True,
    as_json: JsonOption = False,
) -> None:
    """Set the words needed against how natural those words are to the model: which predicts the threshold better?

    Example: foreshock integrate --trajectory-csv RUN/analysis/trajectory --logprob-dirs RUN
    """
    from foreshock.analysis.integration import IntegrationOptions, run_integration

    if trajectory_csv.is_dir():
        trajectory_csv = _csv_in(trajectory_csv)
    extra_dirs, extra_levels = _split_values(more or [])
    options = IntegrationOptions(
        prefill_levels=_levels([*(prefill_levels or []), *extra_levels]),
        logprob_threshold=logprob_threshold,
        threshold=threshold,
        threshold_checkpoint=threshold_checkpoint,
    )
    folders = [*logprob_dirs, *extra_dirs]
    if use_run_context:
        settings = {"trajectory_csv": str(trajectory_csv), "logprob_dirs": list(map(str, folders)), **asdict(options)}
        with run_context(results_of(folders[0]), output_dir, "integrated_analysis", settings) as context:
            done = run_integration(trajectory_csv, folders, context / "integrated", options, figures)
    else:
        target = output_dir or trajectory_csv.parent / "integrated"
        done = run_integration(trajectory_csv, folders, target, options, figures)
    _say_integration(done, as_json)


def _csv_in(folder: Path) -> Path:
    """trajectory_analysis.csv of a trajectory folder: its own, else that of all_exploits/."""
    own = folder / "trajectory_analysis.csv"
    return own if own.is_file() else folder / "all_exploits" / "trajectory_analysis.csv"


def _split_values(values: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Values after the first of `--logprob-dirs A B` and `--prefill-levels 5 10`: folders, and levels."""
    levels = [value for value in values if re.fullmatch(r"[\d,]+", value) and not Path(value).exists()]
    return [Path(value) for value in values if value not in levels], levels


def _levels(values: Sequence[str]) -> tuple[int, ...] | None:
    from foreshock.errors import InputError

    parts = [part for value in values for part in listed(value)]
    for part in parts:
        if not part.isdigit():
            raise InputError(f"prefill level {part!r} is not a number of words; write --prefill-levels 5,10,20")
    return tuple(sorted({int(part) for part in parts})) or None


def _say_integration(done: IntegrationRun, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"output_dir": str(done.directory), **done.summary}, indent=2))
        return
    for line in _headline_lines(done.summary):
        typer.echo(line)
    times = done.summary["thresholds"]
    typer.echo(
        f"thresholds: {times['n_both']} tasks reach both, {times['n_token_only']} words only, "
        f"{times['n_logprob_only']} log-probability only, {times['n_neither']} neither"
    )
    gap = times["mean_steps_token_before_logprob"]
    if gap is not None:
        first = "word" if gap >= 0 else "log-probability"
        typer.echo(f"the {first} threshold fires {abs(gap):.1f} steps earlier on average")
    typer.echo(
        f"log-probability threshold: {done.summary['logprob_threshold']:.2f} "
        f"({done.summary['logprob_threshold_origin']})"
    )
    missing = done.summary["rows"]["missing"]
    if missing:
        typer.echo(f"note: {missing} rows have no score for their min-prefill prefix; they are left null")
    typer.echo(f"written: {done.directory}")


def _headline_lines(summary: dict[str, Any]) -> Iterator[str]:
    """R², p and n before the threshold, then what the tasks that never reach it add."""
    names = {"token": "words", "logprob": "log-probability"}
    yield "before the threshold:"
    for name, fit in summary["regressions"][summary["headline"]].items():
        if fit["r2"] is None:
            yield f"  {names[name]}: no regression ({fit['reason']})"
            continue
        clustered = "-" if fit["p_clustered"] is None else f"{fit['p_clustered']:.3g}"
        yield f"  {names[name]}: R² {fit['r2']:.4f}, p {fit['p']:.3g} (clustered by task {clustered}), n {fit['n']}"
    times = summary["time_to_threshold"]
    yield (
        f"time to the threshold: {times['n_tasks']} tasks start short of it, {times['n_reached']} reach it, "
        f"{times['n_censored']} are censored"
    )
    pairs = times["concordance"]
    for key, name in (("words", "words"), ("logprob", "log-probability"), ("difference", "difference")):
        found = pairs[key]
        if found["value"] is not None:
            limits = "" if found["lower95"] is None else f" ({found['lower95']:+.3f} to {found['upper95']:+.3f})"
            yield f"  concordance, {name}: {found['value']:.3f}{limits}"
    for key, unit in (("words", "10 words fewer"), ("logprob", "10 nats more")):
        model = times["hazard_ratios"][key]
        if model[key] is None:
            yield f"  hazard ratio per {unit}: none ({model['reason']})"
        else:
            found = model[key]
            limits = f"{found['lower95']:.2f} to {found['upper95']:.2f}"
            yield f"  hazard ratio per {unit}: {found['hazard_ratio']:.2f} ({limits}), p {found['p']:.2g}"
