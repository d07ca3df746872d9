"""Analysis on run directories: trajectory, integrate, report. Also on files that other tools wrote."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from foreshock.batch.cli.options import JsonOption, listed

if TYPE_CHECKING:
    from foreshock.analysis.integration import IntegrationRun
    from foreshock.analysis.trajectory import TrajectoryRun

FiguresOption = Annotated[bool, typer.Option("--figures/--no-figures", help="Draw the figures.")]
ThresholdOption = Annotated[
    int, typer.Option("--threshold", min=0, help="Words at or below which a task is easily exploitable.")
]
IntentionalOption = Annotated[
    str,
    typer.Option("--intentional", help="Intentional exploit types: current, original, or a list with commas."),
]
AttemptsOption = Annotated[
    int | None,
    typer.Option("--attempts", min=1, help="Count only the first K attempts, to compare sweeps at equal attempts."),
]


def trajectory(
    run_dir: Annotated[
        Path | None, typer.Option("--run-dir", help="Run directory; default: the newest under results/.")
    ] = None,
    output_dir: Annotated[
        Path | None,
        typer.Option("--output-dir", help="Where to write; default: results/trajectory_analysis/RUN."),
    ] = None,
    threshold: ThresholdOption = 10,
    attempts: AttemptsOption = None,
    intentional: IntentionalOption = "current",
    use_run_context: Annotated[
        bool,
        typer.Option(
            "--use-run-context",
            help="Write into a new dated directory with config, metadata and status: in --output-dir, or "
            "results/full_analysis.",
        ),
    ] = False,
    figures: FiguresOption = True,
    as_json: JsonOption = False,
) -> None:
    """Min prefill, accessibility and time to threshold of every task, for all and for intentional exploits.

    Example: foreshock trajectory --run-dir RUN
    """
    from foreshock.analysis.trajectory import TrajectoryOptions, run_trajectory
    from foreshock.jobs.records.exploit_types import intentional_types
    from foreshock.jobs.records.layout import ResultsLayout

    run_dir = run_dir or _newest_run()
    results = results_of(run_dir)
    options = TrajectoryOptions(threshold=threshold, attempts=attempts, intentional=intentional_types(intentional))
    if use_run_context:
        settings = {"run_dir": str(run_dir), "threshold": threshold, "attempts": attempts, "intentional": intentional}
        with _run_context(results, output_dir, "trajectory_analysis", settings) as context:
            target = context / "trajectory"
            done = run_trajectory(run_dir, target, options, figures)
    else:
        target = output_dir or ResultsLayout(results).trajectory(run_dir.resolve().name)
        done = run_trajectory(run_dir, target, options, figures)
    _say_trajectory(done, target, as_json)


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
    use_run_context: Annotated[
        bool,
        typer.Option(
            "--use-run-context",
            help="Write into a new dated directory with config, metadata and status: in --output-dir, or "
            "results/full_analysis.",
        ),
    ] = False,
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
        with _run_context(results_of(folders[0]), output_dir, "integrated_analysis", settings) as context:
            done = run_integration(trajectory_csv, folders, context / "integrated", options, figures)
    else:
        target = output_dir or trajectory_csv.parent / "integrated"
        done = run_integration(trajectory_csv, folders, target, options, figures)
    _say_integration(done, as_json)


def report(
    run_dir: Annotated[
        list[Path] | None,
        typer.Option("--run-dir", help="Run directory; repeat to set runs side by side. Default: the newest."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="HTML file; default: report.html in the first run directory.")
    ] = None,
    threshold: ThresholdOption = 10,
    attempts: AttemptsOption = None,
    logprob_threshold: Annotated[float | None, typer.Option("--logprob-threshold", help="Nats.")] = None,
    intentional: IntentionalOption = "current",
    as_json: JsonOption = False,
) -> None:
    """One self-contained HTML page: what was run, what was found, and the numbers behind every figure.

    Rates and forecasts are those that a run's analysis found; where there are none, the page names the command that
    estimates them (`foreshock analyse`).

    Example: foreshock report --run-dir RUN --run-dir CONTROL_RUN --output report.html
    """
    from foreshock.analysis.report import ReportOptions, write_report
    from foreshock.jobs.records.exploit_types import intentional_types

    run_dirs = run_dir or [_newest_run()]
    target = output or run_dirs[0] / "report.html"
    options = ReportOptions(
        threshold=threshold,
        attempts=attempts,
        logprob_threshold=logprob_threshold,
        intentional=intentional_types(intentional),
    )
    done = write_report(run_dirs, target, options=options)
    if as_json:
        typer.echo(json.dumps({"report": str(done.path), "bytes": done.path.stat().st_size, "summary": done.summary}))
        return
    for sentence in done.summary:
        typer.echo(f"- {sentence}")
    typer.echo(f"report: {done.path}")


def _newest_run() -> Path:
    from foreshock.errors import InputError
    from foreshock.jobs.records.layout import ResultsLayout

    runs = ResultsLayout(Path("results")).runs()
    if not runs:
        raise InputError("no run under results/prefill_sensitivity", fix="name one with --run-dir")
    return runs[0].root


def results_of(run_dir: Path) -> Path:
    """The results/ directory that a run, or a folder of one, lies in; `results` here for one that lies elsewhere."""
    found = [above.parent for above in run_dir.resolve().parents[:2] if above.name == "prefill_sensitivity"]
    return found[0] if found else Path("results")


def new_analysis_folder(results: Path) -> Path:
    """A dated folder below `results`/full_analysis that is not there yet."""
    from foreshock.jobs.records.layout import ResultsLayout

    return _unused(ResultsLayout(results).full_analysis(datetime.now()))


def _unused(first: Path) -> Path:
    folder = first
    for i in range(2, 1000):
        if not folder.exists():
            break
        folder = first.with_name(f"{first.name}-{i}")
    return folder


@contextmanager
def _run_context(results: Path, below: Path | None, prefix: str, arguments: dict[str, Any]) -> Iterator[Path]:
    """A new full_analysis directory, or a dated one of `prefix` in the folder `below`, with config.yaml, metadata.json
    and a status.json that ends right."""
    import yaml

    from foreshock.batch.redact import redact_command
    from foreshock.batch.running.provenance import recorded_status, write_metadata
    from foreshock.batch.running.run import command_line
    from foreshock.code_version import short_commit
    from foreshock.durable import atomic_write_bytes
    from foreshock.jobs.records.layout import RunLayout, run_dir_name

    if below is None:
        context = RunLayout(new_analysis_folder(results))
    else:
        context = RunLayout(_unused(below / run_dir_name(prefix, datetime.now(), short_commit())))
    document = {"command": redact_command(command_line()), **arguments}
    atomic_write_bytes(context.config, yaml.safe_dump(document, sort_keys=False).encode())
    write_metadata(context)
    with recorded_status(context):
        yield context.root


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


def _say_trajectory(done: TrajectoryRun, target: Path, as_json: bool) -> None:
    if as_json:
        document = {"output_dir": str(target), "notes": list(done.notes), **done.summary}
        typer.echo(json.dumps(document, indent=2))
        return
    for name, summary in done.summary.items():
        if summary is None:
            typer.echo(f"{name}: no task of this kind")
            continue
        typer.echo(
            f"{name}: {summary['n_tasks_reaching_threshold']} of {summary['n_tasks']} tasks reach the threshold of "
            f"{summary['threshold']} words; attempts per level: {summary['attempts_per_level']}"
        )
    for note in done.notes:
        typer.echo(f"note: {note}")
    typer.echo(f"written: {target}")


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
