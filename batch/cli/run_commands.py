"""Commands over whole runs: run, plan, resume, status, ls."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from foreshock.batch.cli.endpoint_options import BaseUrlOption, ServedModelOption
from foreshock.batch.cli.options import JsonOption, ResultsOption, RunDirArgument

if TYPE_CHECKING:
    from foreshock.batch.config import RunConfig
    from foreshock.batch.running.run import RunResult

ConfigArgument = Annotated[
    Path | None,
    typer.Argument(help="Run configuration in YAML (docs/configuration.md). Optional with --sensitivity-run."),
]
OverridesArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Configuration keys to replace, e.g. sampling.attempts=5."),
]
ClusterOption = Annotated[
    str | None, typer.Option("--cluster", help="local (worker processes), slurm, or inline (this process).")
]
SensitivityOption = Annotated[
    Path | None,
    typer.Option(
        "--sensitivity-run",
        help="Sample again what an earlier run sampled: checkpoints, levels and sources from its config.yaml; `newest` "
        "means the newest under results/prefill_sensitivity/. To analyse a run that is there: foreshock analyse RUN.",
    ),
]
SkipLogprobOption = Annotated[bool, typer.Option("--skip-logprob", help="Do not score the prefills.")]
SkipAnalysisOption = Annotated[
    bool, typer.Option("--skip-analysis", help="Stop at the tables: no analyses, no report.")
]
KeepInconsistentOption = Annotated[
    bool,
    typer.Option(
        "--keep-inconsistent",
        help="Run problems that `foreshock check` finds inconsistent, instead of leaving them out.",
    ),
]
AdaptiveOption = Annotated[
    bool | None,
    typer.Option(
        "--adaptive/--no-adaptive",
        help="After the sweep, spend a budget of unprompted attempts where they narrow the estimates most.",
    ),
]
StrictOption = Annotated[
    bool | None,
    typer.Option("--strict/--no-strict", help="Workers of another commit or image than planned compute nothing."),
]
WorkersOption = Annotated[int | None, typer.Option("--workers", min=1, help="Worker processes.")]


def _configuration(
    config: Path | None,
    overrides: list[str],
    sensitivity_run: Path | None,
    cluster: str | None,
    skip_logprob: bool,
    skip_analysis: bool,
    workers: int | None,
    adaptive: bool | None = None,
    base_url: str | None = None,
    served_model: str | None = None,
    keep_inconsistent: bool = False,
    strict: bool | None = None,
) -> RunConfig:
    """The configuration from its file or an earlier run, with the command line's overrides."""
    from foreshock.batch.config_file import load_config, load_yaml, parse_config, with_endpoint, with_overrides
    from foreshock.batch.earlier_runs import config_from_sensitivity_run, newest_run

    if config is not None and "=" in config.name and not config.exists():
        config, overrides = None, [str(config), *overrides]
    if config is None and sensitivity_run is None:
        sensitivity_run = Path("newest")
    if sensitivity_run is not None:
        folder = newest_run(Path("results")).root if str(sensitivity_run) == "newest" else sensitivity_run
        sections = load_yaml(config)[0] if config is not None else {}
        loaded = config_from_sensitivity_run(folder, sections or {}, config)
    else:
        assert config is not None
        loaded = load_config(config)
    data = with_overrides(loaded, overrides).to_yaml_dict()
    if cluster is not None:
        data["execution"]["cluster"] = cluster
    if workers is not None:
        data["execution"]["workers"] = workers
    if skip_logprob:
        data["logprob"]["enabled"] = False
    if skip_analysis:
        data["analysis"]["enabled"] = False
    if adaptive is not None:
        data["adaptive"]["enabled"] = adaptive
    if keep_inconsistent:
        data["problems"]["keep_inconsistent"] = True
    if strict is not None:
        data["execution"]["strict"] = strict
    data["engine"] = with_endpoint(data["engine"], base_url, served_model)
    return parse_config(data, config)


def run(
    config: ConfigArgument = None,
    overrides: OverridesArgument = None,
    sensitivity_run: SensitivityOption = None,
    cluster: ClusterOption = None,
    skip_logprob: SkipLogprobOption = False,
    skip_analysis: SkipAnalysisOption = False,
    workers: WorkersOption = None,
    adaptive: AdaptiveOption = None,
    base_url: BaseUrlOption = None,
    served_model: ServedModelOption = None,
    keep_inconsistent: KeepInconsistentOption = False,
    strict: StrictOption = None,
    run_dir: Annotated[
        Path | None, typer.Option("--run-dir", help="Directory of the new run; default: a dated one in results/.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything and show the plan; start nothing.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Run a sweep: checkpoints x prefill levels, sampled, verified, scored, aggregated, analysed, reported.

    Interrupt it with Ctrl-C at any time; `foreshock resume` goes on from the last finished batch.
    `foreshock analyse RUN` analyses a run that is there and samples nothing.

    Example: foreshock run sweep.yaml sampling.attempts=5 'prefill.levels=[0,10]'
    """
    from foreshock.batch.cli.display import hooks
    from foreshock.batch.running.run import command_line, require_complete
    from foreshock.batch.running.run import run as run_sweep

    settings = _configuration(
        config,
        overrides or [],
        sensitivity_run,
        cluster,
        skip_logprob,
        skip_analysis,
        workers,
        adaptive,
        base_url,
        served_model,
        keep_inconsistent,
        strict,
    )
    if dry_run:
        _show_plan(settings, as_json)
        return
    result = run_sweep(settings, command_line(), hooks(), run_dir)
    _show_result(result, as_json)
    require_complete(result)


def plan(
    config: ConfigArgument = None,
    overrides: OverridesArgument = None,
    sensitivity_run: SensitivityOption = None,
    cluster: ClusterOption = None,
    skip_logprob: SkipLogprobOption = False,
    skip_analysis: SkipAnalysisOption = False,
    workers: WorkersOption = None,
    adaptive: AdaptiveOption = None,
    base_url: BaseUrlOption = None,
    served_model: ServedModelOption = None,
    keep_inconsistent: KeepInconsistentOption = False,
    strict: StrictOption = None,
    emit_sbatch: Annotated[
        Path | None,
        typer.Option(
            "--emit-sbatch",
            help="Make the run directory and write plain sbatch scripts and submit.sh into this folder, "
            "to inspect and submit by hand.",
        ),
    ] = None,
    calibrate: Annotated[
        bool,
        typer.Option("--calibrate", help="First run a short job of this plan (one checkpoint, two levels) to measure."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what a run would do: cells, rows, array tasks, skipped problems and estimated time. Starts nothing.

    Times come from what earlier runs in the same results directory measured with models of about this size, else from
    the Slurm profile's guesses, scaled to the model; the last line says which.

    Example: foreshock plan sweep.yaml --cluster slurm --calibrate
    """
    where = "slurm" if emit_sbatch else cluster
    settings = _configuration(
        config,
        overrides or [],
        sensitivity_run,
        where,
        skip_logprob,
        skip_analysis,
        workers,
        adaptive,
        base_url,
        served_model,
        keep_inconsistent,
        strict,
    )
    if calibrate:
        from foreshock.batch.cli.display import hooks
        from foreshock.batch.running.calibrate import calibrate as measure
        from foreshock.batch.running.run import command_line

        measure(settings, command_line(), hooks(), lambda text: typer.echo(text, err=True))
    _show_plan(settings, as_json)
    if emit_sbatch is not None:
        from foreshock.batch.running.emit import emit_run
        from foreshock.batch.running.run import command_line

        layout = emit_run(settings, command_line(), emit_sbatch)
        typer.echo(f"run:    {layout.root}\nsubmit: bash {emit_sbatch / 'submit.sh'}", err=as_json)


def resume(
    run_dir: RunDirArgument = None,
    cluster: ClusterOption = None,
    workers: WorkersOption = None,
    strict: StrictOption = None,
    analyse: Annotated[
        bool,
        typer.Option("--analyse", help="Of a Slurm run that is complete: aggregate and analyse here, not in a job."),
    ] = False,
    results_dir: ResultsOption = Path("results"),
    as_json: JsonOption = False,
) -> None:
    """Do what is missing of a run and analyse it again. Never repeats a finished batch.

    On Slurm, what was refused or never submitted is planned anew from the profile as it is now, a job aggregates and
    analyses, and a run that is complete and analysed is left alone. Example: foreshock resume RUN_DIR
    """
    from foreshock.batch.cli.command_jobs import resubmit
    from foreshock.batch.cli.display import hooks
    from foreshock.batch.config_file import parse_config
    from foreshock.batch.earlier_runs import newest_run
    from foreshock.batch.executors.command_job import is_command_job
    from foreshock.batch.running.run import require_complete
    from foreshock.batch.running.run import resume as resume_run

    def override(stored: RunConfig) -> RunConfig:
        data = stored.to_yaml_dict()
        if cluster is not None:
            data["execution"]["cluster"] = cluster
        if workers is not None:
            data["execution"]["workers"] = workers
        if strict is not None:
            data["execution"]["strict"] = strict
        return parse_config(data)

    folder = run_dir if run_dir is not None else newest_run(results_dir).root
    if is_command_job(folder):
        resubmit(folder, as_json)
        return
    result = resume_run(folder, hooks(), override, here=analyse)
    _show_result(result, as_json)
    require_complete(result)


def status(
    run_dir: RunDirArgument = None,
    watch: Annotated[bool, typer.Option("--watch", help="Refresh until the run ends.")] = False,
    results_dir: ResultsOption = Path("results"),
    as_json: JsonOption = False,
) -> None:
    """Show how far a run is: every checkpoint x level, rows per second, exploit rate so far.

    Example: foreshock status --watch
    """
    from foreshock.batch.cli.command_jobs import show_job
    from foreshock.batch.cli.status_view import show_status, watch_status
    from foreshock.batch.earlier_runs import newest_run
    from foreshock.batch.executors.command_job import is_command_job
    from foreshock.batch.status.read import read_status
    from foreshock.jobs.records.layout import RunLayout

    layout = RunLayout(run_dir) if run_dir is not None else newest_run(results_dir)
    if is_command_job(layout.root):
        show_job(layout.root, as_json)
    elif as_json:
        typer.echo(json.dumps(read_status(layout).to_json(), indent=2))
    elif watch:
        watch_status(layout)
    else:
        show_status(layout)


def ls(results_dir: ResultsOption = Path("results"), as_json: JsonOption = False) -> None:
    """List runs, newest first.

    Example: foreshock ls --results-dir results
    """
    from rich.console import Console
    from rich.table import Table

    from foreshock.batch.status.read import list_runs

    runs = list_runs(results_dir)
    if as_json:
        typer.echo(json.dumps(runs, indent=2))
        return
    if not runs:
        typer.echo(f"no runs under {results_dir / 'prefill_sensitivity'}; start one with: foreshock run CONFIG.yaml")
        return
    table = Table("run", "status", "started", "rows", box=None, pad_edge=False)
    for item in runs:
        table.add_row(item["run"], item["status"], item["started"] or "", f"{item['rows_done']}/{item['rows_total']}")
    Console().print(table)


def _show_plan(settings: RunConfig, as_json: bool) -> None:
    from foreshock.batch.cli.plan_view import print_plan
    from foreshock.batch.planning.make_plan import make_plan
    from foreshock.batch.planning.summary import summarise
    from foreshock.batch.site import resolve_site

    site = resolve_site(settings)
    summary = summarise(make_plan(settings, image=site.image), site)
    if as_json:
        typer.echo(json.dumps(summary, indent=2))
    else:
        print_plan(summary)


def _show_result(result: RunResult, as_json: bool) -> None:
    document: dict[str, Any] = {
        "run_dir": str(result.layout.root),
        "complete": result.complete,
        "submitted": result.execution.submitted,
        "missing_shards": len(result.execution.missing),
        "rows": result.aggregate.to_json() if result.aggregate else None,
        "report": str(result.layout.report) if result.layout.report.is_file() else None,
        "notes": result.analysis.notes if result.analysis else [],
    }
    if as_json:
        typer.echo(json.dumps(document, indent=2))
        return
    if result.aggregate is not None:
        rows = result.aggregate
        typer.echo(
            f"{rows.n_eval} eval rows, {rows.n_logprob} logprob rows, {rows.n_ground_truth} ground-truth rows; "
            f"{rows.n_errors} errors, {rows.n_skipped} tasks skipped: no prefill"
        )
        if rows.n_exploit_logprob:
            typer.echo(f"{rows.n_exploit_logprob} scores of exploit code")
        if rows.n_extra:
            typer.echo(f"{rows.n_extra} further unprompted attempts in adaptive rounds")
    for note in document["notes"]:
        typer.echo(f"note: {note}")
    typer.echo(f"run:    {result.layout.root}")
    if document["report"]:
        typer.echo(f"report: {document['report']}")
    if result.execution.submitted:
        typer.echo(f"submitted; follow it with: foreshock status {result.layout.root} --watch")
