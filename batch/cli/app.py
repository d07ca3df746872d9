"""The `foreshock` command: every subcommand, registered by name.

Command modules import nothing heavy at the top, so `--help` answers at once; each command imports its work when it
runs.
"""

from __future__ import annotations

import typer

from foreshock.batch.cli import (
    aggregate_command,
    analyse_command,
    calibration_command,
    cancel_command,
    check_command,
    compare_command,
    demo_command,
    doctor_command,
    donor_command,
    emergence_command,
    eval_command,
    exploit_logprob_command,
    export_command,
    forecast_command,
    gp_command,
    image_commands,
    import_command,
    init_command,
    integrate_command,
    log_loss_command,
    logprob_command,
    logs_command,
    ls_command,
    own_reasoning_command,
    pivots_command,
    plan_command,
    prefetch_command,
    prompt_command,
    rates_command,
    report_command,
    rescore_command,
    resume_command,
    run_command,
    split_command,
    status_command,
    traces_command,
    trajectory_command,
    view_command,
    watch_command,
)
from foreshock.batch.cli.verifier_options import VerifierCommand

app = typer.Typer(
    name="foreshock",
    help=(
        "See reward hacking coming before it shows.\n\n"
        "foreshock forces the first N words of exploit reasoning into each training checkpoint's chain of thought, "
        "measures how small a kick suffices and how natural the kick is to the model, and turns that into statements "
        "about the unprompted exploit rate, now and later in training.\n\n"
        "Start with [bold]foreshock demo[/bold], then [bold]foreshock init[/bold] beside your checkpoints."
    ),
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_RUNS = "Runs"
_PARTS = "Parts of a run, on any files in the same formats"
_ANALYSIS = "Analysis of run directories, ours or another tool's"
_MACHINE = "This machine"

app.command("init", rich_help_panel=_RUNS)(init_command.init)
app.command("run", rich_help_panel=_RUNS)(run_command.run)
app.command("watch", rich_help_panel=_RUNS)(watch_command.watch)
app.command("prefetch", rich_help_panel=_RUNS)(prefetch_command.prefetch)
app.command("plan", rich_help_panel=_RUNS)(plan_command.plan)
app.command("prompt", rich_help_panel=_RUNS)(prompt_command.prompt)
app.command("resume", rich_help_panel=_RUNS)(resume_command.resume)
app.command("status", rich_help_panel=_RUNS)(status_command.status)
app.command("logs", rich_help_panel=_RUNS)(logs_command.logs)
app.command("cancel", rich_help_panel=_RUNS)(cancel_command.cancel)
app.command("ls", rich_help_panel=_RUNS)(ls_command.ls)
app.command("demo", rich_help_panel=_RUNS)(demo_command.demo)
app.command("eval", cls=VerifierCommand, rich_help_panel=_PARTS)(eval_command.evaluate)
app.command("check", cls=VerifierCommand, rich_help_panel=_PARTS)(check_command.check)
app.command("logprob", rich_help_panel=_PARTS)(logprob_command.logprob)
app.command("exploit-logprob", rich_help_panel=_PARTS)(exploit_logprob_command.exploit_logprob)
app.command("log-loss", rich_help_panel=_PARTS)(log_loss_command.log_loss)
app.command("pivots", rich_help_panel=_PARTS)(pivots_command.pivots)
app.command("own-reasoning", rich_help_panel=_PARTS)(own_reasoning_command.own_reasoning)
app.command("split", rich_help_panel=_PARTS)(split_command.split)
app.command("donor", rich_help_panel=_PARTS)(donor_command.donor)
app.command("traces", cls=VerifierCommand, rich_help_panel=_PARTS)(traces_command.traces)
app.command("aggregate", rich_help_panel=_PARTS)(aggregate_command.aggregate)
app.command("rescore", cls=VerifierCommand, rich_help_panel=_PARTS)(rescore_command.rescore)
app.command("analyse", rich_help_panel=_ANALYSIS)(analyse_command.analyse)
app.command("trajectory", rich_help_panel=_ANALYSIS)(trajectory_command.trajectory)
app.command("integrate", rich_help_panel=_ANALYSIS)(integrate_command.integrate)
app.command("rates", rich_help_panel=_ANALYSIS)(rates_command.rates)
app.command("gp", rich_help_panel=_ANALYSIS)(gp_command.gp)
app.command("calibration", rich_help_panel=_ANALYSIS)(calibration_command.calibration)
app.command("forecast", rich_help_panel=_ANALYSIS)(forecast_command.forecast)
app.command("emergence", rich_help_panel=_ANALYSIS)(emergence_command.emergence)
app.command("compare", rich_help_panel=_ANALYSIS)(compare_command.compare)
app.command("view", rich_help_panel=_ANALYSIS)(view_command.view)
app.command("export", rich_help_panel=_ANALYSIS)(export_command.export)
app.command("import", rich_help_panel=_ANALYSIS)(import_command.import_samples)
app.command("report", rich_help_panel=_ANALYSIS)(report_command.report)
app.add_typer(image_commands.app, name="image", rich_help_panel=_MACHINE)
app.command("doctor", rich_help_panel=_MACHINE)(doctor_command.doctor)


def _version(wanted: bool) -> None:
    if wanted:
        from foreshock import __version__

        typer.echo(f"foreshock {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Show the version."),
) -> None:
    """Options of every command."""
