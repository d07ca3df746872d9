"""Analysis of runs that are there already: analyse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from foreshock.batch.cli.options import DonorConditionedOption, JsonOption, listed
from foreshock.batch.cli.tell import tell_findings, tell_notes

if TYPE_CHECKING:
    from foreshock.batch.reanalysis.run import PlannedRun, Request

_STAGES = ("forecast", "emergence", "rates", "gp", "calibration")
"""Analyses that can be left out by name."""


def analyse(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Run directories, foreshock's or another tool's; default: the newest in results/prefill_sensitivity."
        ),
    ] = None,
    labels: Annotated[
        str | None, typer.Option("--labels", help="What to call the runs: exploit,control. Default: their names.")
    ] = None,
    output_dir: Annotated[
        Path | None,
        typer.Option("--output-dir", help="Where to write; default: results/full_analysis/full_analysis-TIME."),
    ] = None,
    threshold: Annotated[
        int, typer.Option("--threshold", min=0, help="Words at or below which a task is easily exploitable.")
    ] = 10,
    logprob_threshold: Annotated[
        float | None, typer.Option("--logprob-threshold", help="Nats; default: computed from the data.")
    ] = None,
    attempts: Annotated[
        int | None, typer.Option("--attempts", min=1, help="Count only the first K attempts in trajectories.")
    ] = None,
    intentional: Annotated[
        str, typer.Option("--intentional", help="Intentional exploit types: current, original, or a list with commas.")
    ] = "current",
    logprob_dirs: Annotated[
        list[Path] | None,
        typer.Option("--logprob-dirs", help="Log-probabilities in place of the run's own logprob/; once per run."),
    ] = None,
    skip_logprob: Annotated[
        bool, typer.Option("--skip-logprob", help="Do not compute log-probabilities that are missing.")
    ] = False,
    rescore: Annotated[
        bool, typer.Option("--rescore", help="Compute all log-probabilities anew, also those that are there.")
    ] = False,
    checkpoint_dir: Annotated[
        list[Path] | None,
        typer.Option("--checkpoint-dir", help="Where a run's checkpoints are now; once per run."),
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option("--temperature", min=0.0, help="Sampling temperature of the runs, where config.yaml lacks it."),
    ] = None,
    donor_run: Annotated[Path | None, typer.Option("--donor-run", help="The donor's own run.")] = None,
    donor_conditioned: DonorConditionedOption = True,
    exclude_ids: Annotated[
        Path | None,
        typer.Option("--exclude-ids", help="File of task ids to leave out: one a line, or JSONL with task_id."),
    ] = None,
    exclude_exploit_types: Annotated[
        str | None, typer.Option("--exclude-exploit-types", help="Exploit types to leave out, with commas.")
    ] = None,
    without: Annotated[
        str | None, typer.Option("--without", help=f"Analyses to leave out: {', '.join(_STAGES)}; with commas.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done; write nothing.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Analyse existing runs: trajectory, missing scores, integration, rates, GP, forecast, emergence, report.

    Nothing is sampled again (`foreshock run --sensitivity-run` does that) and nothing is written into the runs.

    Example: foreshock analyse results/prefill_sensitivity/EXPLOIT results/prefill_sensitivity/CONTROL
    """
    from foreshock.batch.cli.analysis_folders import new_analysis_folder, results_of
    from foreshock.batch.reanalysis.run import Request, plan_reanalysis, reanalyse
    from foreshock.batch.reanalysis.view import LeftOut, read_ids
    from foreshock.batch.running.analyse import AnalysisSettings
    from foreshock.jobs.records.exploit_types import intentional_types
    from foreshock.jobs.records.layout import RunLayout

    folders = runs or [_newest()]
    if skip_logprob and rescore:
        _refuse("--skip-logprob and --rescore contradict each other; give one of them")
    left_out = LeftOut(
        read_ids(exclude_ids) if exclude_ids is not None else frozenset(), frozenset(listed(exclude_exploit_types))
    )
    request = Request(
        runs=tuple(RunLayout(folder) for folder in folders),
        settings=AnalysisSettings(
            threshold,
            logprob_threshold,
            attempts,
            intentional_types(intentional),
            donor_run,
            donor_conditioned,
            also=frozenset({"gp", "calibration"}),
            without=_without(without),
            all_below=True,
        ),
        labels=tuple(listed(labels)) or None,
        logprobs=tuple(logprob_dirs or ()),
        checkpoint_dirs=tuple(checkpoint_dir or ()),
        temperature=temperature,
        skip_logprob=skip_logprob,
        rescore=rescore,
        left_out=left_out,
    )
    planned = plan_reanalysis(request)
    target = output_dir or new_analysis_folder(results_of(folders[0]))
    if dry_run:
        _say_plan(planned, request, target, as_json)
        return
    done = reanalyse(request, planned, target, _document(request, planned), lambda text: typer.echo(text, err=as_json))
    if as_json:
        document = {
            "output_dir": str(target),
            "report": str(done.analysis.report),
            "summary": list(done.analysis.summary),
            "notes": list(done.notes),
        }
        typer.echo(json.dumps(document, indent=2))
        return
    tell_findings(done.analysis.summary)
    tell_notes(done.notes)
    typer.echo(f"written: {target}")
    typer.echo(f"report: {done.analysis.report}")


def _newest() -> Path:
    from foreshock.batch.earlier_runs import newest_run

    return newest_run(Path("results")).root


def _refuse(problem: str) -> None:
    from foreshock.errors import InputError

    raise InputError(problem)


def _without(text: str | None) -> frozenset[str]:
    names = listed(text)
    unknown = sorted(set(names) - set(_STAGES))
    if unknown:
        _refuse(f"--without names {', '.join(unknown)}; valid: {', '.join(_STAGES)}")
    return frozenset(names)


def _document(request: Request, planned: list[PlannedRun]) -> dict[str, object]:
    """config.yaml of the analysis."""
    from foreshock.batch.redact import redact_command
    from foreshock.batch.running.run import command_line

    settings = request.settings
    return {
        "command": redact_command(command_line()),
        "runs": {item.label: str(item.run.root.resolve()) for item in planned},
        "threshold": settings.threshold,
        "logprob_threshold": settings.logprob_threshold,
        "attempts": settings.attempts,
        "intentional": settings.intentional.to_json(),
        "donor_run": None if settings.donor_run is None else str(settings.donor_run),
        "conditioned": settings.conditioned,
        "without": sorted(settings.without),
        "logprob_dirs": [str(path) for path in request.logprobs],
        "skip_logprob": request.skip_logprob,
        "rescore": request.rescore,
        "exclude_ids": sorted(request.left_out.task_ids),
        "exclude_exploit_types": sorted(request.left_out.exploit_types),
    }


def _say_plan(planned: list[PlannedRun], request: Request, target: Path, as_json: bool) -> None:
    lines = [line for item in planned for line in item.lines()]
    stages = ["trajectory", "integrated", "rates", "gp", "calibration", "forecast"]
    stages += ["emergence"] * (len(planned) > 1)
    stages = [name for name in stages if name not in request.settings.without]
    if as_json:
        runs = [
            {
                "label": item.label,
                "run": str(item.run.root),
                "cells": len(item.run.eval_files()),
                "logprob_cells": len(item.logprobs),
                "to_compute": sorted(f"{cell.checkpoint}_prefill{cell.level}" for cell in item.scoring.cells),
                "stay_missing": len(item.scoring.missing) - len(item.scoring.cells),
                "why": item.scoring.why_not,
                "left_out_tasks": len(item.left_out),
            }
            for item in planned
        ]
        typer.echo(json.dumps({"output_dir": str(target), "runs": runs, "stages": stages}, indent=2))
        return
    for line in lines:
        typer.echo(line)
    typer.echo(f"analyses: {', '.join(stages)}, report")
    typer.echo(f"intentional exploit types: {request.settings.intentional}")
    typer.echo(f"would write: {target}")
