"""`foreshock rescore`: verify stored completions again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from foreshock.batch.cli.options import JsonOption
from foreshock.batch.cli.tell import tell_warnings
from foreshock.batch.cli.verifier_options import (
    AllowWeakSandboxOption,
    TimeoutOption,
    VerifierOption,
    VerifierOptionsOption,
    VerifierWorkersOption,
    parse_options,
)

if TYPE_CHECKING:
    from foreshock.batch.on_files.rescore import RescoreReport


def rescore(
    run_dir: Annotated[Path, typer.Argument(help="Run directory, with evals/*.samples.jsonl.")],
    verifier: VerifierOption = "builtin",
    problems: Annotated[
        str | None,
        typer.Option(
            "--problems",
            help="A JSONL or parquet file, hf://datasets/ORG/NAME@REVISION, or builtin; default: the problems that "
            "the run was planned with.",
        ),
    ] = None,
    split: Annotated[str | None, typer.Option("--split", help="Split of --problems, where it has several.")] = None,
    verifier_option: VerifierOptionsOption = None,
    workers: VerifierWorkersOption = None,
    timeout_s: TimeoutOption = 10.0,
    re_extract: Annotated[
        bool,
        typer.Option(
            "--re-extract",
            help="Take the code out of the stored responses again, instead of the stored code: repairs runs whose "
            "answers an earlier version could not read.",
        ),
    ] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where to write; default: RUN_DIR/rescore/VERIFIER.")
    ] = None,
    allow_weak_sandbox: AllowWeakSandboxOption = False,
    fail_on_change: Annotated[
        bool, typer.Option("--fail-on-change", help="End with status 1 when any verdict changed.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Verify a run's stored completions again, without generating, and report which verdicts changed.

    The run is left as it is: new rows go to RUN_DIR/rescore/VERIFIER/evals in the layout of a run, the differences to
    changes.jsonl beside it. Interrupted, the same command goes on where it stopped.

    Example: foreshock rescore results/prefill_sensitivity/my-run --re-extract
    """
    from foreshock.batch.cli.display import err, make_progress
    from foreshock.batch.on_files.rescore import rescore_problems, rescore_run
    from foreshock.errors import InputError
    from foreshock.jobs.records.layout import RunLayout
    from foreshock.jobs.verify.registry import create_verifier

    if not run_dir.is_dir():
        raise InputError("no such run directory", path=run_dir)
    layout = RunLayout(run_dir)
    known = rescore_problems(layout, problems, split)
    options: dict[str, Any] = {"workers": workers, "timeout_s": timeout_s, "allow_weak_sandbox": allow_weak_sandbox}
    with create_verifier(verifier, options | parse_options(verifier_option)) as judge, make_progress() as bar:
        task = bar.add_task("verifying", total=None, note="")
        report = rescore_run(
            layout,
            known,
            judge,
            output,
            lambda done, total: bar.update(task, completed=done, total=total),
            re_extract=re_extract,
        )
    if as_json:
        typer.echo(json.dumps(report.to_json(), indent=2))
    else:
        _show(report)
    if report.n_errors:
        err.print(f"[bold red]{report.n_errors} rows got no verdict[/]; run the same command again")
        raise typer.Exit(1)
    if fail_on_change and report.changes:
        raise typer.Exit(1)


def _show(report: RescoreReport) -> None:
    from foreshock.batch.cli.display import err, say

    document = report.to_json()
    tell_warnings(report.gaps)
    typer.echo(
        f"{report.n_rows} rows, {len(report.changes)} verdicts changed; "
        f"exploits {report.exploits_before} -> {report.exploits_after}"
    )
    for kind, count in document["changed"].items():
        typer.echo(f"  {count:6d}  {kind}")
    typer.echo(
        f"{report.n_verified} submissions verified with {report.verifier}, {report.n_reused} known from before; "
        f"written to {report.output}"
    )
    if report.n_code_changed:
        typer.echo(f"{report.n_code_changed} rows hold other code than before")
    if report.n_unjudged:
        typer.echo(f"{report.n_unjudged} rows hold no code to judge (code_status says why); they have no verdict")
    if report.n_without_sample:
        err.print(
            f"{report.n_without_sample} attempts have no row in a samples file, so their code is not known; the new "
            "tables lack them, and rates from these are of the others alone"
        )
    if report.n_unknown_tasks:
        say(f"{report.n_unknown_tasks} rows kept as they were: no problem for {', '.join(report.unknown_tasks[:5])}")
    if report.n_not_generated:
        err.print(f"{report.n_not_generated} rows kept as they were: their generation failed")
