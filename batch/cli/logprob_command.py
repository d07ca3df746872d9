"""`foreshock logprob`: log-probabilities of prefills, of one file or of a whole run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from foreshock.batch.cli.endpoint_options import BaseUrlOption, ServedModelOption
from foreshock.batch.cli.engine_options import BatchOption, DeviceOption, DtypeOption, FormatOption
from foreshock.batch.cli.options import ForceOption, JsonOption, ScoreTemperatureOption
from foreshock.batch.cli.prompt_options import (
    ClosingOption,
    OpeningOption,
    TemplateArgOption,
    parse_template_args,
)
from foreshock.batch.cli.tell import tell_gaps


def logprob(
    samples: Annotated[Path | None, typer.Argument(help="One samples file to score (with --checkpoint).")] = None,
    checkpoint: Annotated[Path | None, typer.Option("--checkpoint", help="Checkpoint that scores the file.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Logprob JSONL to write.")] = None,
    prefill_run_dir: Annotated[
        Path | None, typer.Option("--prefill-run-dir", help="Score a whole run: its directory.")
    ] = None,
    sft_run_dir: Annotated[
        Path | None, typer.Option("--sft-run-dir", help="Training run whose checkpoints score it.")
    ] = None,
    output_dir: Annotated[
        Path | None, typer.Option("--output-dir", help="Run directory to write logprob/ in; default: the run itself.")
    ] = None,
    max_samples: Annotated[int | None, typer.Option("--max-samples", min=1, help="At most this many per cell.")] = None,
    use_reasoning_field: Annotated[
        bool, typer.Option("--use-reasoning-field", help="Score `reasoning` cut at the level, not `prefill_reasoning`.")
    ] = False,
    temperature: ScoreTemperatureOption = 1.0,
    prompt_format: FormatOption = "auto",
    template_arg: TemplateArgOption = None,
    opening: OpeningOption = None,
    closing: ClosingOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    batch_size: BatchOption = 64,
    base_url: BaseUrlOption = None,
    served_model: ServedModelOption = None,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Score prefills: log P(prefill | prompt) under a checkpoint, summed over the prefill's tokens, in nats.

    Either one file (SAMPLES --checkpoint DIR --output FILE) or a whole run (--prefill-run-dir RUN --sft-run-dir SFT).
    Rows are rendered as they say they were; --template-arg, --opening and --closing replace what they say. Exits with
    1 if rows could not be scored.

    Example: foreshock logprob --prefill-run-dir RUN --sft-run-dir SFT
    """
    from foreshock.batch.on_files.score import ScoreOptions, score_one_file, score_run
    from foreshock.counted import counted
    from foreshock.errors import InputError

    options = ScoreOptions(
        temperature,
        prompt_format,
        device,
        dtype,
        batch_size,
        use_reasoning_field,
        max_samples,
        force,
        base_url,
        served_model,
        parse_template_args(template_arg),
        opening,
        closing,
    )
    if samples is not None and checkpoint is not None and output is not None:
        report = score_one_file(samples, checkpoint, output, options)
    elif prefill_run_dir is not None and sft_run_dir is not None and samples is None:
        tell_gaps(prefill_run_dir)
        report = score_run(prefill_run_dir, sft_run_dir, output_dir, options)
    else:
        raise InputError(
            "give either SAMPLES with --checkpoint and --output, or --prefill-run-dir with --sft-run-dir",
            fix="foreshock logprob --help",
        )
    if as_json:
        typer.echo(json.dumps(vars(report), indent=2, default=str))
        if report.n_failed:
            raise typer.Exit(1)
        return
    typer.echo(f"{counted(report.n_rows, 'row')} in {counted(len(report.files), 'file')}; {report.n_failed} failed")
    if report.kept:
        typer.echo(f"kept, since they were there: {counted(len(report.kept), 'file')} (--force replaces them)")
    if report.n_without_prefill:
        typer.echo(f"{report.n_without_prefill} rows had no prefill and are left out")
    if report.n_without_sample:
        typer.echo(f"{report.n_without_sample} attempts have no row in a samples file, which holds prompts: left out")
    for cell, donor in report.borrowed.items():
        typer.echo(f"{cell}: no samples of its own, prefills taken from {donor}")
    if report.n_failed:
        raise typer.Exit(1)
