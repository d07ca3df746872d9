"""`foreshock report`: one page about one or several runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from foreshock.batch.cli.analysis_options import AttemptsOption, IntentionalOption, ThresholdOption, newest_run
from foreshock.batch.cli.options import JsonOption
from foreshock.batch.cli.tell import tell_findings


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

    run_dirs = run_dir or [newest_run()]
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
    tell_findings(done.summary)
    typer.echo(f"report: {done.path}")
