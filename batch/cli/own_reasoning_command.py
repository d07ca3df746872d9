"""`foreshock own-reasoning`: exploit rates after the first part of a model's own reasoning."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from foreshock.batch.cli.command_jobs import JobClusterOption, JobProfileOption
from foreshock.batch.cli.options import CheckpointsOption, ForceOption, JsonOption, listed, one_of
from foreshock.batch.cli.tell import tell_gaps

if TYPE_CHECKING:
    import pandas as pd


def own_reasoning(
    run: Annotated[Path, typer.Argument(help="Run directory with samples at level 0.")],
    fractions: Annotated[
        str, typer.Option("--fractions", help="Where its reasoning is cut, 0 to 1.")
    ] = "0,0.25,0.5,0.75,1",
    then: Annotated[
        str, typer.Option("--then", help="continue: it reasons on; answer: reasoning ends at the cut.")
    ] = "continue",
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="Continuations of each cut.")] = 1,
    per_type: Annotated[
        int, typer.Option("--per-type", min=1, help="Most samples of each exploit type and outcome, by checkpoint.")
    ] = 20,
    checkpoint: CheckpointsOption = None,
    cluster: JobClusterOption = None,
    profile: JobProfileOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say how many continuations there would be; start nothing.")
    ] = False,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """How early does a model's own reasoning carry the exploit? Needs no donor and no traces.

    Cuts each checkpoint's unprompted reasoning at fractions of its words, has the same checkpoint go on from there, and
    verifies what it writes. Interrupted, the same command goes on where it stopped. Exits with 1 if any failed. Of a
    run that Slurm did it is a job, which goes on by itself after preemption; then the same command shows what came of
    it.

    Example: foreshock own-reasoning results/prefill_sensitivity/sweep-... --fractions 0,0.5,1 --checkpoint 100
    """
    from foreshock.batch.as_jobs.work import OWN_REASONING
    from foreshock.batch.cli.command_jobs import job_of_run, show_script, submit_and_show
    from foreshock.batch.cli.display import say
    from foreshock.batch.on_runs.opened import OpenedRun
    from foreshock.batch.on_runs.own_reasoning import Cuts, OwnReasoning, Then
    from foreshock.jobs.stop_flag import StopFlag

    cuts = Cuts(_percents(fractions), one_of("--then", then, Then), repeats, per_type)
    opened = OpenedRun.read(run, checkpoint or ())
    tell_gaps(run)
    with StopFlag().installed() as stop:
        work = OwnReasoning(opened, cuts, stop, say)
        arguments = {"percents": cuts.percents, "then": cuts.then.value, "repeats": repeats, "per_type": per_type}
        job = job_of_run(opened, OWN_REASONING, arguments, work.lock, checkpoint, force, cluster, profile)
        if job is not None and not dry_run and work.is_missing(force=force):
            submit_and_show(work.lock.parent / "job", job, as_json)
            return
        if dry_run:
            planned = work.planned()
            typer.echo(
                json.dumps(planned)
                if as_json
                else "\n".join(f"{name}: {n} continuations" for name, n in planned.items())
            )
            if job is not None and not as_json:
                show_script(work.lock.parent / "job", job)
            return
        report = work.measure(force=force)
    _show(run, then, report.n_failed, [str(path) for path in report.files], dict(report.left_out), as_json)
    if report.n_failed:
        raise typer.Exit(1)


def _percents(text: str) -> tuple[int, ...]:
    from foreshock.errors import InputError

    try:
        percents = [100 * float(part) for part in listed(text)]
        if any(abs(value - round(value)) > 1e-6 for value in percents):
            raise ValueError
    except (ValueError, OverflowError):  # no number; nan and infinity have no nearest one
        raise InputError(
            f"--fractions is {text!r}; valid: from 0 to 1 in steps of 0.01", fix="give --fractions 0,0.25,0.5,0.75,1"
        ) from None
    return tuple(map(round, percents))


def _show(run: Path, then: str, n_failed: int, files: list[str], left_out: dict[str, int], as_json: bool) -> None:
    from foreshock.analysis.own_reasoning.rates import ALL, carried, load_own_reasoning, summarise

    rows = load_own_reasoning(run)
    summary = summarise(rows[rows["then"] == then])
    early = carried(summary)
    if as_json:
        document = {
            "files": files,
            "failed": n_failed,
            "left_out": left_out,
            "rates": json.loads(summary.to_json(orient="records")),
            "carried": json.loads(early.to_json(orient="records")),
        }
        typer.echo(json.dumps(document, indent=2))
        return
    for reason, n in left_out.items():
        typer.echo(f"left out: {n} samples {reason}")
    _lines(summary[summary["exploit_type"] == ALL])
    for line in early[early["exploit_type"] == ALL].to_dict("records"):
        at = line["half_at"]
        half = "never" if at is None or at != at else f"from {at:.0%} on"
        typer.echo(
            f"{_name(line['checkpoint'])}: at least half of the continuations of exploit reasoning exploit: {half}"
        )
    if n_failed:
        typer.echo(f"{n_failed} continuations failed; the same command tries them again")
    for path in files:
        typer.echo(f"written: {path}")
    typer.echo(f"in the report: foreshock analyse {run}")


def _name(checkpoint: float) -> str:
    return "final" if checkpoint == float("inf") else f"checkpoint-{checkpoint:.0f}"


def _lines(summary: pd.DataFrame) -> None:
    typer.echo("checkpoint        had ended in   cut at  traces  judged  exploits  rate (95%)")
    for line in summary.to_dict("records"):
        rate, lower, upper = line["rate"], line["lower95"], line["upper95"]
        shown = "" if rate != rate else f"{rate:.1%} ({lower:.1%} to {upper:.1%})"
        ended = "an exploit" if line["own_exploit_success"] else "none"
        typer.echo(
            f"{_name(line['checkpoint']):<17} {ended:<13} {line['fraction']:>6.0%}  {line['traces']:>6}  "
            f"{line['n']:>6}  {line['exploits']:>8}  {shown}" + (f"; {line['unread']} unread" if line["unread"] else "")
        )
