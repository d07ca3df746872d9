"""`foreshock split`: rare rates from a model's own beginnings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from foreshock.batch.cli.command_jobs import JobClusterOption, JobProfileOption
from foreshock.batch.cli.options import CheckpointsOption, ForceOption, JsonOption, listed
from foreshock.batch.cli.tell import tell_gaps

if TYPE_CHECKING:
    from foreshock.batch.on_runs.splitting import Splitting


def split(
    run: Annotated[Path, typer.Argument(help="Run directory; samples at level 0 place the levels.")],
    particles: Annotated[int, typer.Option("--particles", min=2, help="Beginnings of a repeat.")] = 128,
    repeats: Annotated[int, typer.Option("--repeats", help="Independent repeats, for the standard error.")] = 8,
    levels: Annotated[
        str | None, typer.Option("--levels", help="Tokens at which beginnings are scored; default: from the run.")
    ] = None,
    power: Annotated[
        float | None,
        typer.Option("--power", help="Of the exploit code's probability, that makes the score; default: by a pilot."),
    ] = None,
    exploit_type: Annotated[
        list[str] | None, typer.Option("--exploit-type", help="Only this one; repeatable. Default: all.")
    ] = None,
    checkpoint: CheckpointsOption = None,
    cluster: JobClusterOption = None,
    profile: JobProfileOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show levels and what it would cost; start nothing.")
    ] = False,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Estimate exploit rates too rare to be sampled, by multilevel splitting: no donor, no traces, unbiased.

    Beginnings of the model's own answers are scored by how likely the exploit code has become; the nearer ones are
    copied and go on. Each repeat is kept: interrupted, or with more --repeats, the same command goes on. Where one
    unannounced word decides, it finds no more than plain attempts would, and says that its error is not to be trusted.
    Of a run that Slurm did it is a job, which goes on by itself after preemption.

    Example: foreshock split results/prefill_sensitivity/sweep-... --checkpoint 100 --exploit-type process_exit
    """
    from foreshock.batch.as_jobs.work import SPLIT
    from foreshock.batch.cli.command_jobs import job_of_run, show_script, submit_and_show
    from foreshock.batch.cli.display import say
    from foreshock.batch.on_runs.opened import OpenedRun
    from foreshock.batch.on_runs.splitting import SplitSettings, Splitting
    from foreshock.errors import InputError
    from foreshock.jobs.stop_flag import StopFlag

    try:
        places = tuple(int(part) for part in listed(levels))
    except ValueError:
        raise InputError(
            f"--levels is {levels!r}; valid: ascending numbers of tokens", fix="give --levels 16,32,64"
        ) from None
    settings = SplitSettings(particles, repeats, places, power, tuple(exploit_type or ()))
    with StopFlag().installed() as stop:
        opened = OpenedRun.read(run, checkpoint or ())
        tell_gaps(run)
        work = Splitting(opened, settings, stop, say)
        arguments = {"particles": particles, "repeats": repeats, "levels": places, "power": power,
                     "types": settings.types}  # fmt: skip
        job = job_of_run(opened, SPLIT, arguments, work.lock, checkpoint, force, cluster, profile)
        if dry_run:
            _show_plan(work, settings.particles * (settings.repeats + (power is None)), as_json)
            if job is not None and not as_json:
                show_script(work.lock.parent / "job", job)
            return
        if job is not None and work.is_missing(force=force):
            submit_and_show(work.lock.parent / "job", job, as_json)
            return
        report = work.measure(force=force)
    _show(run, [str(path) for path in report.files], report.n_kept, report.n_new, as_json)


def _show_plan(work: Splitting, beginnings: int, as_json: bool) -> None:
    if as_json:
        plan = [
            {
                "checkpoint": part.spec.checkpoint.name,
                "exploit_type": part.exploit_type,
                "tasks": len(part.tasks),
                "levels": list(part.levels),
                "answers": beginnings,
            }
            for part in work.parts
        ]
        typer.echo(json.dumps(plan, indent=2))
        return
    for part in work.parts:
        typer.echo(
            f"{part.spec.checkpoint.name}, {part.exploit_type}: {beginnings} answers over {len(part.tasks)} tasks, "
            f"scored at {', '.join(map(str, part.levels))} tokens"
        )


def _show(run: Path, files: list[str], n_kept: int, n_new: int, as_json: bool) -> None:
    from foreshock.analysis.splitting.of_runs import lines_for_people, splitting_table

    table = splitting_table(run)
    if as_json:
        rows = json.loads(table.to_json(orient="records"))
        typer.echo(json.dumps({"files": files, "kept": n_kept, "new": n_new, "rates": rows}, indent=2))
        return
    for line in lines_for_people(table):
        typer.echo(line)
    typer.echo(f"{n_new} new repeats, {n_kept} were there: {', '.join(files)}")
    typer.echo(f"in the report, with a donor's evidence where there is one: foreshock analyse {run}")
