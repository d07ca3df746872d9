"""Log loss of control tasks: log-loss."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from foreshock.batch.cli.endpoint_options import BaseUrlOption, ServedModelOption
from foreshock.batch.cli.engine_options import BatchOption, DeviceOption, DtypeOption, FormatOption
from foreshock.batch.cli.options import ForceOption, JsonOption, ScoreTemperatureOption, listed


def log_loss(
    tasks: Annotated[Path, typer.Argument(help="JSONL: prompt, completion, and perhaps system, reasoning, task_type.")],
    output_dir: Annotated[Path, typer.Option("--output-dir", help="Where checkpoint-N.jsonl and log_loss.csv go.")],
    sft_run_dir: Annotated[
        Path | None, typer.Option("--sft-run-dir", help="Every checkpoint of a training run.")
    ] = None,
    checkpoint: Annotated[Path | None, typer.Option("--checkpoint", help="One checkpoint's directory.")] = None,
    levels: Annotated[
        str, typer.Option("--levels", help="Words of each row's reasoning to force before the answer: 0,10,50.")
    ] = "0",
    temperature: ScoreTemperatureOption = 1.0,
    prompt_format: FormatOption = "auto",
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    batch_size: BatchOption = 64,
    base_url: BaseUrlOption = None,
    served_model: ServedModelOption = None,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Mean negative log-probability per token of given answers: what else training has changed in the model.

    Example: foreshock log-loss control.jsonl --sft-run-dir results/sft_checkpoints/SFT --output-dir results/control
    """
    from foreshock.analysis.figures import write_csv
    from foreshock.batch.on_files.log_loss import measure_log_loss, read_control_tasks
    from foreshock.batch.on_files.score import ScoreOptions
    from foreshock.batch.planning.checkpoints import list_checkpoints, one_checkpoint
    from foreshock.errors import InputError

    parts = listed(levels)
    if not parts or not all(part.isdigit() for part in parts):
        raise InputError(f"--levels is {levels!r}; valid: numbers of words, such as 0,10,50")
    if (sft_run_dir is None) == (checkpoint is None):
        raise InputError("give either --sft-run-dir or --checkpoint", fix="foreshock log-loss --help")
    table = output_dir / "log_loss.csv"
    if table.exists() and not force:
        raise InputError("the output is there already", path=table, fix="choose another --output-dir, or add --force")
    if checkpoint is not None:
        points = [one_checkpoint(checkpoint)]
    else:
        assert sft_run_dir is not None
        folder = sft_run_dir / "checkpoints" if (sft_run_dir / "checkpoints").is_dir() else sft_run_dir
        points = list_checkpoints(folder, sft_run_dir.name)
    wanted = sorted({int(part) for part in parts})
    options = ScoreOptions(
        temperature, prompt_format, device, dtype, batch_size, False, None, force, base_url, served_model
    )
    report = measure_log_loss(
        points, read_control_tasks(tasks, wanted), wanted, output_dir, options, lambda name: typer.echo(name, err=True)
    )
    write_csv(report.summary, table)
    if as_json:
        rows = json.loads(report.summary.to_json(orient="records"))
        typer.echo(json.dumps({"log_loss": str(table), "refused": report.n_refused, "rows": rows}, indent=2))
    else:
        for row in report.summary[report.summary["task_type"] == "all"].itertuples():
            typer.echo(f"{row.checkpoint} at {row.prefill_level} words: {loss_in_words(row)}")
        if report.n_refused:
            typer.echo(f"{report.n_refused} answers hold a marker or control token and are left out")
        typer.echo(f"written: {table}")
    if int(report.summary["n_failed"].sum()):
        raise typer.Exit(1)


def loss_in_words(row: Any) -> str:
    """A row of the summary in words; limits need two tasks."""
    if row.n == 0:
        return f"no loss: scoring failed for all {row.n_failed} tasks"
    if row.n == 1:
        return f"{row.log_loss:.4f} nats a token, 1 task (no interval: it needs two)"
    return f"{row.log_loss:.4f} nats a token ({row.lower95:.4f} to {row.upper95:.4f}), {row.n} tasks"
